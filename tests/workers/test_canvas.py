"""Canvas works as on plain Celery, with each result backend, and the rows keep the family."""

import os
import signal

import pytest
from celery import chain, chord, group
from celery.exceptions import ChordError, TaskRevokedError, WorkerLostError
from django.utils import timezone

from reliable_tasks import operations
from reliable_tasks.models import Entry
from tests.app import worker_tasks as tasks
from tests.app.models import Effect
from tests.app.tasks import add, boom
from tests.harness import wait_until
from tests.workers.support import entry_of, outcomes, wait_for

# Celery's Redis backend, with newer versions of redis-py.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")


@pytest.fixture(scope="module", autouse=True)
def process(backend, start_shared):
    """Run the module's tests with each result backend."""
    process = start_shared(concurrency=3, celery={"CELERY_RESULT_BACKEND": backend})
    yield process
    process.close()


def seen(folder):
    file = folder.path / "seen"
    return file.read_text().splitlines() if file.exists() else []


def test_a_chain_hands_its_results_on():
    """Each step gets the result of the one before; the rows keep the family and the rest."""
    last = chain(add.s(1, 2), add.s(3), tasks.combine_one.s())()
    assert last.get(timeout=20, interval=0.05) == 7
    first, second, third = (entry_of(each) for each in (last.parent.parent, last.parent, last))
    assert [step.state for step in (first, second, third)] == ["succeeded"] * 3
    assert [step.args for step in (first, second, third)] == [[1, 2], [3, 3], [6]]
    assert [step.parent_id for step in (first, second, third)] == [None, first.pk, second.pk]
    assert {step.root_id for step in (second, third)} == {first.pk}
    assert [step["task"] for step in first.options["chain"]] == [
        "tests.app.worker_tasks.combine_one",
        "tests.app.tasks.add",
    ]
    assert last.parent.parent.get(timeout=5, interval=0.05) == 3


def test_an_immutable_step_gets_no_result():
    """`.si()` runs with its own arguments alone."""
    assert chain(add.s(1, 2), add.si(10, 10))().get(timeout=20, interval=0.05) == 20


def test_a_chain_goes_on_after_retries():
    """A step that fails twice hands its result on when it succeeds, once."""
    last = chain(tasks.fail_until.s(3, value=1), add.s(5))()
    assert last.get(timeout=20, interval=0.05) == 6
    assert outcomes(last.parent) == ["failed", "failed"]
    assert Entry.objects.filter(parent_id=last.parent.id).count() == 1


def test_a_chain_ends_with_a_dead_step():
    """After a dead step nothing runs, and who waits for the end is told why."""
    last = chain(add.s(1, 2), tasks.always_fail.si("stop here"), add.s(1))()
    with pytest.raises(ValueError, match="stop here"):
        last.get(timeout=20, interval=0.05)
    wait_for(last.parent, "dead")
    assert not Entry.objects.filter(pk=last.id).exists()


def test_links_run_after_the_success(folder):
    """Each link runs once with the result, after however many retries."""
    links = [tasks.remember.s(str(folder)), tasks.combine_one.s()]
    result = tasks.fail_until.apply_async((2,), {"value": 41}, link=links)
    assert result.get(timeout=20, interval=0.05) == 41
    wait_until(lambda: seen(folder) == ["41"], message=lambda: str(seen(folder)))
    wait_until(lambda: Entry.objects.filter(parent_id=result.id, state="succeeded").count() == 2)
    assert Entry.objects.get(parent_id=result.id, task=tasks.combine_one.name).args == [41]


def test_errbacks_run_when_the_entry_is_dead(folder):
    """A link_error runs once, when no attempt is left, and not at each failure."""
    errback = tasks.remember_failure.s(folder=str(folder))
    fine = tasks.fail_until.apply_async((2,), link_error=errback)
    dead = tasks.always_fail.apply_async(link_error=errback)
    assert fine.get(timeout=20, interval=0.05) == "done"
    wait_for(dead, "dead")
    wait_until(lambda: seen(folder) == [f"failed {dead.id}"], message=lambda: str(seen(folder)))


def test_errbacks_run_when_the_process_was_lost(folder):
    """A link_error runs also when there is no attempt left to report the death."""
    result = tasks.dies.apply_async(link_error=tasks.remember_failure.s(folder=str(folder)))
    with pytest.raises(WorkerLostError):
        result.get(timeout=20, interval=0.05)
    wait_until(lambda: seen(folder) == [f"failed {result.id}"], message=lambda: str(seen(folder)))


def test_a_group_gives_all_results():
    """The members of a group run side by side, and know their group."""
    result = group(add.s(n, n) for n in range(6))()
    assert result.get(timeout=20, interval=0.05) == [0, 2, 4, 6, 8, 10]
    assert {str(entry_of(each).group_id) for each in result} == {result.id}


def test_a_chord_gathers_results():
    """The body of a chord runs once with all results, retried members included."""
    header = [add.s(1, 1), tasks.fail_until.s(3, value=5), add.s(2, 2)]
    result = chord(header, tasks.combine.s(also=100))()
    assert result.get(timeout=20, interval=0.05) == 111
    body = entry_of(result)
    assert sorted(body.args[0]) == [2, 4, 5]
    assert Entry.objects.filter(task=tasks.combine.name, root_id=body.root_id).count() == 1


@pytest.mark.parametrize("member", [boom.si("bad"), tasks.always_fail.si("bad"), tasks.dies.si()])
def test_a_chord_with_a_dead_member_fails(member, folder):
    """When a member is dead, by failure or by crash, the body does not run and is told so."""
    body = tasks.combine.s().on_error(tasks.remember_failure.s(folder=str(folder)))
    result = chord([add.s(1, 1), member], body)()
    wait_until(result.ready, 25)
    assert isinstance(result.result, ChordError)
    assert not Entry.objects.filter(pk=result.id).exists()
    wait_until(lambda: seen(folder) == [f"failed {result.id}"], message=lambda: str(seen(folder)))


