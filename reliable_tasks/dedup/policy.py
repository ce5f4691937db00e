"""What a key blocks, for how long, and what a conflict does: the ``once`` option, read. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from math import isfinite
from typing import Any, Final

from ..errors import OptionError

#: Which states of its entry a key blocks in.
LIVE: Final = "live"  # until it ends
WAITING_ONLY: Final = "waiting"  # whenever it waits for an attempt, not while one runs
UNSTARTED: Final = "unstarted"  # until its first attempt starts
BLOCKS: Final = (LIVE, WAITING_ONLY, UNSTARTED)
#: What a call does that finds its key held.
CONFLICTS: Final = ("raise", "return", "replace", "postpone", "reject")
AFTER_DEATH: Final = ("release", "hold")
#: Seconds in a thousand years: further than any clock here will count, and a date that every
#: database can hold.
FOREVER: Final = 31_556_952_000.0
_LONGEST: Final = 100 * 366 * 86_400.0
_KNOWN: Final = frozenset(
    {
        *("keys", "key", "blocks", "window", "period", "conflict", "wait", "longest"),
        *("after_death", "same_arguments"),
        # celery_once's
        *("graceful", "timeout", "unlock_before_run", "textual"),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How a task's calls are deduplicated.

    Attributes:
        keys: the parameters that make the key; None for all of them.
        key: a value that is the key, or a function that makes it of the call's arguments.
        blocks: which states of its entry block: "live", "waiting" or "unstarted".
        window: seconds after a success for which the key still blocks, None for none.
        period: seconds after the enqueue for which the key blocks at least, None for none.
        conflict: what a call does that finds the key held.
        wait: seconds that an entry is put off where the call names no time (debounce).
        longest: seconds after its enqueue beyond which nothing postpones an entry.
        holds_dead: a dead entry keeps its key.
        same_arguments: the key may not be used again with other arguments.
        timeout: celery_once's lifetime of a lock in seconds; only told in ``countdown``.
        textual: make the key as celery_once does, collisions included.
    """

    keys: tuple[str, ...] | None = None
    key: Any = None
    blocks: str = LIVE
    window: float | None = None
    period: float | None = None
    conflict: str = "raise"
    wait: float | None = None
    longest: float | None = None
    holds_dead: bool = False
    same_arguments: bool = False
    timeout: float | None = None
    textual: bool = False


def parse(task: str, once: object) -> Policy | None:
    """Read a ``once`` option.

    Args:
        task: the task's name, for messages.
        once: True for all defaults, a mapping of options, False or None for no dedup.

    Returns:
        The policy, None for no dedup.

    Raises:
        OptionError: an unknown option (with the nearest known one), or one that cannot be meant.
    """
    if once is None or once is False:
        return None
    if once is True:
        return Policy()
    if not isinstance(once, Mapping):
        raise OptionError(f"{task}: once must be True, False or a dict of options, not {once!r}.")
    for name in once:
        if name not in _KNOWN:
            close = difflib.get_close_matches(str(name), sorted(_KNOWN), n=1)
            hint = f" Did you mean {close[0]!r}?" if close else f" Known: {sorted(_KNOWN)}."
            raise OptionError(f"{task}: once has no option {name!r}.{hint}")
    conflict = _conflict(task, once)
    window = _window(task, once)
    policy = Policy(
        keys=_keys(task, once),
        key=once.get("key"),
        blocks=_blocks(task, once, conflict, window),
        window=window,
        period=_seconds(task, once, "period"),
        conflict=conflict,
        wait=_seconds(task, once, "wait"),
        longest=_seconds(task, once, "longest"),
        holds_dead=_one_of(task, once, "after_death", AFTER_DEATH, "release") == "hold",
        same_arguments=_flag(task, once, "same_arguments", default=window == FOREVER),
        timeout=_seconds(task, once, "timeout"),
        textual=_flag(task, once, "textual", default=False),
    )
    _check_together(task, policy)
    return policy


