"""Other arguments for an entry: read, checked, what follows from them, and what they change.

What follows is what the entry is about, and the key that it takes.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from django.utils.translation import gettext as _

from .. import arguments, codec, keying, options
from ..dedup import Hold
from ..errors import ArgumentError, CorruptEntry
from ..ledger import OtherCall
from ..models import Entry
from ..shown import shown_arguments
from ..signature import bind, signature_of
from ..task import ReliableTask
from .telling import known_task

#: Longest text of a value that is put on record.
_LONGEST: Final = 1_000


class Unreadable(ArgumentError):
    """What was typed cannot be an entry's arguments.

    Attributes:
        where: ``"args"`` or ``"kwargs"``; empty for both together.
    """

    def __init__(self, words: str, where: str = "") -> None:
        super().__init__(words)
        self.where = where


def read_arguments(
    entry: Entry, args: str | None = None, kwargs: str | None = None, *, task: str | None = None
) -> tuple[list[Any], dict[str, Any]]:
    """Read other arguments for an entry as a person types them, for :func:`~.acting.requeue`.

    Args:
        entry: the entry.
        args: JSON text of its positional arguments, in the codec's form; None: as they are.
        kwargs: JSON text of its keyword arguments; None: as they are.
        task: the task that it will have; None for its own.

    Returns:
        The positional and the keyword arguments.

    Raises:
        Unreadable: they are no JSON of that kind, or the task does not take them.
        ArgumentError: they cannot be kept; or the entry has sensitive arguments, which nobody can
            type again who does not see them.
    """
    if shown_arguments(entry) != (entry.args, entry.kwargs):
        raise ArgumentError(
            _(
                "It has sensitive arguments, which are not shown. Enqueue it anew where they are "
                "known, and discard this one."
            )
        )
    kept_args = entry.args if args is None else _json(args, list, "args")
    kept_kwargs = entry.kwargs if kwargs is None else _json(kwargs, dict, "kwargs")
    try:
        _check_members([kept_args, kept_kwargs])
        found = codec.decode(json.dumps(kept_args), json.dumps(kept_kwargs))
        codec.encode(*found)
    except Unreadable:
        raise
    except (CorruptEntry, TypeError, ValueError, RecursionError) as error:
        raise Unreadable(str(error)) from error
    _check_signature(known_task(task or entry.task), *found)
    return list(found[0]), dict(found[1])


def _check_members(value: Any) -> None:
    """Refuse an Enum whose module is not loaded: nobody imports one by typing its name."""
    if isinstance(value, dict):
        module = codec.module_of(value)
        if module is not None and module not in sys.modules:
            raise Unreadable(_("No such module is loaded: %s.") % module)
        _check_members(list(value.values()))
    elif isinstance(value, list):
        for each in value:
            _check_members(each)


def _json(text: str, kind: type, where: str) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unreadable(_("This is no JSON: %s") % error, where) from error
    if not isinstance(value, kind):
        raise Unreadable(_("A JSON array.") if kind is list else _("A JSON object."), where)
    return value


def _check_signature(task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    if not isinstance(task, ReliableTask):
        return
    try:
        bind(task, args, kwargs)
    except TypeError as error:
        raise Unreadable(_("The task does not take these: %s.") % error) from error


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
                _(
                    "%(task)s is no reliable task of this process, so nobody here can tell which "
                    "key, and which object, other arguments would stand for. Do this where the "
                    "task is installed, or enqueue a new entry there."
                )
                % {"task": name}
            )
        plain_args, plain_kwargs = codec.encode(args, kwargs)
        return OtherCall(args=plain_args, kwargs=plain_kwargs)
    _check_signature(task, args, kwargs)
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
            _(
                "%(task)s: the entry took the key %(key)s, which its task does not make of its "
                "arguments as they are: the call had a once of its own, or the task another one "
                "then. So nobody can tell which key other arguments would take. Enqueue a new "
                "entry instead, and discard this one."
            )
            % {"task": task.name, "key": entry.key}
        ) from cause
    return found


def changes(entry: Entry, name: str, call: OtherCall) -> list[dict[str, Any]]:
    """Return which arguments of an entry a call changes, as its record keeps them.

    Args:
        entry: the entry as it was.
        name: the task that it has from now on.
        call: what it is put back with.

    Returns:
        For each argument that is another one: the entry's id, its ``task``, the argument's
        ``name``, and ``before`` and ``after`` as they may be shown; one of these is missing where
        the argument was added or left out.
    """
    now = Entry(task=name, args=json.loads(call.args), kwargs=json.loads(call.kwargs))
    old, new = _named(entry), _named(now)
    found = []
    for each in dict.fromkeys([*old, *new]):
        before, after = old.get(each), new.get(each)
        if before is not None and after is not None and before[0] == after[0]:
            continue
        # What one of the two hides, the other one would give away.
        hidden = any(side is not None and side[0] != side[1] for side in (before, after))
        change = {"entry": str(entry.pk), "task": name, "name": each}
        for side, value in (("before", before), ("after", after)):
            if value is not None:
                change[side] = codec.MASK if hidden else _short(value[1])
        found.append(change)
    return found


def would_change(
    entry: Entry,
    given: tuple[Sequence[Any], Mapping[str, Any]],
    *,
    task: str | None = None,
) -> list[dict[str, Any]]:
    """Return which arguments other ones would change; see :func:`changes`.

    Args:
        entry: the entry.
        given: the positional and keyword arguments that it would have.
        task: the task that it would have; None for its own.

    Raises:
        ArgumentError: they cannot be kept, or what follows from them cannot be known here.
    """
    name = task or entry.task
    return changes(entry, name, other_call(entry, name, *given))


def _named(entry: Entry) -> dict[str, tuple[Any, Any]]:
    """Return an entry's arguments by name, each as it is kept and as it may be shown."""
    args, kwargs = shown_arguments(entry)
    names = parameter_names(entry.task)
    places = [
        names[place] if place < len(names) else f"argument {place}" for place in range(len(args))
    ]
    # What is no list or object was written by nobody here, and counts as one argument.
    kept = entry.args if isinstance(entry.args, list) else [entry.args]
    named = entry.kwargs if isinstance(entry.kwargs, dict) else {"?": entry.kwargs}
    pairs = dict(zip(places, zip(kept, args, strict=True), strict=True))
    return pairs | {name: (named[name], shown) for name, shown in kwargs.items()}


def parameter_names(name: str) -> list[str]:
    """Return what a task's positional parameters are called; nothing if it is not known here.

    Args:
        name: the task's name.
    """
    task = known_task(name)
    if not isinstance(task, ReliableTask):
        return []
    places = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [each.name for each in signature_of(task).parameters.values() if each.kind in places]


def _short(value: Any) -> Any:
    text = json.dumps(value, ensure_ascii=False)
    return value if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"
