"""From a call to the key that it takes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from inspect import Parameter
from typing import TYPE_CHECKING, Any
from uuid import UUID

from . import codec, dedup, options, spelled
from .dedup import Hold, Policy
from .errors import OptionError
from .ledger import NewEntry
from .plan import plan_of
from .signature import bind, signature_of

if TYPE_CHECKING:
    from .task import ReliableTask


def policy_of(task: ReliableTask, call: Mapping[str, Any]) -> Policy | None:
    """Return how one call of a task is deduplicated, None for not at all.

    A call's own ``once`` goes before the task's, option by option. A call that Celery makes for a
    retry (with ``retries``) takes no key, because the task that is retried has it.

    Args:
        task: the task.
        call: the call's options.

    Raises:
        OptionError: an option is unknown or cannot be meant.
    """
    own, given = task.once, call.get("once")
    if (own is None and given is None) or given is False or call.get("retries"):
        return None
    if isinstance(given, Mapping):
        own = {**(own if isinstance(own, Mapping) else {}), **given}
        return dedup.parse(task.name, own)
    if given is not None and given is not True:
        raise OptionError(f"{task.name}: once must be True, False or a dict, not {given!r}.")
    known = vars(task).get(_PARSED)
    if known is None or known[0] is not own:
        policy = dedup.parse(task.name, own)
        known = (own, policy)
        setattr(task, _PARSED, known)
    found: Policy | None = known[1]
    return Policy() if found is None and given is True else found


_PARSED = "_reliable_tasks_once"


def with_key(
    task: ReliableTask,
    entry: NewEntry,
    policy: Policy,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> NewEntry:
    """Return a new entry together with the key that it is to take.

    Args:
        task: the task that is called.
        entry: the entry, its arguments encoded.
        policy: how the call is deduplicated.
        args: the call's positional arguments, as they were given.
        kwargs: the call's keyword arguments, as they were given.

    Raises:
        ArgumentError: what a key is made of cannot be kept.
        OptionError: the policy names a parameter that the task does not have.
        TypeError: the arguments do not fit the task's signature.
    """
    hold = _hold(task, entry, policy, args, kwargs)
    kept = {**options.loads(entry.options), dedup.KEPT_AS: hold.kept()}
    # A debounced entry waits for a quiet time, unless the call names its own.
    delay = entry.delay
    if policy.wait is not None and entry.due_at is None and not delay:
        delay = policy.wait
    return replace(entry, hold=hold, options=options.dumps(kept), delay=delay)


def moved(
    task: ReliableTask,
    own: Hold,
    before: tuple[str, str],
    after: tuple[str, str],
) -> Hold | None:
    """Return the key that an entry takes with other arguments.

    Args:
        task: its task.
        own: the key that it took.
        before: its arguments, as the codec wrote them.
        after: the other ones, likewise.

    Returns:
        What it takes instead; None if the task, as it is here, does not make the key that it took:
        the call had a ``once`` of its own, or the task has another by now.

    Raises:
        ArgumentError: what a key is made of cannot be kept.
        OptionError: the policy names a parameter that the task does not have.
        TypeError: the arguments do not fit the task's signature.
    """
    policy = policy_of(task, {})
    if policy is None or _made(task, policy, before)[0] != own.digest:
        return None
    digest, text, arguments = _made(task, policy, after)
    return replace(own, digest=digest, text=text, arguments=arguments)


def _made(task: ReliableTask, policy: Policy, texts: tuple[str, str]) -> tuple[UUID, str, str]:
    arguments = kept_arguments(task, *texts)
    return *_key(task, policy, arguments, *codec.decode(*texts)), dedup.argument_digest(arguments)


def _hold(
    task: ReliableTask,
    entry: NewEntry,
    policy: Policy,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> Hold:
    arguments = kept_arguments(task, entry.args, entry.kwargs)
    digest, text = _key(task, policy, arguments, args, kwargs)
    return Hold(
        digest=digest,
        text=text,
        arguments=dedup.argument_digest(arguments),
        blocks=policy.blocks,
        window=policy.window,
        period=policy.period,
        holds_dead=policy.holds_dead,
    )


def _key(
    task: Any,
    policy: Policy,
    arguments: dict[str, Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> tuple[UUID, str]:
    hidden = _hidden(task, arguments)
    if policy.key is not None:  # it goes before a text, which the task has for all its calls
        made = callable(policy.key)  # of any of the arguments
        value = policy.key(*args, **kwargs) if callable(policy.key) else policy.key
        plain = {"key": _plain(value, "once['key']")}
        digest = dedup.digest_of("value", task.name, plain)
        return digest, dedup.readable(task.name, plain, plain if made and hidden else (), digest)
    check_keys(task, policy)
    written = spelled.written(task, policy.keys, args, kwargs)
    chosen, more = _chosen(task, policy, arguments)
    if more and not hidden.isdisjoint(chosen[more]):
        hidden |= {more}
    if policy.textual or (written is not None and task.key_is_text):
        digest, text = spelled.textual(written or spelled.spelling(task, policy.keys, args, kwargs))
        return digest, dedup.readable(task.name, chosen, hidden, digest) if hidden else text
    digest = dedup.digest_of("arguments", task.name, chosen)
    if written is not None:
        return digest, spelled.readable_text(task, written)
    return digest, dedup.readable(task.name, chosen, hidden, digest)


def _chosen(task: Any, policy: Policy, arguments: dict[str, Any]) -> tuple[Mapping[str, Any], str]:
    """Return what of a call's arguments makes its key, and where all extra names together are."""
    if policy.keys is None:
        return arguments, ""
    # One of **kwargs that is not passed counts as None.
    chosen = {name: arguments.get(name) for name in policy.keys}
    parameters = signature_of(task).parameters
    for name, each in parameters.items():
        if each.kind is Parameter.VAR_KEYWORD and name in chosen:
            extra = {other: arguments[other] for other in arguments if other not in parameters}
            chosen[name] = extra | (arguments.get(name) or {})
            return chosen, name
    return chosen, ""


