"""What happens to a schedule that is new, was edited, disabled, or enabled again.

Note [Edits]: a definition counts from the instant at which it was saved. Due times before that are
settled by the definition that was kept; due times of the new one count after it. So an edit
neither repeats nor drops a due time, whether a beat was up or not.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Final

from celery import Celery
from django.db import DatabaseError, InterfaceError

from ..ledger import occurrences, schedules
from ..ledger.guard import short_transaction
from ..ledger.schedules import LostRace, Progress
from ..occurrence import Cause, Fate
from .deciding import Verdict
from .firing import stretches
from .reading import Schedule, read_one
from .settling import out_of_reach, settle
from .spec import Interval, Plan, plan_from_json
from .times import due_times

logger = logging.getLogger("reliable_tasks.beat")

_MOST_PASSED: Final = 20_000
_PASSES: Final = 50
#: A beat that is up has seen an edit after so long.
SEEN_WITHIN: Final = timedelta(seconds=60)


def adopt(
    app: Celery,
    found: Sequence[Schedule],
    now: datetime,
    problems: dict[int, str] | None = None,
    *,
    edited_at: datetime | None = None,
    unsaved: Collection[int] = (),
    enabled_later: Collection[int] = (),
) -> list[tuple[Schedule, Progress]]:
    """Find out, or write down, how far schedules have come that were just read.

    Args:
        app: the Celery app that has the tasks.
        found: the schedules as their rows say.
        now: the present.
        problems: takes why a schedule makes no sense, and so is left out; by its id.
        edited_at: when anything was edited that is known of; None for just now.
        unsaved: schedules whose own rows were saved before they were read last, by this beat or by
            one that led before it: these rows do not tell of an edit that nobody has seen yet.
        enabled_later: schedules that were not there, or disabled, long after their rows were saved:
            so they were enabled by what tells nobody when.

    Returns:
        Each with the plan that counts and how far it has come. One that somebody else is changing
        at this moment is left out.
    """
    problems = {} if problems is None else problems
    states = _states(found)
    new = [each for each in found if each.id not in states]
    if new:
        _begin(new, now, edited_at or now, enabled_later)
        states |= _states(new)
    adopted = []
    for schedule in found:
        state = states.get(schedule.id)
        if state is None:  # deleted meanwhile
            continue
        with _left_out(schedule.name, schedule.id, problems):
            tells = schedule.id not in unsaved
            one = _adopted(app, schedule, state, now, edited_at or now, tells=tells)
            if one is not None:
                adopted.append(one)
    return adopted


def _adopted(
    app: Celery,
    schedule: Schedule,
    state: Progress,
    now: datetime,
    edited_at: datetime,
    *,
    tells: bool,
) -> tuple[Schedule, Progress] | None:
    if _ran_elsewhere(schedule, state):
        _leave_to_the_other(schedule, state, now)
        state = _states([schedule]).get(schedule.id, state)
    switched = _was_switched(schedule, state)
    if switched:
        _disable(state, schedule.changed_at, now)
        state = _states([schedule]).get(schedule.id, state)
    known = schedule.continued(state.spec) if state.active else None
    if known is not None:
        return known, state
    if switched:  # what it was saved for last was to enable it
        since = min(schedule.changed_at, now)
    else:
        since = _edited_at(schedule, state, now, edited_at, tells=tells)
    _change(app, schedule, state, now, since)
    fresh = _states([schedule]).get(schedule.id)
    known = schedule.continued(fresh.spec) if fresh is not None and fresh.active else None
    return None if fresh is None or known is None else (known, fresh)


def first_state(
    schedule: Schedule, now: datetime, enabled_at: datetime | None = None
) -> tuple[int, dict[str, Any], datetime, int]:
    """Return the state of a schedule that has none: id, plan, where its account begins, runs.

    Args:
        schedule: the schedule as its rows say.
        now: the present.
        enabled_at: when it was enabled; None if its row tells.
    """
    # A schedule that another scheduler has run goes on from there, and a one-off one has had its
    # run. That scheduler disables it some minutes later.
    since = schedule.last_run_at or enabled_at or schedule.changed_at
    runs = int(schedule.one_off and schedule.last_run_at is not None)
    start = schedule.begins_after(min(now, since))
    return schedule.id, _counted(schedule, since).plan.to_json(), start, runs


def disable(now: datetime) -> int:
    """Note which schedules were disabled; due times that had not fired by then are missed.

    Args:
        now: the present.

    Returns:
        How many there were.
    """
    found = schedules.disabled()
    for schedule, progress in found.items():
        with _left_out(f"Schedule {schedule}", schedule, {}):
            _disable(progress, _changed_at(schedule, now), now)
    return len(found)


def _changed_at(schedule: int, now: datetime) -> datetime:
    try:
        return read_one(schedule).changed_at
    except (DatabaseError, InterfaceError):
        raise
    except Exception:  # its rows make no sense, or it was deleted
        return now


def _begin(
    new: Sequence[Schedule], now: datetime, edited_at: datetime, enabled_later: Collection[int]
) -> None:
    states = []
    for each in new:
        enabled_at = edited_at if each.id in enabled_later else None
        try:
            states.append(first_state(each, now, enabled_at))
        except Exception:  # it makes no sense, and says so when its plan is asked for
            states.append((each.id, {}, now, 0))
    together = False
    with _left_out("One of the new schedules"):
        with short_transaction():
            schedules.begin(states)
        together = True
    if together:
        return
    for each, state in zip(new, states, strict=True):
        with _left_out(each.name), short_transaction():
            schedules.wait_less()
            schedules.begin([state])


@contextmanager
def _left_out(
    name: str, schedule: int = 0, problems: dict[int, str] | None = None
) -> Iterator[None]:
    # One schedule must not hold up the others. Without a problem it is looked at again.
    try:
        yield
    except LostRace as error:
        logger.info("%s is left for the next look: %s.", name, error)
    except Exception as error:
        if out_of_reach(error):
            raise
        if not isinstance(error, DatabaseError) and problems is not None:
            problems[schedule] = f"{type(error).__name__}: {error}"
        logger.warning("%s is left out: %r", name, error)


def _states(found: Sequence[Schedule]) -> dict[int, Progress]:
    few = len(found) <= 1000
    return schedules.progress([each.id for each in found] if few else None)


def _was_switched(schedule: Schedule, state: Progress) -> bool:
    # Disabled and enabled again before anybody looked: that makes its row forget the last run.
    forgot = schedule.last_run_at is None and state.runs > 0 and state.active
    return forgot and schedule.changed_at > state.handled_until


def _ran_elsewhere(schedule: Schedule, state: Progress) -> bool:
    # Another scheduler ran it after all that is accounted for: ours has been away, and is back.
    ran_at = state.last_run_at
    if schedule.one_off and state.runs:  # it has had its run, and is to be disabled
        return False
    if not state.active or ran_at in (None, state.fired_at) or ran_at <= state.handled_until:
        return False
    return not occurrences.handled_at({state.schedule: ran_at})


def _leave_to_the_other(schedule: Schedule, state: Progress, now: datetime) -> None:
    # What was due until then was the business of that scheduler, which may have run it.
    ran_at, plan = state.last_run_at, _kept(state)
    dues = [] if ran_at is None or plan is None else _passed(state, plan, min(ran_at, now))
    if ran_at is None or not dues:
        return
    # It goes on from there, as a schedule does that no beat of ours has seen.
    known_there = schedule.changed_at <= ran_at
    spec = _counted(schedule, ran_at).plan.to_json() if known_there else state.spec
    reason = (
        f"Another scheduler was at work; it ran this schedule at {ran_at:%Y-%m-%d %H:%M:%S} UTC."
    )
    with short_transaction():
        schedules.wait_less()
        schedules.replan(schedule.id, state.handled_until, spec, min(ran_at, now))
        _miss(schedule.id, dues, Cause.LATE, reason, now)


def _counted(schedule: Schedule, since: datetime) -> Schedule:
    spec = schedule.plan.spec
    if not isinstance(spec, Interval) or schedule.plan.start is not None:
        return schedule
    return schedule.counted_from(since + spec.every)


def _change(
    app: Celery, schedule: Schedule, state: Progress, now: datetime, since: datetime
) -> None:
    # See Note [Edits].
    fresh = _counted(schedule, since)
    start = fresh.begins_after(since)
    if not state.active:
        with short_transaction():
            schedules.activate(schedule.id, fresh.plan.to_json(), start)
        return
    before = _kept(state)
    if before is not None:
        state = _settle_before(app, replace(schedule, plan=before), since, now) or state
    start = start if start < since else max(since, state.handled_until)
    with short_transaction():
        schedules.replan(schedule.id, state.handled_until, fresh.plan.to_json(), start)


def _edited_at(
    schedule: Schedule, state: Progress, now: datetime, told_at: datetime, *, tells: bool
) -> datetime:
    saved, until = schedule.changed_at, state.handled_until
    if tells and saved > until:
        return min(saved, now)
    # Its row does not tell. A crontab that several share was edited without it, or one more due
    # time fired before the edit was seen.
    latest = max(saved, told_at)
    if not state.active or until - latest > SEEN_WITHIN:  # nor does anything else
        return now
    return min(max(latest, until), now)


def _settle_before(
    app: Celery, schedule: Schedule, since: datetime, now: datetime
) -> Progress | None:
    settled = settle(app, [schedule], now, until=since)
    for _ in range(_PASSES):
        # Messages of plain tasks that this owes are sent when their time has come.
        if schedule.id not in settled.more:
            break
        settled = settle(app, [schedule], now, until=since)
    error = settled.errors.get(schedule.id)
    if schedule.id in settled.more or isinstance(error, DatabaseError):
        raise LostRace("what was due before its edit is not settled yet")
    state = schedules.progress([schedule.id]).get(schedule.id)
    if error is not None and state is not None and _can_be_told(schedule, state, since):
        raise error
    return state


def _can_be_told(schedule: Schedule, state: Progress, until: datetime) -> bool:
    try:
        deque(islice(due_times(schedule.plan, state.handled_until, until), _MOST_PASSED), 0)
    except Exception:  # a plan that makes no sense has no due times
        return False
    return True


def _kept(state: Progress) -> Plan | None:
    try:
        return plan_from_json(state.spec)
    except (ValueError, TypeError, KeyError):  # of a later version of this package
        return None


def _disable(progress: Progress, since: datetime, now: datetime) -> None:
    until = max(progress.handled_until, min(since, now))
    plan = _kept(progress)
    with short_transaction():
        schedules.wait_less()
        locked = schedules.lock([progress.schedule]).get(progress.schedule)
        if locked is None or locked.handled_until != progress.handled_until:
            raise LostRace("a schedule was moved ahead by somebody else")
        schedules.deactivate(progress.schedule, progress.handled_until, until)
        dues = [] if progress.buffered is None else [progress.buffered]
        dues += [] if plan is None else _passed(progress, plan, until)
        reason = "The schedule was disabled before it could fire."
        _miss(progress.schedule, dues, Cause.DISABLED, reason, now)


def _passed(progress: Progress, plan: Plan, until: datetime) -> list[datetime]:
    try:
        return list(islice(due_times(plan, progress.handled_until, until), _MOST_PASSED))
    except Exception as error:  # a plan that makes no sense has no due times
        logger.info("The due times of schedule %s cannot be told: %s", progress.schedule, error)
        return []


def _miss(
    schedule: int, dues: Sequence[datetime], cause: Cause, reason: str, now: datetime
) -> None:
    known = occurrences.recorded(schedule, dues) if dues else {}
    verdicts = [Verdict(due, Fate.MISSED, cause, reason) for due in dues if due not in known]
    if verdicts:
        occurrences.record(stretches(schedule, verdicts, now))
