"""The options of a call: which exist, what they may be, and which of them an entry keeps. Pure."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from datetime import datetime
from math import isfinite
from typing import Any, Final
from uuid import UUID, uuid5

from celery.utils.time import maybe_make_aware
from kombu import Queue
from kombu.utils.json import dumps as kombu_dumps
from kombu.utils.json import loads as kombu_loads

from .errors import CorruptEntry, OptionError

# Kept in the entry's options, because a publish by the sweeper or the worker needs them later.
_KEPT: Final = frozenset(
    {
        "headers",
        "link",
        "link_error",
        "chain",
        "chord",
        "group_index",
        "ignore_result",
        "shadow",
        "reply_to",
        "exchange",
        "routing_key",
        "delivery_mode",
        "replaced_task_nesting",
        "stamped_headers",
        # Celery's id, where it is not the entry's: see calling.under.
        "task_id",
    }
)
# Have a column of their own, or are folded into another option.
_COLUMNS: Final = frozenset(
    {
        "queue",
        "priority",
        "countdown",
        "eta",
        "expires",
        "time_limit",
        "soft_time_limit",
        "root_id",
        "parent_id",
        "group_id",
        # What dedup makes of it is kept under the same name; see ``keying``.
        "once",
    }
)
# Belong to the moment of a publish or to another way of publishing. Celery passes them along
# (canvas, beat, retry), so they are accepted and have no effect on an entry.
_WITHOUT_EFFECT: Final = frozenset(
    {
        "add_to_parent",
        "argsrepr",
        "compression",
        "confirm_timeout",
        "connection",
        "correlation_id",
        "cls",
        "declare",
        "event_dispatcher",
        "exchange_type",
        "group",
        "immediate",
        "immutable",
        "kwargsrepr",
        "mandatory",
        "origin",
        "parent_priority",
        "producer",
        "publisher",
        "result_cls",
        "retries",
        "retry",
        "retry_policy",
        "route_name",
        "router",
        "serializer",
        "shadow_name",
        "task_type",
        "timeout",
        "typing",
        "utc",
    }
)
_KNOWN: Final = _KEPT | _COLUMNS | _WITHOUT_EFFECT
# An escaped NUL whose backslash is not itself escaped.
_NUL: Final = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
#: Characters that the name of a task or a queue may have.
LONGEST_NAME: Final = 255
#: Seconds. Far beyond it lie times that some databases or Python cannot express.
LONGEST: Final = 100 * 366 * 86_400
# Task ids of other services need not be UUIDs; theirs map to one, the same each time.
_FOREIGN: Final = UUID("8f6d3c5e-6a0b-5d0e-9d5c-0d6f6f2f2a11")


def check(task: str, options: Mapping[str, Any]) -> None:
    """Refuse options that do not exist or cannot be meant.

    Args:
        task: the task's name, for the message.
        options: what was passed to ``apply_async`` or ``enqueue_many``.

    Raises:
        OptionError: an unknown name (with the nearest known one) or an impossible value.
    """
    stamps = options.get("stamped_headers") or ()
    for name in options:
        if name not in _KNOWN and name not in stamps:
            close = difflib.get_close_matches(name, _KNOWN, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise OptionError(f"{task}: there is no option {name!r}.{hint}")
    _check_times(task, options)
    _check_limits(task, options)
    priority = options.get("priority")
    if priority is not None and not (_is_int(priority) and 0 <= priority <= 255):
        raise OptionError(
            f"{task}: priority must be a whole number from 0 to 255, not {priority!r}."
        )
    queue = options.get("queue")
    if queue is not None and not (isinstance(queue, str | Queue) and str(queue)):
        raise OptionError(f"{task}: queue must be a name, not {queue!r}.")
    check_queue(task, queue or "")


def check_queue(task: str, queue: str | Queue) -> None:
    """Refuse the name of a queue that does not fit into the ledger.

    Args:
        task: the task's name, for the message.
        queue: what was passed, or what the routes say.

    Raises:
        OptionError: it is too long.
    """
    name = queue if isinstance(queue, str) else str(queue.name)
    if len(name) > LONGEST_NAME:
        raise OptionError(
            f"{task}: the name of a queue may have {LONGEST_NAME} characters, not {len(name)}: "
            f"{name[:40]!r}…"
        )


def _check_times(task: str, options: Mapping[str, Any]) -> None:
    countdown, eta, expires = (options.get(name) for name in ("countdown", "eta", "expires"))
    if countdown is not None and (not _is_number(countdown) or countdown < 0):
        raise OptionError(
            f"{task}: countdown must be a number of seconds, zero or more, not {countdown!r}."
        )
    for name, seconds in (("countdown", countdown), ("expires", expires)):
        if isinstance(seconds, int | float) and seconds > LONGEST:
            raise OptionError(f"{task}: {name}={seconds!r} is more than a hundred years ahead.")
    if eta is not None and not isinstance(eta, datetime | str):
        raise OptionError(f"{task}: eta must be a datetime, not {type(eta).__name__}.")
    if expires is None:
        return
    if _is_number(expires):
        if expires <= 0:
            raise OptionError(
                f"{task}: expires={expires!r} has passed already; the entry could never run. "
                "Pass seconds greater than zero, or leave it out."
            )
    elif not isinstance(expires, datetime | str):
        raise OptionError(
            f"{task}: expires must be seconds or a datetime, not {type(expires).__name__}."
        )


def _check_limits(task: str, options: Mapping[str, Any]) -> None:
    hard, soft = options.get("time_limit"), options.get("soft_time_limit")
    for name, limit in (("time_limit", hard), ("soft_time_limit", soft)):
        if limit is not None and (not _is_number(limit) or limit <= 0):
            raise OptionError(f"{task}: {name} must be seconds greater than zero, not {limit!r}.")
    if hard is not None and soft is not None and soft > hard:
        raise OptionError(f"{task}: soft_time_limit ({soft}) is longer than time_limit ({hard}).")


def moment_of(
    task: str, name: str, value: datetime | str, timezone: Any, now: datetime
) -> datetime:
    """Return an ``eta`` or ``expires`` as an aware datetime.

    Args:
        task: the task's name, for the message.
        name: which option it is.
        value: a datetime, aware or in UTC (as Celery's worker reads it), or its ISO 8601 text.
        timezone: the Celery app's time zone, which the answer is in.
        now: the present, to refuse an ``expires`` in the past.

    Raises:
        OptionError: the text is not a time, or ``expires`` has passed.
    """
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError as error:
        raise OptionError(f"{task}: {name}={value!r} is not an ISO 8601 time.") from error
    aware: datetime = maybe_make_aware(moment, timezone)
    if name == "expires" and aware <= now:
        raise OptionError(
            f"{task}: expires={value} has passed already; the entry could never run. "
            "Pass a later time, or leave it out."
        )
    return aware


def kept(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an entry keeps of a call's options, empty if nothing."""
    result = {
        name: options[name]
        for name in _KEPT
        if name in options and options[name] not in (None, [], {})
    }
    limits = [options.get("time_limit"), options.get("soft_time_limit")]
    if limits != [None, None]:
        result["timelimit"] = limits
    stamps = options.get("stamped_headers")
    if stamps:
        result["stamps"] = {name: options[name] for name in stamps if name in options}
    return result


def dumps(options: Mapping[str, Any]) -> str | None:
    """Return the JSON text of the options that an entry keeps; None if there are none.

    Signatures of canvas inside are written as Celery writes them to a broker.

    Raises:
        OptionError: an option, such as a header, has a value that JSON cannot hold.
    """
    if not options:
        return None
    try:
        text = str(kombu_dumps(options, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise OptionError(f"An option or header of the call cannot be kept: {error}") from error
    fault = unstorable(text)
    if fault:
        raise OptionError(f"An option, a header or a signature of the call has {fault}.")
    return text


def unstorable(text: str) -> str:
    """Return which character of JSON text some database cannot store, in words; empty if none."""
    if "\\u0000" in text and _NUL.search(text):
        return "a NUL character, which databases cannot store"
    try:
        if "\\ud" in text:
            json.dumps(json.loads(text), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return (
            "half of a surrogate pair, which databases cannot store. It comes of text that was "
            "read with errors='surrogateescape': decode it, or pass base64"
        )
    return ""


def loads(text: Any) -> dict[str, Any]:
    """Return an entry's options.

    Args:
        text: JSON text, what the database driver already parsed from it, or None.

    Raises:
        CorruptEntry: it is not a JSON object.
    """
    if text is None:
        return {}
    try:
        found = kombu_loads(text if isinstance(text, str | bytes) else kombu_dumps(text))
    except (ValueError, TypeError, KeyError) as error:
        raise CorruptEntry(f"The options of the entry cannot be read: {error}") from error
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise CorruptEntry(f"The options of the entry are no JSON object but {found!r}.")
    return found


def as_uuid(value: Any) -> UUID | None:
    """Return a UUID from a UUID or its text; None for anything else."""
    if isinstance(value, UUID):
        return value
    try:
        return UUID(value)
    except (ValueError, TypeError, AttributeError):
        return None


def entry_id(task_id: Any) -> UUID:
    """Return the entry's id for a Celery task id; text that is no UUID maps to one all the same."""
    return as_uuid(task_id) or uuid5(_FOREIGN, str(task_id))


def listed(value: Any) -> list[Any] | None:
    """Return one signature or several as a list; None for none."""
    if value is None:
        return None
    return list(value) if isinstance(value, list | tuple) else [value]


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
