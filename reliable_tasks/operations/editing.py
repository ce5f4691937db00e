"""What follows from other arguments: what an entry is about, and the key that it takes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from .. import arguments, codec, keying, options
from ..dedup import Hold
from ..errors import ArgumentError
from ..ledger import OtherCall
from ..models import Entry
from ..task import ReliableTask
from .telling import known_task


def other_call(
    entry: Entry, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> OtherCall:
    """Return what an entry is put back with, as an enqueue with these arguments would write it.

    Args:
        entry: the entry as it is.
        name: the task that it will have.
        args: its positional arguments from now on.
        kwargs: its keyword arguments from now on.

    Raises:
        ArgumentError: they cannot be kept, or what follows from them cannot be known here.
    """
    task = known_task(name)
    if not isinstance(task, ReliableTask):
        if entry.key is not None or entry.subject_id is not None:
            raise ArgumentError(
                f"{name} is no reliable task of this process, so nobody here can tell which key, "
                "and which object, other arguments would stand for. Do this where the task is "
                "installed, or enqueue a new entry there."
            )
        plain_args, plain_kwargs = codec.encode(args, kwargs)
        return OtherCall(args=plain_args, kwargs=plain_kwargs)
    plain = arguments.plain(task, args, kwargs)
    texts = arguments.texts(task, plain.args, plain.kwargs)
    label, pk = plain.subject or (None, None)
    hold = None if entry.key is None else _key(task, entry, texts)
    return OtherCall(args=texts[0], kwargs=texts[1], subject_type=label, subject_id=pk, hold=hold)


def _key(task: ReliableTask, entry: Entry, texts: tuple[str, str]) -> Hold:
    before = (json.dumps(entry.args), json.dumps(entry.kwargs))
    found: Hold | None = None
    cause: Exception | None = None
    try:
        own = Hold.of(options.loads(entry.options), entry.key)
        found = None if own is None else keying.moved(task, own, before, texts)
    except Exception as failed:  # whatever a project's own key function does
        cause = failed
    if found is None:
        raise ArgumentError(
            f"{task.name}: the entry took the key {entry.key}, which its task does not make of "
            "its arguments as they are: the call had a once of its own, or the task another one "
            "then. So nobody can tell which key other arguments would take. Enqueue a new entry "
            "instead, and discard this one."
        ) from cause
    return found
