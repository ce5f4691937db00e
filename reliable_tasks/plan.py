"""What a task says of its parameters, read once: which are models, sensitive, or the subject.

Note [Nothing to do]: a task that says nothing of the kind has no plan. Then a call costs one look
into a dictionary.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from inspect import Parameter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from django.apps import apps

from .annotations import Unusable, read
from .hints import Unresolvable, resolve
from .parameters import ON_MISSING, ModelParameter
from .signature import signature_of

if TYPE_CHECKING:
    from inspect import Signature

    from .described import Described

_KEPT_AT: Final = "_reliable_plan"
_UNREAD: Final = object()


class Fault(NamedTuple):
    """What a task says of a parameter and cannot be honoured.

    Attributes:
        kind: "unresolvable", "annotation", "option" or "lock": one for each system check.
        words: what is wrong, with the parameter's name.
        remedy: what to write instead.
    """

    kind: str
    words: str
    remedy: str


@dataclass(slots=True)
class Plan:
    """What there is to do with a task's arguments.

    Attributes:
        names: all parameters that can be passed by position, in order.
        rest: the name of ``*args``, empty if there is none.
        more: the name of ``**kwargs``, empty if there is none.
        models: the parameters that are annotated with a model.
        sensitive: the names whose values are never shown.
        subject: the parameters that the entry's subject is taken from, the first that is given;
            none that is sensitive.
        faults: what cannot be honoured.
        known: all parameters but ``*args`` and ``**kwargs``.
        by_name: those of them that can be passed by name.
    """

    names: list[str]
    rest: str = ""
    more: str = ""
    models: dict[str, ModelParameter] = field(default_factory=dict)
    sensitive: frozenset[str] = frozenset()
    subject: tuple[str, ...] = ()
    faults: list[Fault] = field(default_factory=list)
    known: frozenset[str] = frozenset()
    by_name: frozenset[str] = frozenset()

    def at(self, position: int) -> str:
        """Return the name of the parameter that a positional argument falls on."""
        return self.names[position] if position < len(self.names) else self.rest

    def hides(self, parameter: str) -> bool:
        """Tell whether a parameter, or one of the names that fall on ``**kwargs``, is sensitive."""
        others = parameter == self.more and not self.sensitive <= self.known
        return parameter in self.sensitive or others

    def of(self, name: str) -> str:
        """Return the name of the parameter that a keyword argument falls on."""
        return name if name in self.by_name else self.more


def plan_of(task: Described) -> Plan | None:
    """Return what there is to do with a task's arguments; None if nothing.

    Args:
        task: the task.
    """
    found: Any = getattr(task, _KEPT_AT, _UNREAD)
    if found is _UNREAD:
        found = _made(task)
        if apps.ready:  # before, models that an annotation names may not be there yet
            setattr(task, _KEPT_AT, found)
    kept: Plan | None = found
    return kept


def _made(task: Described) -> Plan | None:
    signature = signature_of(task)
    plan = _of_signature(signature)
    _read_annotations(task, signature, plan)
    _read_options(task, plan)
    for parameter in plan.models.values():
        _check_lock(task, parameter, plan)
    return plan if plan.models or plan.sensitive or plan.faults else None


def _of_signature(signature: Signature) -> Plan:
    plan = Plan([])
    for each in signature.parameters.values():
        if each.kind is Parameter.VAR_POSITIONAL:
            plan.rest = each.name
        elif each.kind is Parameter.VAR_KEYWORD:
            plan.more = each.name
        elif each.kind is not Parameter.KEYWORD_ONLY:
            plan.names.append(each.name)
    plan.known = frozenset(signature.parameters) - {plan.rest, plan.more}
    plan.by_name = frozenset(
        name
        for name in plan.known
        if signature.parameters[name].kind is not Parameter.POSITIONAL_ONLY
    )
    return plan


def _read_annotations(task: Described, signature: Signature, plan: Plan) -> None:
    function = getattr(task, "_orig_run", None) or task.run
    function = getattr(function, "__func__", function)
    for each in signature.parameters.values():
        if each.annotation is each.empty:
            continue
        try:
            found = read(each.name, resolve(each.annotation, function))
        except Unresolvable as error:
            plan.faults.append(
                Fault(
                    "unresolvable",
                    f"the annotation of {each.name!r} cannot be read: {error}",
                    "Whether it is a model cannot be told, so the argument is passed as it is. "
                    "Import the name in the task's module (under TYPE_CHECKING is enough).",
                )
            )
        except Unusable as error:
            words = f"the annotation of {each.name!r} cannot be honoured"
            plan.faults.append(Fault("annotation", words, _sentence(str(error))))
        else:
            if found is not None:
                plan.models[each.name] = found


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _read_options(task: Described, plan: Plan) -> None:
    _read_sensitive(task, plan)
    _read_subject(task, plan)
    if task.on_missing not in ON_MISSING:
        plan.faults.append(
            Fault(
                "option",
                f"on_missing is {task.on_missing!r}",
                f"It is one of {', '.join(map(repr, ON_MISSING))}.",
            )
        )


def _read_sensitive(task: Described, plan: Plan) -> None:
    names = {*plan.known, *filter(None, (plan.rest, plan.more))}
    sensitive = task.sensitive
    if isinstance(sensitive, str):
        plan.faults.append(
            Fault("option", "sensitive is a str", f"Write sensitive=({sensitive!r},).")
        )
        sensitive = (sensitive,)
    plan.sensitive = frozenset(sensitive)
    unknown = [] if plan.more else sorted(plan.sensitive - names)
    if unknown:
        plan.faults.append(
            Fault(
                "option",
                f"sensitive names {', '.join(map(repr, unknown))}, which is no parameter",
                f"The parameters are {', '.join(sorted(names)) or 'none'}.",
            )
        )


def _read_subject(task: Described, plan: Plan) -> None:
    in_order = [*plan.names, *sorted(plan.known.difference(plan.names))]
    plan.subject = tuple(
        name for name in in_order if name in plan.models and plan.models[name].container is None
    )
    if task.subject is None or task.subject is False:
        # Whoever sees an entry sees its subject.
        shown = tuple(name for name in plan.subject if name not in plan.sensitive)
        plan.subject = shown if task.subject is None else ()
    elif task.subject in plan.sensitive:
        plan.subject = ()
        plan.faults.append(
            Fault(
                "option",
                f"subject is {task.subject!r}, which is sensitive",
                "A subject is shown wherever its entry is. Name another one, or subject=False.",
            )
        )
    elif task.subject in plan.subject:
        plan.subject = (task.subject,)
    else:
        plan.faults.append(
            Fault(
                "option",
                f"subject is {task.subject!r}, which is no parameter with one model",
                "Name a parameter that is annotated with a model, not with a list of it.",
            )
        )


def _check_lock(task: Described, parameter: ModelParameter, plan: Plan) -> None:
    if parameter.load.for_update and not task.atomic:
        plan.faults.append(
            Fault(
                "lock",
                f"{parameter.name!r} is to be locked, but the task is not atomic",
                "A lock ends with its transaction. Add atomic=True to the task, or take "
                "for_update=True out of Load(…).",
            )
        )
