"""Schedules in the admin: django-celery-beat's own page, with what this package adds to it.

Whatever admin a project has registered for ``PeriodicTask`` is kept and built upon.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import wraps
from typing import Any, Final

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django_celery_beat import admin as stock
from django_celery_beat.models import PeriodicTask

from ..schedules import operations
from ..schedules.operations import Survey
from ..schedules.words import describe
from . import schedule_pages as pages
from .policy import SchedulePolicyInline
from .schedule_acting import ActsMixin, may
from .schedule_acts import ACTS, Act
from .schedule_deleting import DeletingMixin

_PARTS: Final = ("interval", "crontab", "solar", "clocked", "reliable_policy")
_STOCK_TEMPLATE: Final = stock.PeriodicTaskAdmin.change_form_template


class ScheduleAdminMixin(ActsMixin, DeletingMixin):
    """What is added to the admin of schedules. For an admin of your own: put it first."""

    # -- the list ---------------------------------------------------------------------------------

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Read all that a line shows in one query."""
        rows = super().get_queryset(request)
        return rows.select_related(*_PARTS)

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Look at all schedules of a page at once: one by one would be queries for each."""
        page = super().get_changelist_instance(request)
        rows = list(page.result_list)
        found = operations.survey(rows)
        for row in rows:
            row.reliable_survey = found[row.pk]
        return page

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Say above the list what is wrong with the beats that see to all of them."""
        if request.method == "GET":
            for text, remedy in (*pages.inside_workers(), *pages.other_schedulers()):
                self.message_user(request, f"{text} {remedy}", messages.WARNING)
        answer: HttpResponse = super().changelist_view(request, extra_context)
        return answer

    def get_list_display(self, request: HttpRequest) -> Any:
        """Show how each schedule stands; in place of the columns of django-celery-beat, if those.

        A project that has chosen its columns keeps them.
        """
        shown = super().get_list_display(request)
        ours = ("stands", "when", "last_due", "next_due")
        if tuple(shown) == tuple(stock.PeriodicTaskAdmin.list_display):
            return ("name", "enabled", *ours)
        return (*shown, *ours)

    @admin.display(description=_("stands"))
    def stands(self, schedule: PeriodicTask) -> SafeString:
        """Show how it stands, in a word."""
        standing = _survey(schedule).standing
        reason = standing.problem or (standing.pause_reason if standing.paused else "")
        return format_html('<span title="{}">{}</span>', reason, pages.standing_word(standing))

    @admin.display(description=_("when"))
    def when(self, schedule: PeriodicTask) -> str:
        """Show its due times in words."""
        return capfirst(describe(schedule)) if schedule.pk else "-"

    @admin.display(description=_("handled until"))
    def last_due(self, schedule: PeriodicTask) -> SafeString | str:
        """Show how far its due times are accounted for."""
        until = _survey(schedule).standing.handled_until
        return "-" if until is None else _short(until)

    @admin.display(description=_("next run"))
    def next_due(self, schedule: PeriodicTask) -> SafeString | str:
        """Show when it is due next, and whether a pause skips that."""
        coming = _survey(schedule).next_run
        if coming is None:
            return "-"
        when = _short(coming.fires_at)
        return format_html("{} ({})", when, gettext("paused")) if coming.paused else when

    # -- one schedule -----------------------------------------------------------------------------

    change_form_template = "admin/reliable_tasks/schedule_change_form.html"

    @property
    def media(self) -> forms.Media:
        """Add the style sheet and the script of the pages."""
        ours = forms.Media(
            css={"all": ("reliable_tasks/admin.css", "reliable_tasks/schedules.css")},
            js=("reliable_tasks/schedules.js",),
        )
        return super().media + ours

    def get_inlines(self, request: HttpRequest, obj: Any) -> list[Any]:
        """Add the policy."""
        return [*super().get_inlines(request, obj), SchedulePolicyInline]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Add what the page shows."""
        shown = super().get_readonly_fields(request, obj)
        return (*shown, "when", "how_it_stands", "last_ten", "next_ten")

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Begin with how the schedule stands and end with its runs."""
        # The words that are put in place of crontab_translation are of every kind of schedule.
        sets = [_with_words(each) for each in super().get_fieldsets(request, obj)]
        if obj is None:
            return sets
        standing = (_("Standing"), {"fields": ("how_it_stands", "when")})
        runs = (_("Runs"), {"fields": ("next_ten", "last_ten")})
        return [standing, *sets, runs]

    @admin.display(description=_("standing"))
    def how_it_stands(self, schedule: PeriodicTask) -> SafeString:
        """Show how it stands and what is wrong with it."""
        return pages.how_it_stands(schedule)

    @admin.display(description=_("last ten runs"))
    def last_ten(self, schedule: PeriodicTask) -> SafeString:
        """Show its last occurrences."""
        return pages.last_runs(schedule)

    @admin.display(description=_("next ten runs"))
    def next_ten(self, schedule: PeriodicTask) -> SafeString:
        """Show what comes."""
        return pages.next_runs(schedule)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Say what the page is built upon, and which acts are offered."""
        parent = super().change_form_template
        # The stock page has an inline script, which a content security policy forbids; a script
        # file of ours does the same.
        stocks = parent in (None, _STOCK_TEMPLATE)
        context["reliable_tasks_parent"] = "admin/change_form.html" if stocks else parent
        schedule = kwargs.get("obj")
        context["reliable_tasks_acts"] = [] if schedule is None else _offered(request, schedule)
        return super().render_change_form(request, context, *args, **kwargs)


def _knows_ours(knows: Callable[[Any], bool]) -> Callable[[Any], bool]:
    @wraps(knows)
    def known(scheduler: Any) -> bool:
        return scheduler == "reliable" or knows(scheduler)

    return known


# The stock list imports what CELERY_BEAT_SCHEDULER names; Celery knows that name by an entry point.
stock.is_database_scheduler = _knows_ours(stock.is_database_scheduler)


def _survey(schedule: PeriodicTask) -> Survey:
    found: Survey | None = getattr(schedule, "reliable_survey", None)
    return found or operations.survey([schedule])[schedule.pk]


def _offered(request: HttpRequest, schedule: PeriodicTask) -> list[Act]:
    """Return the acts that a user may do to a schedule, and that would change something."""
    useless = "pause" if _survey(schedule).standing.paused else "resume"
    return [act for act in ACTS.values() if act.name != useless and may(request, act)]


def _short(at: datetime) -> SafeString:
    local = timezone.localtime(at)
    return format_html(
        '<span class="reliable-tasks-line" title="{}">{}</span>',
        local.isoformat(sep=" "),
        date_format(local, "j M H:i:s"),
    )


def _with_words(fieldset: Any) -> Any:
    title, options = fieldset
    fields = [each for each in options["fields"] if each != "crontab_translation"]
    return title, {**options, "fields": fields}


def take_over(site: admin.AdminSite) -> None:
    """Build upon the admin of schedules that a site has, unless that was done before.

    Args:
        site: the admin site.
    """
    before = type(site._registry[PeriodicTask]) if site.is_registered(PeriodicTask) else None
    if before is not None and issubclass(before, ScheduleAdminMixin):
        return
    base = before or stock.PeriodicTaskAdmin
    if before is not None:
        site.unregister(PeriodicTask)
    site.register(PeriodicTask, type("ScheduleAdmin", (ScheduleAdminMixin, base), {}))


take_over(admin.site)
