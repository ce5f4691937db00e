"""Lists of entries whose cost has a limit, whatever they are narrowed down by.

Note [Windows]: no index serves a filter by queue, error or worker, and one for each would cost
every enqueue. So a list that is narrowed down looks at a window: so many entries, newest first, and
a link goes on to the window before. What has ended in one state is looked at in the order in which
it ended, what is live in the order in which the sweeper sees it: for these there are indexes, so
the window holds nothing else. The entries that are about one row have an index as well, in the
order of their ids. The pages of a list end after so many rows: the link then goes on behind the
last of them.

Note [Times by ids]: there is no index on the time at which entries were enqueued; every enqueue
would pay for it, and every change of the row. But an id that is made here begins with its time. So
a list that ends at some moment begins its window at the ids of that moment, with room for clocks
that disagree, and each row's own time decides. An id that somebody else made (Celery, for a step of
a canvas; another service) tells no time. Nearly all such ids sort above those that are made here:
they make windows of their own, to which a link leads; without an end, once there are so many of
them that they would fill the first pages of what is to be newest first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from django.contrib import messages
from django.contrib.admin.views.main import ALL_VAR, PAGE_VAR
from django.db.models import Q, QuerySet
from django.db.models.lookups import Exact, GreaterThanOrEqual, In, LessThan
from django.db.models.sql.where import AND, WhereNode
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext as _

from .. import overview
from ..states import ACTIVE, ENDED, State
from . import reading
from .choosing import time_of

#: How many entries one window holds.
WINDOW: Final = 50_000
#: How many, where they ended in one state: dead letters lie scattered among what succeeded.
ENDED_WINDOW: Final = 20_000
#: The part of the address that says where a window begins.
BEFORE: Final = "before"
#: Seconds, room for clocks that disagree: ids are made by processes, times by the database.
SLACK: Final = 600.0
# Entries whose ids tell no time, and that are listed among the others all the same.
_FEW: Final = 20
_LAST_ID: Final = UUID(int=2**128 - 1)


class WindowedList(reading.OrderedList):
    """A list of entries that looks at one window at a time; see Note [Windows]."""

    def __init__(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        self._before = request.GET.get(BEFORE, "")
        self._older = ""
        self._looked_at = 0
        self._apart = False
        self._on = _("Look at older ones")
        self._mark: Callable[[Any], str] = lambda row: str(row.pk)
        super().__init__(request, *args, **kwargs)

    def get_filters(self, request: HttpRequest) -> Any:
        """Let links to other filters, and the search, begin at the newest again."""
        self.params.pop(BEFORE, None)
        self.filter_params.pop(BEFORE, None)
        return super().get_filters(request)

    def get_query_string(self, new_params: Any = None, remove: Any = None) -> str:
        """Keep where the window begins from page to page, and nowhere else."""
        if self._before and new_params and set(new_params) <= {PAGE_VAR, ALL_VAR}:
            new_params = {BEFORE: self._before, **new_params}
        return str(super().get_query_string(new_params, remove))

    def get_filters_params(self, params: Any = None) -> Any:
        """Leave out the parameter that says where the window begins."""
        found = super().get_filters_params(params)
        found.pop(BEFORE, None)
        return found

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Any]:
        """Narrow the list down, and bound what is looked at for that."""
        rows: QuerySet[Any] = super().get_queryset(request, exclude_parameters)
        return self._window(rows)

    def get_results(self, request: HttpRequest) -> None:
        """Read the page, and say what was not looked at."""
        super().get_results(request)
        if request.method != "GET":
            return
        if self._apart:
            address = self.get_query_string({BEFORE: str(_LAST_ID)})
            words = _("Steps of a canvas and others whose ids tell no time are listed apart.")
            link = format_html('<a href="{}">{}</a>', address, _("Look at them"))
            messages.info(request, format_html("{} {}", words, link))
        words, older = "", self._older
        if self.result_count >= reading.COUNTED:
            if self._looked_at or self.page_num == self.paginator.num_pages:
                words = _("The pages end after %(count)s entries.")
                words %= {"count": f"{reading.COUNTED:,}"}
                last = list(self.queryset[reading.COUNTED - 1 : reading.COUNTED])
                older = self._mark(last[0]) if last else ""
        elif self._looked_at:
            words = _("Only %(count)s entries were looked at.")
            words %= {"count": f"{self._looked_at:,}"}
        if not words:
            return
        if older:
            address = self.get_query_string({BEFORE: older})
            link = format_html(' <a href="{}">{}</a>', address, self._on)
            words = format_html("{}{}", words, link)
        messages.info(request, words)

    def _window(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        found = _conditions(rows)
        if "id" in found.fixed:
            return rows
        if found.subject is not None:
            return self._about(rows, found.subject)
        if found.states == {State.DEAD.value} and "fingerprint" in found.fixed:
            # These have an index of their own.
            return self._by_end(rows)
        if found.states and found.states <= ACTIVE:
            return self._live(rows)
        if len(found.states) == 1 and found.states <= ENDED and found.until is None:
            return self._ended(rows, found)
        return self._any(rows, found)

    def _any(self, rows: QuerySet[Any], found: _Conditions) -> QuerySet[Any]:
        whole = not rows.query.where
        within = self._span(found)
        rows, every = rows.filter(within), overview.entries().filter(within).order_by("-pk")
        if whole:
            return rows  # all there is, newest first: the page's own limit is enough
        last = every.values_list("pk", flat=True)[WINDOW - 1 : WINDOW].first()
        return rows if last is None else self._cut(rows.filter(pk__gte=last), WINDOW, str(last))

    def _span(self, found: _Conditions) -> Q:
        """Return the ids among which a window is; see Note [Times by ids]."""
        before = _uuid(self._before)
        span = Q() if before is None else Q(pk__lt=before)
        now = id_at(timezone.now(), SLACK)
        if before is not None and before > now:
            return span & Q(pk__gt=now)
        few = 0 if found.until is not None else _FEW
        timeless = overview.entries().filter(pk__gt=now).order_by("pk").values_list("pk", flat=True)
        self._apart = timeless[few : few + 1].exists()
        if found.until is not None:
            span &= Q(pk__lt=id_at(found.until, SLACK))
        elif self._apart:
            span &= Q(pk__lte=now)
        return span if found.since is None else span & Q(pk__gte=id_at(found.since, -SLACK))

    def _about(self, rows: QuerySet[Any], subject: Q) -> QuerySet[Any]:
        """Look at what is about one row, newest first."""
        every = overview.entries().filter(subject)
        before = _uuid(self._before)
        if before is not None:
            every, rows = every.filter(pk__lt=before), rows.filter(pk__lt=before)
        newest = every.order_by("-pk").values_list("pk", flat=True)
        last = newest[WINDOW - 1 : WINDOW].first()
        return rows if last is None else self._cut(rows.filter(pk__gte=last), WINDOW, str(last))

    def _ended(self, rows: QuerySet[Any], found: _Conditions) -> QuerySet[Any]:
        rows = self._by_end(rows)
        every = overview.entries().filter(state__in=found.states, finished_at__isnull=False)
        if found.since is not None:  # nothing ends before it was enqueued
            every = every.filter(finished_at__gte=found.since)
        before = time_of(self._before)
        if before is not None:
            every = every.filter(finished_at__lte=before)
        ends = every.order_by("-finished_at").values_list("finished_at", flat=True)
        last = ends[ENDED_WINDOW - 1 : ENDED_WINDOW].first()
        if last is None:
            return rows
        return self._cut(rows.filter(finished_at__gte=last), ENDED_WINDOW, last.isoformat())

    def _by_end(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        self._mark = lambda row: str(row.finished_at.isoformat())
        before = time_of(self._before)
        if before is not None:
            rows = rows.filter(finished_at__lte=before)
        return rows.filter(finished_at__isnull=False).order_by("-finished_at", "-pk")

    def _live(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        """Look at what wakes first; its rows are listed newest first, as everywhere."""
        self._on = _("Look at further ones")
        rows = rows.filter(wake_at__isnull=False)
        every = overview.entries().filter(wake_at__isnull=False)
        # After which entry the window begins, by its time and its id: many may wake at the same
        # time. Then, before which of its entries the pages do.
        wake, after, before = [*self._before.split(","), "", ""][:3]
        since, passed, below = time_of(wake), _uuid(after), _uuid(before)
        begins = ""
        if since is not None and passed is not None:
            behind = Q(wake_at__gt=since) | Q(wake_at=since, pk__gt=passed)
            rows = rows.filter(behind, wake_at__gte=since)
            every = every.filter(behind, wake_at__gte=since)
            begins = f"{wake},{after}"
        self._mark = lambda row: f"{begins or ','},{row.pk}"
        if below is not None:
            rows = rows.filter(pk__lt=below)
        ends = every.order_by("wake_at", "pk").values_list("wake_at", "pk")
        last = ends[WINDOW - 1 : WINDOW].first()
        end, pk = last or (None, None)
        if end is None:
            return rows
        rows = rows.filter(Q(wake_at__lt=end) | Q(pk__lte=pk), wake_at__lte=end)
        return self._cut(rows, WINDOW, f"{end.isoformat()},{pk}")

    def _cut(self, rows: QuerySet[Any], looked_at: int, older: str) -> QuerySet[Any]:
        self._looked_at, self._older = looked_at, older
        return rows


@dataclass(slots=True)
class _Conditions:
    """What a list is narrowed down to, as far as indexes serve it.

    Attributes:
        states: in one of these, unless there are none.
        fixed: the fields that have one value.
        subject: about this row, if about one.
        since: enqueued from then on.
        until: enqueued before.
    """

    states: frozenset[str] = frozenset()
    fixed: frozenset[str] = frozenset()
    subject: Q | None = None
    since: datetime | None = None
    until: datetime | None = None


def _conditions(rows: QuerySet[Any]) -> _Conditions:
    """Return what a list is narrowed down to."""
    found = _Conditions()
    about: dict[str, Q] = {}
    for each in _all_of(rows.query.where):
        field = getattr(getattr(each, "lhs", None), "target", None)
        if field is None:
            continue
        if field.name == "enqueued_at" and isinstance(each.rhs, datetime):
            _bound(found, each)
        if not isinstance(each, Exact | In):
            continue
        if isinstance(each, Exact) or field.primary_key:
            found.fixed |= {field.name}
        if field.name in {"subject_type", "subject_id"}:
            about[field.name] = Q(**{f"{field.name}__{each.lookup_name}": each.rhs})
        if field.name == "state":
            given = each.rhs if isinstance(each, In) else (each.rhs,)
            states = frozenset(str(state) for state in given)
            found.states = found.states & states if found.states else states
    if len(about) == 2:
        found.subject = about["subject_type"] & about["subject_id"]
    return found


def _bound(found: _Conditions, each: Any) -> None:
    if isinstance(each, GreaterThanOrEqual):
        found.since = max(filter(None, (found.since, each.rhs)))
    elif isinstance(each, LessThan):
        found.until = min(filter(None, (found.until, each.rhs)))


def _all_of(node: WhereNode) -> Iterator[Any]:
    """Yield the conditions that all must hold."""
    if node.negated or (node.connector != AND and len(node.children) > 1):
        return
    for child in node.children:
        if isinstance(child, WhereNode):
            yield from _all_of(child)
        else:
            yield child


def id_at(moment: datetime, plus: float) -> UUID:
    """Return the lowest id that is made here so many seconds after a moment."""
    milliseconds = int((moment.timestamp() + plus) * 1000)
    return UUID(int=min(max(milliseconds, 0), 2**48 - 1) << 80)


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text) if text else None
    except ValueError:
        return None
