"""Three real beats, of which one is killed, while the database and the broker go away."""

from __future__ import annotations

import json
import os
import signal
import tomllib
from contextlib import ExitStack
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
import redis
from django.db import connection
from django.utils import timezone

from reliable_tasks.models import BeatLease, Entry, Occurrence
from reliable_tasks.schedules.beats import embedded_beats
from tests import services
from tests.harness import ROOT, ManagedProcess, child_env, python, wait_until
from tests.proxy import Proxy
from tests.schedules.making import every, schedule
from tests.workers.support import FAST, NOT_ON_SQLITE

SECOND = timedelta(seconds=1)
#: How people name it: the entry point of an installation.
SCHEDULER = "reliable"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

pytestmark = pytest.mark.timeout(240)


def installed(folder):
    """Write what an installation adds to the source: the entry points, as pyproject.toml has them.

    The tree under test need not be installed, and an older one may be.
    """
    about = folder / "reliable_tasks_under_test-0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: reliable-tasks-under-test\n")
    lines = []
    for group, points in PROJECT["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {where}" for name, where in points.items())]
    (about / "entry_points.txt").write_text("\n".join(lines))
    return folder


class Beats:
    """Some beats that reach database and broker by ways that the test can cut."""

    def __init__(self, tmp_path, broker_port):
        self._tmp_path = tmp_path
        self._stack = ExitStack()
        self.running: dict[int, ManagedProcess] = {}
        self.broker = self._stack.enter_context(Proxy("127.0.0.1", broker_port))
        self.database = None
        extra = {}
        if services.database_vendor() != "sqlite":
            parts = urlsplit(services.database_url())
            self.database = self._stack.enter_context(Proxy(parts.hostname, parts.port))
            netloc = parts.netloc.replace(f":{parts.port}", f":{self.database.port}")
            extra["RELIABLE_TASKS_TEST_DATABASE_URL"] = parts._replace(netloc=netloc).geturl()
        url = f"redis://127.0.0.1:{self.broker.port}/0"
        extra["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(installed(tmp_path / "installed"))])
        self._env = child_env(celery={"CELERY_BROKER_URL": url}, **extra)

    def start(self):
        number = len(self.running)
        process = ManagedProcess(
            python(
                *("-m", "celery", "-A", "tests.celery_app", "beat", "-S", SCHEDULER),
                *("--loglevel", "INFO", "--pidfile", str(self._tmp_path / f"beat{number}.pid")),
            ),
            env=self._env,
            log=self._tmp_path / f"worker-beat{number}.log",
            ready="beat: Starting",
        ).start()
        self.running[process.pid] = process
        return process

    def leader(self):
        """Return the process that leads, None while none does."""
        lease = BeatLease.objects.filter(until__gt=timezone.now()).first()
        if lease is None:
            return None
        pid = int(lease.holder.partition("#")[2].partition("-")[0])
        return self.running.get(pid)

    def close(self):
        for process in self.running.values():
            process.close()
        self._stack.close()


@pytest.fixture
def beats(transactional_db, private_redis, tmp_path):
    """Give the test beats that end with it."""
    made = Beats(tmp_path, private_redis.port)
    yield made
    made.close()


def fired_of(task):
    return list(
        Occurrence.objects.filter(schedule=task).order_by("due_at").values_list("due_at", flat=True)
    )


def wait_for_more(task, count=4, seconds=60):
    """Wait until a schedule has fired some more times."""
    have = Occurrence.objects.filter(schedule=task).count()
    wait_until(
        lambda: Occurrence.objects.filter(schedule=task).count() >= have + count,
        seconds,
        message="the beats have stopped firing",
    )


def assert_each_second_once(task):
    rows = list(Occurrence.objects.filter(schedule=task).order_by("due_at"))
    assert {row.outcome for row in rows} == {"fired"}
    first = rows[0].due_at
    assert [row.due_at for row in rows] == [first + n * SECOND for n in range(len(rows))]
    return rows


def test_nothing_is_missed_or_doubled(beats, private_redis, worker):
    """Through a kill, an outage of the broker and one of the database each second fires once."""
    reliable = [schedule(every(seconds=1), saved_at=timezone.now()) for _ in range(3)]
    plain = schedule(every(seconds=1), saved_at=timezone.now(), task="no.such", queue="plain")
    for _ in range(3):
        beats.start()
    wait_for_more(reliable[0])

    killed = wait_until(beats.leader)
    os.kill(killed.pid, signal.SIGKILL)
    wait_until(lambda: (found := beats.leader()) is not None and found is not killed, 60)
    wait_for_more(reliable[0])

    beats.broker.cut()
    wait_for_more(reliable[0], 5)
    beats.broker.mend()

    if beats.database is not None:
        beats.database.cut()
        before = timezone.now()
        wait_until(lambda: timezone.now() > before + 5 * SECOND)
        beats.database.mend()
        wait_until(lambda: (dues := fired_of(reliable[0])) and dues[-1] > before + 5 * SECOND, 60)
    wait_for_more(reliable[0])
    wait_until(
        lambda: (
            not Occurrence.objects.filter(
                send_at__isnull=False, due_at__lt=timezone.now() - 3 * SECOND
            ).exists()
        ),
        60,
        message="messages of the plain task are still owed",
    )
    living = [process for process in beats.running.values() if process is not killed]
    assert all(process.alive for process in living)
    for process in living:
        process.terminate()
    assert {process.wait() for process in living} == {0}

    for task in reliable:
        rows = assert_each_second_once(task)
        assert {row.entry_id for row in rows} == set(
            Entry.objects.filter(schedule=task.name).values_list("pk", flat=True)
        )
        assert Entry.objects.filter(schedule=task.name).count() == len(rows)
    sent = [
        json.loads(message)["headers"]["id"]
        for message in redis.Redis.from_url(private_redis.url).lrange("plain", 0, -1)
    ]
    owed = {str(row.entry_id) for row in assert_each_second_once(plain) if row.send_at is None}
    # Only the beat that was killed may have sent one that it could not note.
    assert owed <= set(sent)
    assert len(sent) - len(set(sent)) <= 1


def test_takeover_after_a_kill(beats, worker):
    """After the leader is killed no due time waits longer than ten seconds for another beat."""
    task = schedule(every(seconds=1), saved_at=timezone.now())
    for _ in range(2):
        beats.start()
    wait_for_more(task)
    killed = wait_until(beats.leader)
    os.kill(killed.pid, signal.SIGKILL)
    wait_for_more(task, 12)
    rows = assert_each_second_once(task)
    # The newer half, because the first beat took its time to start.
    assert max(row.handled_at - row.due_at for row in rows[3:]) < 10 * SECOND


def test_a_beat_that_stops_hands_over(beats, worker):
    """A beat that is stopped gives the lease back, and the next one leads at once."""
    task = schedule(every(seconds=1), saved_at=timezone.now())
    first = beats.start()
    wait_for_more(task, 2)
    second = beats.start()
    first.terminate()
    assert first.wait() == 0
    wait_until(lambda: beats.leader() is second)
    wait_for_more(task, 2)
    assert_each_second_once(task)


def wait_until_handled(task, at):
    """Wait until a schedule of every second has fired what is due at some instant."""
    wait_until(lambda: (dues := fired_of(task)) and dues[-1] > at, 60)


def test_edits_take_effect_in_a_running_beat(beats, worker):
    """A schedule that is edited, disabled or deleted behaves so within five seconds."""
    kept = schedule(every(seconds=1), saved_at=timezone.now())
    edited = schedule(every(hours=1), saved_at=timezone.now())
    doomed = schedule(every(seconds=1), saved_at=timezone.now(), name="doomed")
    beats.start()
    wait_for_more(kept, 2)

    edited.interval = every(seconds=1)["interval"]
    edited.save()
    wait_until(lambda: fired_of(edited), 60)
    first = Occurrence.objects.filter(schedule=edited).earliest("due_at")
    # An interval begins to count when it is saved.
    assert first.due_at - edited.date_changed == SECOND
    assert first.handled_at - edited.date_changed < 5 * SECOND

    edited.enabled = False
    edited.save()
    wait_until_handled(kept, edited.date_changed + 6 * SECOND)
    last = Occurrence.objects.filter(schedule=edited).latest("due_at")
    assert last.handled_at - edited.date_changed < SECOND

    wait_for_more(doomed, 1)
    assert Entry.objects.filter(schedule="doomed").exists()
    doomed.delete()
    deleted_at = timezone.now()
    wait_until_handled(kept, deleted_at + 6 * SECOND)
    late = Entry.objects.filter(schedule="doomed", enqueued_at__gt=deleted_at + SECOND)
    assert not late.exists()
    assert_each_second_once(kept)


def test_a_worker_with_a_beat_inside_says_so(worker, tmp_path):
    """A worker that is started with -B reports it, so that checks, doctor and admin can tell."""
    beat = ("-B", "--schedule-filename", str(tmp_path / "beat"))
    worker(arguments=(*beat, "--without-gossip", "--without-mingle"), settings=FAST)
    (name,) = wait_until(embedded_beats, 30)
    assert name.startswith("worker1@localhost")


@NOT_ON_SQLITE
def test_a_beat_that_is_stopped_in_the_middle_of_a_statement_ends(beats, worker, second_connection):
    """Celery stops a beat from within its signal handler; it waits for no statement of its own."""
    task = schedule(every(seconds=1), saved_at=timezone.now())
    beat = beats.start()
    wait_for_more(task, 2)
    with second_connection.atomic():
        second_connection.run(lambda: list(BeatLease.objects.select_for_update()))
        before = wait_until(backends_that_wait)
        beat.terminate()
        # What gives the lease back has a connection of its own.
        wait_until(lambda: backends_that_wait() - before)
    assert beat.wait() == 0
    assert not BeatLease.objects.filter(until__gt=timezone.now()).exists()


def backends_that_wait():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity "
            "WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        return {pid for (pid,) in cursor.fetchall()}