def kept_arguments(task: ReliableTask, args_text: str, kwargs_text: str) -> dict[str, Any]:
    """Return what an entry keeps of each parameter; defaults filled in, extra names flattened.

    An extra name that is also a parameter's (``f(a, /, **more)`` may be given two ``a``) stays
    under the name of ``**kwargs``.

    Args:
        task: its task.
        args_text: its positional arguments, as the codec wrote them.
        kwargs_text: its keyword arguments, likewise.
    """
    # A value is the same whether its parameter is sensitive or not: the mark is no part of it, so
    # that a default, which has none, and what was kept before it was sensitive are equal to it.
    args = json.loads(args_text, object_hook=codec.unsealed)
    kwargs = json.loads(kwargs_text, object_hook=codec.unsealed)
    passed = signature_of(task).bind(*args, **kwargs).arguments
    bound = bind(task, args, kwargs)
    arguments: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        parameters = bound.signature.parameters
        if parameters[name].kind is Parameter.VAR_KEYWORD:
            arguments |= {each: value[each] for each in value if each not in parameters}
            namesakes = {each: value[each] for each in value if each in parameters}
            arguments |= {name: namesakes} if namesakes else {}
        else:
            arguments[name] = value if name in passed else _default(value)
    return arguments


def check_keys(task: ReliableTask, policy: Policy | None) -> None:
    """Refuse a policy whose ``keys`` name a parameter that the task does not have.

    Args:
        task: the task.
        policy: how its calls are deduplicated.

    Raises:
        OptionError: it does.
    """
    parameters = signature_of(task).parameters
    takes_any = any(each.kind is Parameter.VAR_KEYWORD for each in parameters.values())
    for name in (policy.keys or ()) if policy is not None else ():
        if name not in parameters and not takes_any:
            raise OptionError(
                f"{task.name}: once: keys names {name!r}, which is no parameter of the task. "
                f"It has: {', '.join(parameters) or 'none'}."
            )


def _default(value: Any) -> Any:
    """Return a default as the codec keeps what is passed."""
    try:
        return _plain(value, "")
    except TypeError:
        # Nobody can pass it, so who leaves it out means the same. No value has this mark.
        return {"__type__": "default", "value": "its default"}


def _plain(value: Any, where: str) -> Any:
    try:
        return json.loads(codec.encode((value,), {})[0])[0]
    except TypeError as error:
        raise type(error)(str(error).replace("argument 1", where, 1)) from None


def _hidden(task: ReliableTask, arguments: Mapping[str, Any]) -> frozenset[str]:
    """Return the names, as :func:`kept_arguments` has them, of what must not be shown."""
    plan = plan_of(task)
    named = plan.sensitive if plan is not None else frozenset()
    if plan is None or not plan.more:
        return named
    if plan.more in named:
        named |= {name for name in arguments if name not in signature_of(task).parameters}
    return named if named.isdisjoint(arguments.get(plan.more, ())) else named | {plan.more}
