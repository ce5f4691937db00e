"""The acts on schedules in the admin: offered, confirmed, done, and kept in the log."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from django_celery_beat import admin as stock
from django_celery_beat.models import PeriodicTask

from ..errors import ReliableTasksError
from ..schedules import operations
from ..schedules.words import describe
from .schedule_acts import ACTS, Act
from .schedule_switching import SWITCHES, dated

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Any]
else:
    _ModelAdmin = object

#: Most schedules that one act touches in the admin.
ACT_LIMIT: Final = 500


class ActsMixin(_ModelAdmin):
    """Offers the acts in the list and on the page of a schedule."""

    def get_urls(self) -> list[Any]:
        """Add the page of an act on one schedule."""
        view = self.admin_site.admin_view(self.act_view)
        ours = path("<int:object_id>/act/<slug:name>/", view, name="reliable_tasks_schedule_act")
        return [ours, *super().get_urls()]

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Add the acts; leave out what goes around the occurrences or asks no permission."""
        found = super().get_actions(request)
        for name in _STOCK_ACTIONS:
            action = found.get(name)
            is_stock = action is not None and action[0].__module__ == stock.__name__
            # Its own "run" sends a message past the occurrences. The others are edits, and ask for
            # no permission: without this, who may look could disable.
            if is_stock and (name == "run_tasks" or not self.has_change_permission(request)):
                del found[name]
        for name in SWITCHES:
            if (action := found.get(name)) is not None:
                found[name] = (dated(action[0]), action[1], action[2])
        if "_popup" in request.GET:
            return found
        for act in ACTS.values():
            if may(request, act):
                found[f"reliable_{act.name}"] = (_action(act), f"reliable_{act.name}", act.title)
        return found

    def act_view(self, request: HttpRequest, object_id: int, name: str) -> HttpResponse:
        """Ask for one act on one schedule, and do it."""
        act = ACTS.get(name)
        schedule = self.get_queryset(request).filter(pk=object_id).first()
        if act is None or schedule is None:
            raise Http404
        if not self.has_view_permission(request, schedule):
            raise PermissionDenied
        back = reverse(f"admin:{_page('change')}", args=[object_id], current_app=_site(self))
        return self.confirmed_act(request, act, [schedule], back)

    def confirmed_act(
        self, request: HttpRequest, act: Act, rows: Sequence[PeriodicTask], back: str
    ) -> HttpResponse:
        """Show the confirmation of an act; when it comes back confirmed, do the act.

        Args:
            request: a POST that has the field ``confirmed`` is one.
            act: what to do.
            rows: to which schedules.
            back: where to go afterwards.
        """
        if not may(request, act):
            raise PermissionDenied
        confirmed = request.method == "POST" and "confirmed" in request.POST
        form = act.form(request.POST if confirmed else None)
        plan, told = None, ""
        if confirmed and form.is_valid():
            try:
                plan = None if act.plan is None else act.plan(rows, form.cleaned_data)
            except (ReliableTasksError, ValueError) as error:
                form.add_error(None, str(error))
            told = _told(form, plan)
            # Nothing is done but what the page has shown.
            if form.is_valid() and (act.plan is None or request.POST.get("really") == told):
                self._perform(request, act, rows, form.cleaned_data)
                return HttpResponseRedirect(back)
        found = operations.survey(rows)
        context = {
            **self.admin_site.each_context(request),
            "title": act.title,
            "opts": self.opts,
            "media": self.media,
            "act": act,
            "form": form,
            "plan": plan,
            "told": told,
            # Not ``act.plan``: a template would call it.
            "shows_first": act.plan is not None and plan is None,
            "rows": [(each, describe(each), found[each.pk].standing) for each in rows],
            "action": request.POST.get("action", ""),
            "selected_name": ACTION_CHECKBOX_NAME,
            "back": back,
        }
        return TemplateResponse(request, "admin/reliable_tasks/schedule_act.html", context)

    def _perform(
        self, request: HttpRequest, act: Act, rows: Sequence[PeriodicTask], given: dict[str, Any]
    ) -> None:
        by = f"{request.user.get_username()} in the admin"
        words = f"{capfirst(str(act.title))}. {given.get('reason', '')}".strip()
        for each in rows:
            try:
                notes = list(act.perform(each, given, by))
            except (ReliableTasksError, ValueError) as error:
                notes = [(messages.ERROR, f"“{each.name}”: {error}", None)]
            for level, text, logged in notes:
                self.message_user(request, text, level)
                if logged is not None:
                    self.log_change(request, logged, words)


def _told(form: Any, plan: Sequence[str] | None) -> str:
    """Return what stands for a plan and what it was made of, on the page that shows it."""
    given = [f"{name}={form.data.get(name, '')}" for name in form.fields if name != "reason"]
    return hashlib.sha256("\n".join([*(plan or ()), *given]).encode()).hexdigest()


_STOCK_ACTIONS: Final = ("run_tasks", "enable_tasks", "disable_tasks", "toggle_tasks")


def _action(act: Act) -> Any:
    def choose(model_admin: Any, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse:
        rows = list(queryset.order_by("name")[: ACT_LIMIT + 1])
        if len(rows) > ACT_LIMIT:
            words = _("Only the first %d of them. `manage.py reliable_tasks` does any number.")
            model_admin.message_user(request, words % ACT_LIMIT, messages.WARNING)
        elif request.POST.get("select_across") != "1":
            chosen = set(request.POST.getlist(ACTION_CHECKBOX_NAME))
            gone = len(chosen.difference(str(each.pk) for each in rows))
            if gone:
                text = ngettext(
                    "%d selected schedule was left alone: it is not in this list any more.",
                    "%d selected schedules were left alone: they are not in this list any more.",
                    gone,
                )
                model_admin.message_user(request, text % gone, messages.WARNING)
        if not rows:
            return HttpResponseRedirect(request.get_full_path())
        answer: HttpResponse = model_admin.confirmed_act(
            request, act, rows[:ACT_LIMIT], request.get_full_path()
        )
        return answer

    return choose


def may(request: HttpRequest, act: Act) -> bool:
    """Tell whether somebody may do an act."""
    return request.user.has_perm(f"reliable_tasks.{act.permission}")


def _page(name: str) -> str:
    return f"{PeriodicTask._meta.app_label}_{PeriodicTask._meta.model_name}_{name}"


def _site(model_admin: Any) -> str:
    return str(model_admin.admin_site.name)