def test_a_chord_with_a_cancelled_member_fails():
    """A member that is cancelled before it ran ends the chord, too."""
    late = add.s(2, 2).set(countdown=600)
    result = chord([add.s(1, 1), late], tasks.combine.s())()
    (member,) = Entry.objects.filter(state="pending", due_at__gt=timezone.now())
    operations.cancel([member.pk], "not wanted")
    wait_until(result.ready, 20)
    assert isinstance(result.result, ChordError)


def test_plain_and_reliable_tasks_mix():
    """Steps of plain Celery and of this base follow each other in any order."""
    steps = chain(tasks.plain_add.s(1, 2), add.s(3), tasks.plain_add.s(4), add.s(5))
    assert steps().get(timeout=20, interval=0.05) == 15
    assert (
        chord([tasks.plain_add.s(1, 1), add.s(2, 2)], tasks.combine.s())().get(
            timeout=20, interval=0.05
        )
        == 6
    )
    assert (
        chord([add.s(1, 1), add.s(2, 2)], tasks.plain_combine.s())().get(timeout=20, interval=0.05)
        == 6
    )
    assert group(tasks.plain_add.s(1, 1), add.s(2, 2))().get(timeout=20, interval=0.05) == [2, 4]


def test_canvas_nests():
    """Groups in chains, chords in chains, chains in groups."""
    steps = chain(
        add.s(1, 1),
        group(add.s(1), add.s(2), chain(add.s(3), add.s(4))),
        tasks.combine.s(),
        group(add.s(n) for n in range(3)),
        tasks.combine.s(also=1),
    )
    # 2 -> 3, 4, 9 -> 16 -> 16, 17, 18 -> 52
    assert steps().get(timeout=30, interval=0.05) == 52
    inner = chord([add.s(1, 1), add.s(2, 2)], tasks.combine.s())
    assert chord([inner, add.s(3, 3)], tasks.combine.s())().get(timeout=30, interval=0.05) == 12


def test_maps_run_in_one_task():
    """map, starmap and chunks of Celery's own tasks call the bodies directly."""
    assert tasks.combine_one.map([1, 2, 3]).delay().get(timeout=20, interval=0.05) == [2, 3, 4]
    assert add.starmap([(1, 1), (2, 2)]).delay().get(timeout=20, interval=0.05) == [2, 4]
    assert add.chunks([(1, 1), (2, 2), (3, 3)], 2).delay().get(timeout=20, interval=0.05) == [
        [2, 4],
        [6],
    ]


def test_a_task_replaced_by_another_goes_on_under_its_id():
    """self.replace(task) hands id, entry and result on; what was written before is kept."""
    result = tasks.replaces_itself.delay(41)
    assert result.get(timeout=20, interval=0.05) == 42
    entry = entry_of(result)
    assert (entry.task, entry.state, entry.attempt) == (tasks.combine.name, "succeeded", 2)
    assert Effect.objects.filter(entry_id=result.id).count() == 1


def test_a_task_replaced_within_a_chain():
    """The rest of the chain follows the replacement."""
    last = chain(add.s(1, 1), tasks.replaces_itself.s(), add.s(10))()
    assert last.get(timeout=20, interval=0.05) == 13


def test_a_task_replaced_by_a_chain():
    """The chain's last result is the task's; nothing of the transaction is lost."""
    result = tasks.becomes_a_chain.delay(1)
    assert result.get(timeout=20, interval=0.05) == 102
    assert Effect.objects.filter(entry_id=result.id).count() == 1
    entry = wait_for(result, "succeeded")
    assert entry.task == tasks.becomes_a_chain.name
    assert "Replaced by a workflow" in entry.reason
    family = Entry.objects.filter(root_id=result.id)
    assert set(family.values_list("state", flat=True)) == {"succeeded"}
    assert chain(tasks.becomes_a_chain.si(2), add.s(1))().get(timeout=20, interval=0.05) == 104


def test_a_task_replaced_by_a_group():
    """The group's results are the task's result."""
    assert tasks.becomes_a_group.delay(1).get(timeout=20, interval=0.05) == [1, 2, 3]
    body = chord([tasks.becomes_a_group.si(1), add.s(1, 1)], tasks.fail_until.si(1, value="end"))
    assert body().get(timeout=20, interval=0.05) == "end"


def test_a_task_replaced_again_and_again():
    """A replacement may replace itself; the first one's waiter gets the last one's result."""
    assert tasks.counts_down.delay(3).get(timeout=30, interval=0.05) == 3


def test_a_result_may_be_ignored():
    """ignore_result of the call keeps the backend out of it; the entry ends all the same."""
    result = add.apply_async((1, 2), ignore_result=True)
    wait_for(result, "succeeded")
    assert result.state == "PENDING"


def test_results_after_every_kind_of_death(process, folder):
    """Whoever waits for a result learns of a crash and of a cancel."""
    killed = tasks.hold.delay(str(folder))
    folder.wait_for_runs(1)
    os.kill(folder.pid(), signal.SIGKILL)
    folder.go()
    assert killed.get(timeout=20, interval=0.05) == 2
    with pytest.raises(WorkerLostError, match="crash budget is 1"):
        tasks.dies.delay().get(timeout=20, interval=0.05)
    late = add.apply_async((1, 2), countdown=600)
    operations.cancel([entry_of(late).pk], "not wanted")
    with pytest.raises(TaskRevokedError, match="not wanted"):
        late.get(timeout=20, interval=0.05)
