"""Filters that stay cheap on large tables, named as a choice of entries names them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

from celery import current_app
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from .. import operations, overview
from ..states import State
from .field_filters import EnqueuedFilter, SubjectFilter
from .theme import ThemedFilter

PERIODS: Final = {
    "10m": (timedelta(minutes=10), _("last 10 minutes")),
    "1h": (timedelta(hours=1), _("last hour")),
    "24h": (timedelta(days=1), _("last 24 hours")),
    "7d": (timedelta(days=7), _("last 7 days")),
}


class ChosenFilter(ThemedFilter):
    """A filter that narrows entries down as :class:`operations.Chosen` does."""

    def condition(self, value: str) -> operations.Chosen:
        """Return the choice that a value stands for."""
        given: dict[str, Any] = {str(self.parameter_name): value}
        return operations.Chosen(**given)

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        """Narrow the list down."""
        value = self.value()
        return self.condition(value).narrow(queryset) if value else queryset


class TextFilter(ChosenFilter):
    """A filter whose value is typed in: nothing is read to offer values."""

    template = "admin/reliable_tasks/text_filter.html"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return one choice, so that Django shows the filter at all."""
        return [("", "")]

    def choices(self, changelist: Any) -> Iterator[Any]:
        """Return what the template needs: the value, and the other parameters."""
        others = changelist.get_filters_params()
        yield {
            "value": self.value() or "",
            "name": self.parameter_name,
            "others": [
                (name, each)
                for name, given in others.items()
                if name != self.parameter_name
                for each in given
            ],
            "query": changelist.query,
            "clear": changelist.get_query_string(remove=[self.parameter_name]),
            "known": self.known(),
        }

    def known(self) -> list[str]:
        """Return values to suggest."""
        return []


class StateFilter(ChosenFilter):
    """By state."""

    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Return the states."""
        return [(state.value, _(state.value)) for state in State]

    def __init__(
        self, request: HttpRequest, params: dict[str, Any], model: Any, model_admin: Any
    ) -> None:
        # Django keeps the last; an act takes all, and both must choose the same.
        self._states = tuple(filter(None, params.get("state", ())))
        super().__init__(request, params, model, model_admin)

    def condition(self, value: str) -> operations.Chosen:
        """Return the choice that the values stand for."""
        return operations.Chosen(states=self._states)

    def choices(self, changelist: Any) -> Iterator[Any]:
        """Mark all the states that are chosen."""
        names = [None, *(state.value for state in State)]
        for name, choice in zip(names, super().choices(changelist), strict=True):
            yield {**choice, "selected": name in self._states if name else not self._states}


class QueueFilter(ChosenFilter):
    """The queues that are configured, consumed, or have live entries.

    Django's own filter would read every entry there is to find their queues.
    """

    title = _("queue")
    parameter_name = "queue"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the queues to choose from."""
        names = {str(current_app.conf.task_default_queue), *current_app.amqp.queues}
        names.update(overview.live_queues())
        for worker in overview.workers():
            names.update(worker.queues)
        if chosen := self.value():
            names.add(chosen)
        return [(name, name) for name in sorted(names)]


class PeriodFilter(ChosenFilter):
    """By when they were enqueued."""

    title = _("enqueued")
    parameter_name = "period"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Return the periods."""
        return [(name, words) for name, (_length, words) in PERIODS.items()]

    def choices(self, changelist: Any) -> Iterator[Any]:
        """Let a period take the place of two moments."""
        names = (None, *PERIODS)
        for name, choice in zip(names, super().choices(changelist), strict=True):
            chosen = {"period": name} if name else {}
            removed = [*EnqueuedFilter.parameter_names, *([] if name else ["period"])]
            yield {**choice, "query_string": changelist.get_query_string(chosen, removed)}

    def condition(self, value: str) -> operations.Chosen:
        """Return the choice that a value stands for."""
        if value not in PERIODS:
            return operations.Chosen()
        since = overview.now() - PERIODS[value][0]
        return operations.Chosen(since=since.isoformat())


class TaskFilter(TextFilter):
    """By the task's name."""

    title = _("task")
    parameter_name = "task"

    def known(self) -> list[str]:
        """Return the tasks that this process knows."""
        return sorted(name for name in current_app.tasks if not name.startswith("celery."))


class ErrorFilter(TextFilter):
    """By the class of the last failure."""

    title = _("error class")
    parameter_name = "error"


class FingerprintFilter(TextFilter):
    """By the fingerprint of the last failure."""

    title = _("fingerprint")
    parameter_name = "fingerprint"


class WorkerFilter(TextFilter):
    """By the worker that held it last."""

    title = _("worker")
    parameter_name = "worker"

    def known(self) -> list[str]:
        """Return the workers that have reported themselves."""
        return [worker.identity for worker in overview.workers()[:50]]


class ScheduleFilter(TextFilter):
    """By the schedule that enqueued it."""

    title = _("schedule")
    parameter_name = "schedule"


ALL: Final = (
    StateFilter,
    PeriodFilter,
    EnqueuedFilter,
    QueueFilter,
    TaskFilter,
    ErrorFilter,
    FingerprintFilter,
    WorkerFilter,
    ScheduleFilter,
    SubjectFilter,
)
