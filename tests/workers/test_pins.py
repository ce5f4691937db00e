"""Settings that would undo what the base needs are told of, or have no effect."""

from tests.app import worker_tasks as tasks
from tests.app.tasks import add
from tests.workers.support import FAST, entry_of, outcomes, settled, wait_for


def test_annotations_that_undo_the_base_are_told_of(worker, folder):
    """A worker's log names task and annotation and says what is wrong; entries still run."""
    annotations = {add.name: {"acks_late": True, "reject_on_worker_lost": True}}
    process = worker(concurrency=1, settings=FAST, celery={"CELERY_TASK_ANNOTATIONS": annotations})
    settled(process, f"{add.name} has acks_late=True: ")
    settled(process, f"{add.name} has reject_on_worker_lost=True: ")
    assert "Remove it from the task's options and from CELERY_TASK_ANNOTATIONS" in process.log
    result = add.delay(1, 2)
    assert result.get(timeout=20, interval=0.05) == 3
    assert entry_of(result).attempt == 1


def test_celerys_global_settings_do_not_reach_the_base(worker, folder):
    """With CELERY_TASK_ACKS_LATE and its like, a poison entry still runs its crash budget only."""
    process = worker(
        concurrency=1,
        settings=FAST,
        celery={
            "CELERY_TASK_ACKS_LATE": True,
            "CELERY_TASK_REJECT_ON_WORKER_LOST": True,
            "CELERY_TASK_ACKS_ON_FAILURE_OR_TIMEOUT": False,
        },
    )
    result = tasks.misbehave.delay(str(folder), "SIGKILL", 99)
    wait_for(result, "dead", timeout=40)
    assert outcomes(result) == ["crashed"] * 3
    assert len(folder.runs()) == 3
    assert "acks_late=True" not in process.log
    assert add.delay(1, 2).get(timeout=20, interval=0.05) == 3


def test_children_that_are_recycled_charge_nothing(worker):
    """With --max-tasks-per-child each child ends in good order, and no entry pays for it."""
    worker(concurrency=2, settings=FAST, arguments=("--max-tasks-per-child", "1"))
    results = [tasks.fail_until.delay(1) for _ in range(8)]
    for result in results:
        entry = wait_for(result, "succeeded", timeout=40)
        assert (entry.attempt, entry.crashes) == (1, 0)
