"""A call's arguments as a tree that people can read, with links to the rows that they name."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from django.apps import apps
from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from ..hints import Unresolvable, resolve
from ..models import Entry
from ..operations import known_task
from ..signature import signature_of
from ..task import ReliableTask

_TAG: Final = "__type__"
_LONGEST: Final = 2_000
_MOST_NODES: Final = 500


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a call.

    Attributes:
        name: the parameter's name, or its place where the task is not known here.
        value: its value as a tree.
        link: the page of the row that it names, if there is one that the reader may see.
    """

    name: str
    value: SafeString
    link: str = ""


def arguments_of(
    entry: Entry, shown: tuple[list[Any], dict[str, Any]], request: HttpRequest
) -> list[Argument]:
    """Return an entry's arguments by name.

    Args:
        entry: the entry.
        shown: its arguments without what is sensitive.
        request: whose user follows the links.
    """
    args, kwargs = shown
    names, models = _parameters(entry.task)
    budget = Budget(_MOST_NODES)
    pairs = [(_name(names, place), value) for place, value in enumerate(args)]
    return [
        Argument(name, tree(value, budget), _link(models.get(name), value, request))
        for name, value in [*pairs, *kwargs.items()]
    ]


class Budget:
    """How much of a tree may still be shown.

    Args:
        left: how many nodes.
    """

    def __init__(self, left: int) -> None:
        self.left = left

    def spend(self) -> bool:
        """Take one; False if none is left."""
        self.left -= 1
        return self.left >= 0


def tree(value: Any, budget: Budget) -> SafeString:
    """Return a JSON value as nested lists, escaped.

    Args:
        value: the value, as the codec keeps it.
        budget: how much may be shown.
    """
    if not budget.spend():
        return format_html('<span class="reliable-tasks-quiet">{}</span>', "…")
    if isinstance(value, dict) and _TAG in value:
        inner = tree(value.get("value"), budget)
        return format_html(
            '{} <span class="reliable-tasks-quiet">{}</span>', inner, str(value[_TAG])
        )
    if isinstance(value, dict) and value:
        parts = ((key, tree(item, budget)) for key, item in _some(value.items(), budget))
        inside = format_html_join("", "<dt>{}</dt><dd>{}</dd>", parts)
        return format_html('<dl class="reliable-tasks-tree">{}</dl>', inside)
    if isinstance(value, list) and value:
        items = ((tree(item, budget),) for item in _some(value, budget))
        inside = format_html_join("", "<li>{}</li>", items)
        return format_html('<ol class="reliable-tasks-tree" start="0">{}</ol>', inside)
    return _leaf(value)


def _some(items: Any, budget: Budget) -> Iterator[Any]:
    for item in items:
        yield item
        if budget.left <= 0:
            return


def _leaf(value: Any) -> SafeString:
    if not isinstance(value, str):
        words = {True: "true", False: "false", None: "null"}
        plain = isinstance(value, bool) or value is None
        return format_html("<code>{}</code>", words[value] if plain else str(value))
    text = value
    if len(text) > _LONGEST:
        more = _("%d characters more") % (len(text) - _LONGEST)
        text = f"{text[:_LONGEST]} … {more}"
    return format_html('<span class="reliable-tasks-value">{}</span>', text or '""')


def _name(names: list[str], place: int) -> str:
    return names[place] if place < len(names) else _("argument %d") % place


def _parameters(task_name: str) -> tuple[list[str], dict[str, type[Model]]]:
    task = known_task(task_name)
    if not isinstance(task, ReliableTask):
        return [], {}
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = signature_of(task).parameters.values()
    names = [each.name for each in parameters if each.kind in positional]
    return names, {
        each.name: model for each in parameters if (model := _model_of(task, each)) is not None
    }


def _model_of(task: ReliableTask, parameter: inspect.Parameter) -> type[Model] | None:
    try:
        annotation = resolve(parameter.annotation, getattr(task, "_orig_run", None) or task.run)
    except Unresolvable:
        return None
    kinds = [annotation, *typing.get_args(annotation)]
    found = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Model)]
    return found[0] if found else None


def _link(model: type[Model] | None, value: Any, request: HttpRequest) -> str:
    if model is None or isinstance(value, list):
        return ""
    pk = value.get("value") if isinstance(value, dict) else value
    return link_to(model, pk, request)


def link_to(model: type[Model], pk: Any, request: HttpRequest) -> str:
    """Return the address of a row's page in the admin; empty if its reader may not see it.

    Args:
        model: the row's model.
        pk: its primary key.
        request: whose user follows the link.
    """
    page = admin.site._registry.get(model)
    if pk in (None, "") or page is None or not page.has_view_permission(request):
        return ""
    try:
        return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_change", args=[pk])
    except NoReverseMatch:
        return ""


def subject_link(entry: Entry, request: HttpRequest) -> str:
    """Return the address of the page of the row that an entry is about, if there is one."""
    if not entry.subject_type or not entry.subject_id:
        return ""
    try:
        model = apps.get_model(entry.subject_type)
    except (LookupError, ValueError):
        return ""
    return link_to(model, entry.subject_id, request)


def entries_about(entry: Entry) -> str:
    """Return the address of the list of all entries that are about the same row; empty for none."""
    if not entry.subject_type or not entry.subject_id:
        return ""
    query = {"subject_type": entry.subject_type, "subject_id": entry.subject_id}
    return f"{reverse('admin:reliable_tasks_entry_changelist')}?{urlencode(query)}"
