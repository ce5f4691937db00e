"""Filters with several fields of their own, named as a choice of entries names them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from .. import operations
from .labels import known_labels, label_of
from .moments import moment_of, typed


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a filter.

    Attributes:
        name: of the parameter in the list's address.
        label: what it asks for.
        value: what is in it.
        kind: of the input.
        known: values to suggest.
    """

    name: str
    label: str
    value: str
    kind: str = "text"
    known: tuple[str, ...] = ()


class FieldsFilter(admin.ListFilter):
    """A filter whose values are typed into fields: it works without a script."""

    template = "admin/reliable_tasks/fields_filter.html"
    #: The parameters in the list's address.
    parameter_names: tuple[str, ...] = ()
    #: Parameters that this filter takes the place of.
    instead_of: tuple[str, ...] = ()

    def __init__(
        self, request: HttpRequest, params: dict[str, Any], model: Any, model_admin: Any
    ) -> None:
        super().__init__(request, params, model, model_admin)
        for name in self.parameter_names:
            if texts := params.pop(name, None):
                self.used_parameters[name] = str(texts[-1]).strip()

    @property
    def parameter_name(self) -> str:
        """What a theme that knows filters by one parameter knows this one by, as django-unfold."""
        return self.parameter_names[0]

    def has_output(self) -> bool:
        """Show it always: nothing is read to offer values."""
        return True

    def expected_parameters(self) -> list[str | None]:
        """Return the parameters in the list's address."""
        return list(self.parameter_names)

    def given(self, name: str) -> str:
        """Return what a parameter says; empty for nothing."""
        return str(self.used_parameters.get(name, ""))

    def fields(self) -> list[Field]:
        """Return the fields."""
        raise NotImplementedError

    def note(self) -> str:
        """Return what to know when one fills the fields in."""
        return ""

    def wrong(self) -> str:
        """Return what is wrong with what was typed; empty for nothing."""
        return ""

    def condition(self) -> operations.Chosen:
        """Return the choice that the values stand for."""
        raise NotImplementedError

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        """Narrow the list down; to nothing, where it cannot be told to what."""
        if not any(self.given(name) for name in self.parameter_names):
            return queryset
        return queryset.none() if self.wrong() else self.condition().narrow(queryset)

    def choices(self, changelist: Any) -> Iterator[Any]:
        """Return what the template needs: the fields, and the other parameters."""
        gone = {*self.parameter_names, *self.instead_of}
        others = changelist.get_filters_params()
        yield {
            "fields": self.fields(),
            "note": self.note(),
            "wrong": self.wrong(),
            "open": any(self.given(name) for name in self.parameter_names),
            "others": [
                (name, each) for name, given in others.items() if name not in gone for each in given
            ],
            "query": changelist.query,
            "clear": changelist.get_query_string(remove=list(self.parameter_names)),
        }


class EnqueuedFilter(FieldsFilter):
    """By when they were enqueued, from one moment to another."""

    title = gettext_lazy("enqueued, from and to")
    parameter_names = ("since", "until")
    instead_of = ("period",)

    def fields(self) -> list[Field]:
        """Return both moments."""
        labels = {"since": _("From"), "until": _("To")}
        return [
            Field(name, labels[name], typed(self.given(name)), "datetime-local")
            for name in self.parameter_names
        ]

    def note(self) -> str:
        """Tell in whose time the fields are."""
        return _("Time zone: %s") % timezone.get_current_timezone_name()

    def wrong(self) -> str:
        """Say what is no time."""
        for name in self.parameter_names:
            if (text := self.given(name)) and moment_of(text) is None:
                return _("“%s” is no time.") % text[:40]
        since, until = self._moments()
        if since and until and since >= until:
            return _("“To” is not later than “From”.")
        return ""

    def condition(self) -> operations.Chosen:
        """Return the choice of what was enqueued between both."""
        since, until = self._moments()
        return operations.Chosen(since=since, until=until)

    def _moments(self) -> tuple[str, str]:
        since = moment_of(self.given("since"))
        until = moment_of(self.given("until"), late=True)
        return since.isoformat() if since else "", until.isoformat() if until else ""


class SubjectFilter(FieldsFilter):
    """By the row of the project's that they are about."""

    title = gettext_lazy("what it is about")
    parameter_names = ("subject_type", "subject_id")

    def fields(self) -> list[Field]:
        """Return the model and the primary key."""
        return [
            Field(
                "subject_type",
                _("Model"),
                self.given("subject_type"),
                known=tuple(known_labels()),
            ),
            Field("subject_id", _("Primary key"), self.given("subject_id")),
        ]

    def note(self) -> str:
        """Tell how a model is named."""
        return _("As shop.order, or order alone.")

    def condition(self) -> operations.Chosen:
        """Return the choice of what is about such a row."""
        model = self.given("subject_type")
        return operations.Chosen(
            subject_type=label_of(model) if model else "", subject_id=self.given("subject_id")
        )
