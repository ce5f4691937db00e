"""What the ledger's verbs must do, in plain Python.

Written from the words of the documentation, not from the code: it shares neither constants nor
tables with the package. Every verb answers with a dictionary: for each entry what it came to, and
under None a number for the whole.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

WAITING = ("pending", "retrying")
REQUEUEABLE = ("dead", "cancelled")
ENDED = ("succeeded", *REQUEUEABLE)
FUTILE = 3

Answer = dict[UUID | None, Any]


@dataclass
class Row:
    """One entry; the fields are named as its columns."""

    id: UUID
    task: str
    args: list[Any]
    queue: str
    crash_budget: int
    enqueued_at: datetime
    due_at: datetime
    wake_at: datetime | None
    publishes: int
    expires_at: datetime | None
    state: str = "pending"
    attempt: int = 0
    retries: int = 0
    crashes: int = 0
    worker: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    cancel_requested_at: datetime | None = None
    error_class: str = ""
    reason: str = ""
    progress: Any = None
    #: For each attempt that did not succeed: outcome, error, worker, begin and end.
    attempts: dict[int, tuple[Any, ...]] = field(default_factory=dict)

    @property
    def waits(self) -> bool:
        return self.state in WAITING

    @property
    def runs(self) -> bool:
        return self.state == "running"

    @property
    def marked(self) -> bool:
        """Whether it is to be published at the next sweep though it was published before."""
        return self.wake_at is not None and self.wake_at <= self.due_at

    def end(self, state: str, now: datetime, reason: str | None = None) -> None:
        self.state, self.wake_at, self.finished_at = state, None, now
        self.reason = self.reason if reason is None else reason

    def forgive(self) -> None:
        """Take off the crash that the claim charged."""
        self.crashes = max(0, self.crashes - 1)

    def note(self, outcome: str, error: str, now: datetime) -> None:
        assert self.attempt not in self.attempts
        self.attempts[self.attempt] = (outcome, error, self.worker, self.started_at, now)


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


class Model:
    """All entries."""

    def __init__(self) -> None:
        self.rows: dict[UUID, Row] = {}

    def _some(self, ids: Iterable[UUID]) -> list[Row]:
        return [self.rows[each] for each in dict.fromkeys(ids) if each in self.rows]

    # -- enqueue ----------------------------------------------------------------------------------
    def enqueue(
        self,
        entry: UUID,
        *,
        now: datetime,
        grace: float,
        delay: float,
        expires_in: float | None,
        **given: Any,
    ) -> Answer:
        if entry in self.rows:
            return {entry: False}
        due = now + seconds(delay)
        wake = due if delay else now + seconds(grace)
        expires = None if expires_in is None else now + seconds(expires_in)
        self.rows[entry] = Row(
            id=entry,
            enqueued_at=now,
            due_at=due,
            wake_at=wake if expires is None else min(wake, expires),
            publishes=0 if delay else 1,
            expires_at=expires,
            **given,
        )
        return {entry: True}

    # -- claim ------------------------------------------------------------------------------------
    def claim(
        self,
        entry: UUID,
        worker: str,
        *,
        lease: float,
        task: str | None,
        ignore_due: bool,
        now: datetime,
    ) -> Answer:
        for row in self._some([entry]):
            expired = row.expires_at is not None and row.expires_at <= now
            due = ignore_due or row.due_at <= now
            mine = task is None or row.task == task
            if row.waits and due and mine and not expired and row.cancel_requested_at is None:
                row.state, row.worker, row.progress = "running", worker, None
                row.attempt, row.crashes = row.attempt + 1, row.crashes + 1
                row.started_at, row.wake_at = now, now + seconds(lease)
                told = (row.attempt, row.retries, row.crashes, row.task, row.args, row.queue)
                return {entry: told}
        return {entry: None}

    def renew(self, ids: Iterable[UUID], worker: str, *, lease: float, now: datetime) -> Answer:
        held = [row for row in self._some(ids) if row.runs and row.worker == worker]
        for row in held:
            row.wake_at = now + seconds(lease)
        return {None: len(held)}

    def progress(self, entry: UUID, token: int, done: Any) -> Answer:
        row = self._owned(entry, token)
        if row is not None:
            row.progress = done
        return {entry: row is not None}

    # -- finish -----------------------------------------------------------------------------------
    def _owned(self, entry: UUID, token: int) -> Row | None:
        row = self.rows.get(entry)
        return row if row is not None and row.runs and row.attempt == token else None

    def succeed(self, entry: UUID, token: int, *, now: datetime) -> Answer:
        row = self._owned(entry, token)
        if row is None:
            return {entry: "fenced"}
        row.end("succeeded", now, None if row.cancel_requested_at is None else "")
        row.forgive()
        return {entry: "done"}

    def hand_over(self, entry: UUID, token: int, *, now: datetime) -> Answer:
        row = self._owned(entry, token)
        if row is None:
            return {entry: "fenced"}
        row.end("succeeded", now, "a workflow")
        row.forgive()
        return {entry: "done"}

    def reschedule(
        self,
        entry: UUID,
        token: int,
        *,
        error: str,
        delay: float,
        grace: float,
        args: list[Any] | None,
        charged: bool,
        now: datetime,
    ) -> Answer:
        row = self._owned(entry, token)
        if row is None:
            return {entry: "fenced"}
        row.note("failed", error, now)
        row.state, row.error_class, row.retries = "retrying", error, row.retries + charged
        row.due_at, row.publishes = now + seconds(delay), 0 if delay else 1
        row.wake_at = row.cancel_requested_at or (row.due_at if delay else now + seconds(grace))
        row.args = row.args if args is None else args
        row.forgive()
        return {entry: "done"}

    def bury(self, entry: UUID, token: int, *, error: str, now: datetime) -> Answer:
        row = self._owned(entry, token)
        if row is None:
            return {entry: "fenced"}
        row.note("failed", error, now)
        row.error_class = error
        row.end("dead", now, "not retried")
        row.forgive()
        return {entry: "done"}

    def discard(self, entry: UUID, token: int, *, error: str, now: datetime) -> Answer:
        row = self._owned(entry, token)
        if row is None:
            return {entry: "fenced"}
        row.note("rejected", error, now)
        row.error_class = error
        row.end("cancelled", now, "what it is about is gone")
        row.forgive()
        return {entry: "done"}

    def _give_back(self, row: Row, now: datetime) -> None:
        row.note("released", "", now)
        row.state = "retrying" if row.retries else "pending"
        row.wake_at, row.publishes = now, 0
        row.forgive()

    def release(self, entry: UUID, token: int, *, now: datetime) -> Answer:
        row = self._owned(entry, token)
        if row is None:
            return {entry: "fenced"}
        self._give_back(row, now)
        return {entry: "done"}

    def stop(self, entry: UUID, token: int, *, now: datetime) -> Answer:
        row = self._owned(entry, token)
        if row is None or row.cancel_requested_at is None:
            return {entry: "fenced"}
        row.note("cancelled", "", now)
        row.end("cancelled", now)
        row.forgive()
        return {entry: "done"}

    def replace(
        self, entry: UUID, token: int, *, task: str, args: list[Any], grace: float, now: datetime
    ) -> Answer:
        row = self._owned(entry, token)
        if row is None:
            return {entry: "fenced"}
        row.state, row.task, row.args = "pending", task, args
        row.retries = row.crashes = 0
        row.publishes, row.due_at = 1, now
        row.wake_at = row.cancel_requested_at or now + seconds(grace)
        return {entry: "done"}

    # -- rescue -----------------------------------------------------------------------------------
    def _rescue(self, row: Row, crash: str, now: datetime) -> str:
        asked = row.cancel_requested_at is not None
        row.note("cancelled" if asked else "crashed", crash, now)
        if asked:
            row.end("cancelled", now)
            return "cancelled"
        row.error_class = crash
        if row.crashes >= row.crash_budget:
            row.end("dead", now, "lost too often")
            return "died"
        row.state, row.wake_at, row.publishes = "retrying", now, 0
        return "rescued"

    def rescue_lost(
        self, ids: Iterable[UUID], worker: str, *, crash: str, dead_for: float, now: datetime
    ) -> Answer:
        began_before = now - seconds(dead_for)
        return {
            row.id: {self._rescue(row, crash, now)}
            for row in self._some(ids)
            if row.runs and row.worker == worker and row.started_at <= began_before
        }

    def release_left(self, worker: str, *, now: datetime) -> Answer:
        left = [row for row in self.rows.values() if row.runs and row.worker == worker]
        for row in left:
            self._give_back(row, now)
        return {None: len(left)}

    # -- sweep ------------------------------------------------------------------------------------
    def due(self, now: datetime, *, publishing: bool, rescuing: bool) -> list[list[Row]]:
        """Return what a sweep may take: the lost, what is urgent, mere looks."""
        lost: list[Row] = []
        urgent: list[Row] = []
        looks: list[Row] = []
        for row in self.rows.values():
            if row.wake_at is None or row.wake_at > now:
                continue
            if row.runs:
                lost += [row] * rescuing
                continue
            expired = row.expires_at is not None and row.expires_at <= now
            ending = expired or row.cancel_requested_at is not None
            if ending or (publishing and (row.publishes == 0 or row.marked)):
                urgent.append(row)
            elif publishing:
                looks.append(row)
        return [lost, urgent, looks]

    def sweep(
        self,
        *,
        only: Collection[UUID] | None = None,
        crash: str,
        publishing: bool,
        rescuing: bool,
        counted: bool,
        shared: Collection[str],
        recheck: float,
        longest: float,
        now: datetime,
    ) -> Answer:
        """Do to every due entry (or only to some of them) what a sweep does."""
        answer: Answer = {None: 0}
        for kind in self.due(now, publishing=publishing, rescuing=rescuing):
            for row in kind:
                if only is not None and row.id not in only:
                    continue
                words = answer[row.id] = set()
                to_publish = True
                if row.runs:
                    words.add(self._rescue(row, crash, now))
                elif row.expires_at is not None and row.expires_at <= now:
                    row.end("cancelled", now, "expired")
                    words.add("expired")
                elif row.cancel_requested_at is not None:
                    row.end("cancelled", now)
                    words.add("cancelled")
                else:
                    old = now - row.due_at >= seconds(longest) and row.queue in shared
                    wanted = row.publishes == 0 or row.marked
                    to_publish = wanted or not counted or row.publishes >= FUTILE or old
                if row.waits and publishing:
                    self._look_again(row, recheck, longest, now)
                    if to_publish:
                        row.publishes += 1
                        words.add("published")
                    else:
                        answer[None] += 1
        return {key: told for key, told in answer.items() if told or key is None}

    @staticmethod
    def _look_again(row: Row, recheck: float, longest: float, now: datetime) -> None:
        age = (now - row.due_at).total_seconds()
        pause = max(recheck, 1.0)
        while pause < min(age, longest):
            pause *= 2
        row.wake_at = now + seconds(min(pause, longest))
        if row.expires_at is not None:
            row.wake_at = min(row.wake_at, row.expires_at)

    def take_back(self, ids: Iterable[UUID], *, retry_in: float, now: datetime) -> Answer:
        waiting = [row for row in self._some(ids) if row.waits]
        for row in waiting:
            row.publishes, row.wake_at = 0, now + seconds(retry_in)
        return {None: len(waiting)}

    def suspects(self, queue: str, *, since: datetime) -> list[Row]:
        """Return the published entries of a queue that are due since a time, oldest first."""
        waiting = (row for row in self.rows.values() if row.waits and row.queue == queue)
        found = [row for row in waiting if 0 < row.publishes < FUTILE and row.due_at <= since]
        return sorted(found, key=lambda row: row.due_at)

    def missing(self, queue: str, messages: int, *, grace: float, now: datetime) -> int:
        """Return how many messages a queue lacks; what is marked to be published has one."""
        waiting = self.suspects(queue, since=now)
        lacking = sum(not row.marked for row in waiting) - messages
        old = sum(not row.marked for row in self.suspects(queue, since=now - seconds(grace)))
        return min(lacking, old) if lacking > 0 else lacking

    def pull_forward(self, queue: str, *, grace: float, now: datetime) -> Answer:
        old = self.suspects(queue, since=now - seconds(grace))
        found = [row for row in old if not row.marked]
        for row in found:
            row.wake_at = row.due_at
        return {None: len(found)}

    # -- people -----------------------------------------------------------------------------------
    def cancel(self, ids: Iterable[UUID], *, reason: str, now: datetime) -> Answer:
        ids = list(ids)
        answer: Answer = dict.fromkeys(ids, "skipped")
        for row in self._some(ids):
            if row.waits:
                row.end("cancelled", now, reason)
                answer[row.id] = "cancelled"
            elif row.runs and row.cancel_requested_at is None:
                row.cancel_requested_at, row.reason = now, reason
                answer[row.id] = "asked"
        return answer

    def requeue(self, ids: Iterable[UUID], *, delay: float, now: datetime) -> Answer:
        answer: Answer = {}
        for row in self._some(ids):
            if row.state in REQUEUEABLE:
                row.state = "pending"
                row.retries = row.crashes = row.publishes = 0
                row.due_at = row.wake_at = now + seconds(delay)
                row.expires_at = row.cancel_requested_at = row.finished_at = None
                row.reason = ""
                answer[row.id] = "back"
        return answer

    def discard_dead(self, ids: Iterable[UUID], *, reason: str, now: datetime) -> Answer:
        answer: Answer = {}
        for row in self._some(ids):
            if row.state == "dead":
                row.state, row.finished_at, row.reason = "cancelled", now, reason
                answer[row.id] = "discarded"
        return answer

    def prune(self, state: str, *, older_than: float, now: datetime) -> Answer:
        before = now - seconds(older_than)
        doomed = [
            row.id
            for row in self.rows.values()
            if row.state == state and row.finished_at is not None and row.finished_at < before
        ]
        for each in doomed:
            del self.rows[each]
        return {None: len(doomed)}
