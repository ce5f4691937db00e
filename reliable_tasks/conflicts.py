"""Enqueue with a key, and what a call comes to that finds its key held."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from celery import states as celery_states
from celery.result import AsyncResult, EagerResult

from . import calling, events, keying, ledger, options
from .conf import current
from .dedup import FOLLOWS, LIVE, REFUSED, Conflict, Policy
from .errors import AlreadyQueued, KeyReused
from .ledger import NewEntry
from .states import ACTIVE, State

if TYPE_CHECKING:
    from .task import ReliableTask

#: Eager calls have no heartbeat; their lease must outlast any sensible body.
EAGER_LEASE: Final = 3600.0
# Between the look at its holder and the change of it, an entry may start; then the key may be free.
_TRIES: Final = 5


def enqueue(
    task: ReliableTask,
    entry: NewEntry,
    policy: Policy,
    call: Mapping[str, Any],
    *,
    follows: bool,
    grace: float,
) -> tuple[NewEntry | None, AsyncResult | None]:
    """Write an entry if its key is free, and do what its policy says if not.

    Args:
        task: the task that is called.
        entry: the entry, with its key.
        policy: how the call is deduplicated.
        call: the call's options.
        follows: in a conflict the entry is written all the same, and ends as the holder does:
            something waits for this very id. Where it cannot, it is dead when its turn comes.
        grace: seconds after it is due until the sweeper publishes it itself.

    Returns:
        The entry that was written, if one was; the result that stands for the call, if it is not
        that entry's.

    Raises:
        AlreadyQueued: the key is held, and the policy says to raise.
        KeyReused: the key was used before with other arguments, and the policy forbids that.
    """
    for last in (False,) * (_TRIES - 1) + (True,):
        outcome = _write_or_look(entry, policy, grace)
        if not isinstance(outcome, Conflict):
            return (entry if outcome else None), None
        reused = _reuse(entry, policy, outcome)
        if follows:
            return _write_follower(entry, outcome, grace, reused), None
        if reused is not None:
            raise reused
        if policy.conflict in ("replace", "postpone"):
            if not last and outcome.state in ACTIVE and _change(entry, policy, outcome):
                return _after_change(task, entry, policy, call, outcome, grace)
            if not last and policy.blocks != LIVE:
                continue  # it has started or ended, which frees the key
            raise error(task, policy, outcome)
        if policy.conflict == "return" or _sent_by_beat(call):
            return None, _tell(task, outcome, "return")
        if policy.conflict == "reject":
            _tell(task, outcome, "reject")
            return None, EagerResult(None, None, celery_states.REJECTED)
        raise error(task, policy, outcome)
    raise AssertionError("the last try answers")


def _write_or_look(entry: NewEntry, policy: Policy, grace: float) -> Conflict | bool:
    outcome = ledger.enqueue_once(entry, grace=grace)
    if not isinstance(outcome, Conflict) or outcome.state != State.RUNNING or policy.blocks == LIVE:
        return outcome
    # Claimed a moment ago: perhaps it blocks no more, and its worker has not come to say so.
    freed = ledger.free_started(outcome.entry)
    return ledger.enqueue_once(entry, grace=grace) if freed else outcome


def _after_change(
    task: ReliableTask,
    entry: NewEntry,
    policy: Policy,
    call: Mapping[str, Any],
    changed: Conflict,
    grace: float,
) -> tuple[NewEntry | None, AsyncResult | None]:
    if call.get("link") or call.get("link_error"):
        # They are this call's own: its follower calls them when the holder has ended.
        return _write_follower(entry, changed, grace, None), None
    return None, _tell(task, changed, policy.conflict)


def before_eager(
    task: ReliableTask,
    entry: NewEntry,
    policy: Policy | None,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    call: Mapping[str, Any],
) -> AsyncResult | None:
    """Take the key of a call that is about to run in this process.

    Args:
        task: the task that is called.
        entry: its entry.
        policy: how the call is deduplicated, None for not at all.
        args: positional arguments.
        kwargs: keyword arguments.
        call: the call's options.

    Returns:
        The result that stands for the call if it is not to run, None if it is.

    Raises:
        AlreadyQueued, KeyReused: as for :func:`enqueue`.
    """
    within = calling.caller(task._get_app())
    if policy is None or (within is not None and options.as_uuid(within.id) == entry.id):
        return None
    keyed = keying.with_key(task, entry, policy, args, kwargs)
    # Written here, so that a conflict is this call's and not the result of a body.
    return enqueue(task, keyed, policy, call, follows=False, grace=EAGER_LEASE)[1]


def error(task: ReliableTask, policy: Policy, conflict: Conflict) -> AlreadyQueued:
    """Return the error that tells a caller of a conflict, and count it.

    Args:
        task: the task that was called.
        policy: how the call is deduplicated.
        conflict: who holds the key.
    """
    _tell(task, conflict, "raise")
    if conflict.frees_in is not None:
        until = f"The key is free again in {max(0.0, conflict.frees_in):.1f} s."
    elif conflict.state in ACTIVE:
        until = "The key is free when that entry " + (
            "ends." if policy.blocks == LIVE else "starts."
        )
    else:
        until = "The key is free when that entry is requeued and succeeds, pruned, or its key is "
        until += "released with `manage.py reliable_tasks keys release`."
    return AlreadyQueued(
        countdown(task, policy, conflict),
        f"{conflict.text} is queued already: {conflict}. {until} Nothing was enqueued. To get that "
        'entry\'s result instead, use once={"conflict": "return"}.',
        conflict=conflict,
    )


def countdown(task: ReliableTask, policy: Policy, conflict: Conflict) -> float:
    """Return the seconds until a key is free: known for a window, else what is left of a timeout.

    Args:
        task: the task that was called.
        policy: how the call is deduplicated.
        conflict: who holds the key.
    """
    if conflict.frees_in is not None:
        return max(0.0, conflict.frees_in)
    timeout = task.default_timeout if policy.timeout is None else policy.timeout
    return max(0.0, timeout - conflict.age)


def in_canvas(policy: Policy, call: Mapping[str, Any]) -> bool:
    """Tell whether something waits for the call's own id: a chain, a group, a chord, a link.

    Args:
        policy: how the call is deduplicated.
        call: the call's options. Celery's canvas is the only caller that names a call's parent.
    """
    return (
        any(call.get(name) for name in ("group_id", "chord", "parent_id"))
        or call.get("chain") is not None
        or (policy.conflict == "return" and bool(call.get("link")))
    )


def _sent_by_beat(call: Mapping[str, Any]) -> bool:
    # Beat has nobody to tell, and would log a failure at each tick.
    return "periodic_task_name" in (call.get("headers") or {})


def _reuse(entry: NewEntry, policy: Policy, conflict: Conflict) -> KeyReused | None:
    assert entry.hold is not None
    if not policy.same_arguments or conflict.arguments == entry.hold.arguments:
        return None
    return KeyReused(
        f"{conflict.text} was used before, with other arguments: {conflict}. An idempotency "
        "key stands for one call. Make the key of all that tells the calls apart, or release "
        "it with `manage.py reliable_tasks keys release`."
    )


def _change(entry: NewEntry, policy: Policy, conflict: Conflict) -> bool:
    assert entry.hold is not None
    postponed = policy.conflict == "postpone"
    return ledger.change_waiting(
        conflict.entry,
        args=entry.args,
        kwargs=entry.kwargs,
        arguments=entry.hold.arguments,
        subject_type=entry.subject_type,
        subject_id=entry.subject_id,
        due_at=entry.due_at if postponed else None,
        delay=entry.delay if postponed else None,
        longest=policy.longest,
    )


def _write_follower(
    entry: NewEntry, conflict: Conflict, grace: float, reused: KeyReused | None
) -> NewEntry | None:
    follower = following_entry(entry, conflict)
    if reused is not None:
        kept = {**options.loads(follower.options), REFUSED: str(reused)}
        follower = replace(follower, options=options.dumps(kept))
    _count(entry.task, conflict, "follow" if reused is None else "raise")
    return follower if ledger.enqueue_follower(follower, grace=grace) else None


def following_entry(entry: NewEntry, conflict: Conflict) -> NewEntry:
    """Return an entry that is to end as the holder of its key does.

    Args:
        entry: the entry as it was to be written.
        conflict: who holds its key.
    """
    kept = {**options.loads(entry.options), FOLLOWS: str(conflict.entry)}
    return replace(entry, options=options.dumps(kept))


def _tell(task: ReliableTask, conflict: Conflict, did: str) -> AsyncResult:
    _count(task.name, conflict, did)
    result: AsyncResult = task.AsyncResult(str(conflict.entry))
    return result


def _count(task: str, conflict: Conflict, did: str) -> None:
    events.emit(events.Deduplicated(entry=conflict.entry, task=task, key=conflict.text, did=did))


def many(
    task: ReliableTask, entries: list[NewEntry], policy: Policy
) -> tuple[list[NewEntry], dict[int, AlreadyQueued]]:
    """Write many entries with keys; those whose key is held are told one by one.

    Args:
        task: the task that is called.
        entries: the entries, each with its key.
        policy: how the calls are deduplicated.

    Returns:
        The entries that were written, and for the places of the others what a single call would
        have raised. Where the policy changes the holder instead, it was changed.

    Raises:
        KeyReused: a key was used before with other arguments, and the policy forbids that;
            nothing is written then.
    """
    grace = current().PUBLISH_RECHECK
    held = ledger.enqueue_many_once(entries, grace=grace)
    refused: dict[int, AlreadyQueued] = {}
    for place, conflict in held.items():
        reused = _reuse(entries[place], policy, conflict)
        if reused is not None:
            raise reused
        changes = policy.conflict in ("replace", "postpone") and conflict.state in ACTIVE
        changed = changes and _change(entries[place], policy, conflict)
        # It has started or ended meanwhile, so that its key is to be had.
        if (changes and not changed) or (conflict.state == State.RUNNING and policy.blocks != LIVE):
            try:
                written, _ = enqueue(task, entries[place], policy, {}, follows=False, grace=grace)
            except AlreadyQueued as again:
                refused[place] = again
                continue
            if written is not None:
                continue
        refused[place] = error(task, policy, conflict)
    return [each for n, each in enumerate(entries) if n not in refused], refused