def _check_together(task: str, policy: Policy) -> None:
    def refuse(why: str) -> OptionError:
        return OptionError(f"{task}: once: {why}")

    if policy.key is not None and policy.keys is not None:
        raise refuse("key and keys exclude each other: the one is the key, the other makes it.")
    if (policy.window is not None or policy.period is not None) and policy.blocks != LIVE:
        raise refuse(
            f"window and period go on after the entry, so it must block as long as it is live; "
            f"blocks={policy.blocks!r} frees the key earlier. Leave blocks out."
        )
    if policy.holds_dead and policy.blocks != LIVE:
        raise refuse(f"after_death='hold' needs blocks='live', not {policy.blocks!r}.")
    if policy.conflict == "postpone" and policy.wait is None:
        raise refuse(
            "conflict='postpone' needs wait=, the seconds of quiet after which the entry runs."
        )
    if policy.longest is not None and policy.conflict != "postpone":
        raise refuse("longest limits how far an entry is postponed: it needs conflict='postpone'.")
    if policy.conflict in ("replace", "postpone") and policy.same_arguments:
        raise refuse(
            f"conflict={policy.conflict!r} gives the entry other arguments; an idempotency key "
            "(same_arguments, or window='forever') forbids just that."
        )


def _conflict(task: str, once: Mapping[str, Any]) -> str:
    graceful = _truth(task, once, "graceful")
    return _one_of(task, once, "conflict", CONFLICTS, "reject" if graceful else "raise")


def _blocks(task: str, once: Mapping[str, Any], conflict: str, window: float | None) -> str:
    unlock = _truth(task, once, "unlock_before_run")
    # What runs already cannot be replaced or postponed: such a call must make a new entry.
    late = conflict in ("replace", "postpone") and window is None and once.get("period") is None
    default = UNSTARTED if unlock else WAITING_ONLY if late else LIVE
    return _one_of(task, once, "blocks", BLOCKS, default)


def _keys(task: str, once: Mapping[str, Any]) -> tuple[str, ...] | None:
    keys = once.get("keys")
    if keys is None:
        return None
    if isinstance(keys, str) or not all(isinstance(name, str) for name in keys):
        raise OptionError(f"{task}: once: keys must be a list of parameter names, not {keys!r}.")
    return tuple(sorted(set(keys)))


def _window(task: str, once: Mapping[str, Any]) -> float | None:
    return FOREVER if once.get("window") == "forever" else _seconds(task, once, "window")


def _seconds(task: str, once: Mapping[str, Any], name: str) -> float | None:
    value = once.get(name)
    if value is None:
        return None
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    fine = isinstance(seconds, int | float) and not isinstance(seconds, bool) and isfinite(seconds)
    if not fine or not 0 < seconds <= _LONGEST:
        more = " or 'forever'" if name == "window" else ""
        raise OptionError(
            f"{task}: once: {name} must be a timedelta or seconds greater than zero{more}, "
            f"not {value!r}."
        )
    return float(seconds)


def _one_of(
    task: str, once: Mapping[str, Any], name: str, allowed: tuple[str, ...], default: str
) -> str:
    value = once.get(name, default)
    if value not in allowed:
        words = ", ".join(map(repr, allowed))
        raise OptionError(f"{task}: once: {name} must be one of {words}, not {value!r}.")
    return str(value)


def _truth(task: str, once: Mapping[str, Any], name: str) -> bool:
    """Read a flag of celery_once, which takes anything for what it is worth."""
    value = once.get(name)
    if value is not None and not isinstance(value, int):
        raise OptionError(
            f"{task}: once: {name} must be True or False, not {value!r}. Any text counts as true "
            "in celery_once, also 'False'."
        )
    return bool(value)


def _flag(task: str, once: Mapping[str, Any], name: str, *, default: bool) -> bool:
    value = once.get(name, default)
    if not isinstance(value, bool):
        raise OptionError(f"{task}: once: {name} must be True or False, not {value!r}.")
    return value
