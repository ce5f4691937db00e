"""Enable, disable and toggle in the list of schedules, which django-celery-beat writes in passing.

Its statements change ``enabled`` and not when: a beat would take a schedule that was made long ago
and is enabled now as one that has been due ever since.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Final

from django.db import router, transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django_celery_beat.models import PeriodicTask

from .. import overview

SWITCHES: Final = ("enable_tasks", "disable_tasks", "toggle_tasks")

_Action = Callable[[Any, HttpRequest, QuerySet[Any]], Any]


def dated(switch: _Action) -> _Action:
    """Return an action that does the same, and notes when it enabled or disabled a schedule."""

    @wraps(switch)
    def act(model_admin: Any, request: HttpRequest, queryset: QuerySet[Any]) -> Any:
        alias = router.db_for_write(PeriodicTask)
        with transaction.atomic(using=alias):
            before = dict(queryset.order_by().values_list("pk", "enabled"))
            answer = switch(model_admin, request, queryset)
            rows = PeriodicTask.objects.using(alias).filter(pk__in=list(before))
            switched: dict[bool, list[int]] = {True: [], False: []}
            for schedule, enabled in rows.values_list("pk", "enabled"):
                if enabled != before[schedule]:
                    switched[enabled].append(schedule)
            now = overview.now()
            rows.filter(pk__in=switched[True]).update(date_changed=now)
            # A schedule that is disabled forgets its last run, as when it is saved.
            rows.filter(pk__in=switched[False]).update(date_changed=now, last_run_at=None)
        return answer

    return act
