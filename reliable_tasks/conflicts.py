"""Enqueue with a key, and what a call comes to that finds its key held."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from celery import states as celery_states
from celery.result import AsyncResult, EagerResult
from django.db import transaction

from . import calling, keying, ledger, options, receipt, results
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
        outcome = _write_or_look(task, entry, policy, grace)
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
            raise receipt.error(task, policy, outcome)
        if policy.conflict == "return" or _sent_by_beat(call):
            return None, receipt.tell(task, outcome, "return")
        if policy.conflict == "reject":
            receipt.tell(task, outcome, "reject")
            return None, EagerResult(None, None, celery_states.REJECTED)
        raise receipt.error(task, policy, outcome)
    raise AssertionError("the last try answers")


def _write_or_look(
    task: ReliableTask, entry: NewEntry, policy: Policy, grace: float
) -> Conflict | bool:
    outcome = ledger.enqueue_once(entry, grace=grace)
    if isinstance(outcome, Conflict) and outcome.expired:
        return _after_expiry(task, entry, outcome, grace)
    if not isinstance(outcome, Conflict) or outcome.state != State.RUNNING or policy.blocks == LIVE:
        return outcome
    # Claimed a moment ago: perhaps it blocks no more, and its worker has not come to say so.
    freed = ledger.free_started(outcome.entry)
    return ledger.enqueue_once(entry, grace=grace) if freed else outcome


def _after_expiry(
    task: ReliableTask, entry: NewEntry, held: Conflict, grace: float
) -> Conflict | bool:
    """Do what no sweeper has come to yet: the holder will never run, so it blocks nobody."""
    app = task._get_app()
    alias = ledger.ledger_connection().alias
    with transaction.atomic(using=alias):
        for taken in ledger.expire([held.entry]):

            def tell(taken: ledger.Taken = taken) -> None:
                results.tell_expired(app, taken)

            transaction.on_commit(tell, using=alias, robust=True)
        return ledger.enqueue_once(entry, grace=grace)


def _holder_of(entry: NewEntry) -> Conflict | None:
    return None if entry.hold is None else ledger.holder(entry.hold.digest)


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
    return None, receipt.tell(task, changed, policy.conflict)


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
        task=entry.task,
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
    receipt.count(entry.task, conflict, "follow" if reused is None else "raise")
    return follower if ledger.enqueue_follower(follower, grace=grace) else None


def following_entry(entry: NewEntry, conflict: Conflict) -> NewEntry:
    """Return an entry that is to end as the holder of its key does.

    Args:
        entry: the entry as it was to be written.
        conflict: who holds its key.
    """
    kept = {**options.loads(entry.options), FOLLOWS: str(conflict.entry)}
    return replace(entry, options=options.dumps(kept))


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
    # In the order in which keys are taken: holders that are changed stay locked, too.
    for place, conflict in sorted(held.items(), key=lambda each: (each[1].digest, each[0])):
        # A holder that has expired will never run, so that nothing is used again.
        reused = None if conflict.expired else _reuse(entries[place], policy, conflict)
        if reused is not None:
            raise reused
        changes = policy.conflict in ("replace", "postpone") and conflict.state in ACTIVE
        changed = changes and _change(entries[place], policy, conflict)
        # It has started, ended or expired, so that its key is to be had.
        started = conflict.state == State.RUNNING and policy.blocks != LIVE
        if (changes and not changed) or started or conflict.expired:
            try:
                made, _ = enqueue(task, entries[place], policy, {}, follows=False, grace=grace)
            except AlreadyQueued as again:
                refused[place] = again
                continue
            if made is not None:
                continue
            # An equal call of the same batch came first, and holds the key now.
            held[place] = _holder_of(entries[place]) or conflict
        refused[place] = receipt.error(task, policy, held[place])
    written = [each for n, each in enumerate(entries) if n not in refused]
    return written, dict(sorted(refused.items()))
