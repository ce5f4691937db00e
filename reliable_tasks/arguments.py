"""What is done to a call's arguments on their way into an entry, and before they are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from .codec import MASK, Secret, encode, shown
from .errors import ArgumentError, ConfigurationError
from .plan import Plan, plan_of
from .signature import signature_of
from .subject import Subject, subject_of

if TYPE_CHECKING:
    from .described import Described


def of_item(task: Described, item: Any) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """Return the arguments in one item of what ``enqueue_many()`` was given.

    Args:
        task: the task.
        item: a tuple or list of positional arguments, or a dict of named ones.

    Raises:
        ArgumentError: it is something else.
    """
    if isinstance(item, Mapping):
        return (), item
    if isinstance(item, list | tuple):
        return item, {}
    told = type(item) if task.sensitive else item
    raise ArgumentError(
        f"{task.name}.enqueue_many() takes one tuple, list or dict of arguments a call; it got "
        f"{told!r}. For one argument a call: [({told!r},), …]."
    )


def check(task: Described) -> None:
    """Refuse to call a task whose models could not be loaded as it says.

    Raises:
        ConfigurationError: what it says cannot be honoured; the text tells what to change.
    """
    plan = plan_of(task)
    if plan is None or not plan.faults:
        return
    for fault in plan.faults:
        if fault.kind != "unresolvable":
            raise ConfigurationError(f"{task.name}: {fault.words}. {fault.remedy}")


class Plain(NamedTuple):
    """A call's arguments with keys in the place of instances.

    Attributes:
        args: the positional ones.
        kwargs: those by name.
        subject: the row that the call is about, if any.
    """

    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    subject: Subject | None


def plain(task: Described, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Plain:
    """Put primary keys in the place of model instances.

    Args:
        task: the task that is called.
        args: positional arguments; some may be missing, as in a signature's.
        kwargs: keyword arguments.

    Raises:
        ArgumentError: a parameter that is annotated with a model is given something else.
    """
    plan = plan_of(task)
    if plan is None or not plan.models:
        return Plain(args, kwargs, None)
    keys: dict[str, Any] = {}

    def key(name: str, shown_as: str, value: Any) -> Any:
        parameter = plan.models.get(name)
        if parameter is None:
            return value
        try:
            found = parameter.plain(value)
        except ArgumentError as error:
            raise ArgumentError(f"{task.name}: argument {shown_as!r} {error}") from None
        if found is not None:
            keys.setdefault(name, found)
        return found

    positional = [key(plan.at(n), plan.at(n), value) for n, value in enumerate(args)]
    named = {each: key(plan.of(each), each, kwargs[each]) for each in kwargs}
    about = next((name for name in plan.subject if name in keys), None)
    subject = subject_of(plan.models[about].model, keys[about]) if about is not None else None
    return Plain(positional, named, subject)


def texts(task: Described, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[str, str]:
    """Return the JSON that the entry keeps of a call's arguments, sensitive ones marked.

    Args:
        task: the task that is called.
        args: positional arguments, plain.
        kwargs: keyword arguments, plain.

    Raises:
        ArgumentError: a value cannot be kept; the text names its parameter.
    """
    plan = plan_of(task)
    if plan is not None and plan.sensitive:
        args, kwargs = _sealed(plan, args, kwargs)
    try:
        return encode(args, kwargs)
    except ArgumentError as error:
        raise ArgumentError(f"{task.name}: {_with_name(task, str(error))}") from None


def masked(
    task: Described, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """Return arguments as they may be shown.

    Args:
        task: the task.
        args: positional arguments, as the body gets them or as an entry keeps them.
        kwargs: the same for keyword arguments.
    """
    plan = plan_of(task)
    if plan is not None and plan.sensitive:
        args, kwargs = _sealed(plan, args, kwargs, lambda _: MASK)
    return shown(list(args)), shown(dict(kwargs))


def for_request(
    task: Described, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """Return arguments as ``self.request`` may have them, which Celery shows in many places.

    Args:
        task: the task.
        args: positional arguments, as an entry keeps them; the same object if nothing is hidden.
        kwargs: keyword arguments, likewise.
    """
    plan = plan_of(task)
    return (args, kwargs) if plan is None or not plan.sensitive else masked(task, args, kwargs)


def secrets(task: Described, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[str]:
    """Return the sensitive texts in a call's arguments, to be kept out of messages.

    Args:
        task: the task.
        args: positional arguments, as the body gets them.
        kwargs: keyword arguments.
    """
    plan = plan_of(task)
    if plan is None or not plan.sensitive:
        return []
    found: list[Any] = []

    def note(value: Any) -> Any:
        found.append(value)
        return value

    _sealed(plan, args, kwargs, note)
    return sorted({text for value in found for text in _leaves(value)}, key=len, reverse=True)


def _leaves(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [text for item in value.values() for text in _leaves(item)]
    if isinstance(value, list | tuple):
        return [text for item in value for text in _leaves(item)]
    text = "" if value is None or isinstance(value, bool) else str(value)
    # The text of a short number or word stands in every second message by chance.
    return [text] if len(text) > 3 else []


def _sealed(
    plan: Plan, args: Sequence[Any], kwargs: Mapping[str, Any], seal: Any = Secret
) -> tuple[Sequence[Any], Mapping[str, Any]]:
    hidden = plan.sensitive
    return (
        [seal(value) if plan.at(n) in hidden else value for n, value in enumerate(args)],
        {
            name: seal(value) if name in hidden or plan.of(name) in hidden else value
            for name, value in kwargs.items()
        },
    )


def _with_name(task: Described, message: str) -> str:
    """Put a parameter's name into a message that has only its position."""
    word, _, rest = message.partition(" ")
    number, _, tail = rest.partition(" ")
    digits, bracket, inside = number.partition("[")
    if word != "argument" or not digits.isdigit():
        return message
    places = [
        each.name
        for each in signature_of(task).parameters.values()
        if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
    ]
    n = int(digits) - 1
    return f"argument {places[n]!r}{bracket}{inside} {tail}" if n < len(places) else message
