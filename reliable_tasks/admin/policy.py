"""The policy of a schedule, on the schedule's page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from django.contrib import admin
from django.db import models
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from ..models import SchedulePolicy
from ..occurrence import CatchUp, Overlap

if TYPE_CHECKING:
    _StackedInline = admin.StackedInline[SchedulePolicy, Any]
else:
    _StackedInline = admin.StackedInline

_LABELS: Final[dict[str, dict[Any, Any]]] = {
    "catch_up": {
        CatchUp.SKIP: _("skip: none of them runs"),
        CatchUp.LATEST: _("latest: the newest runs"),
        CatchUp.ALL: _("all: they run one by one, up to the limit"),
    },
    "overlap": {
        Overlap.ALLOW: _("allow: both run"),
        Overlap.SKIP: _("skip: the new one does not run"),
        Overlap.BUFFER: _("buffer: one waits until the earlier has ended"),
        Overlap.CANCEL: _("cancel: the earlier one is cancelled"),
    },
}


class SchedulePolicyInline(_StackedInline):
    """What a schedule does besides its due times. Who may edit the schedule may edit this."""

    model = SchedulePolicy
    min_num = 1
    max_num = 1
    extra = 0
    can_delete = False
    verbose_name = _("policy")
    verbose_name_plural = _("Policy")
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("catch_up", "catch_up_limit", "catch_up_window"),
                    ("misfire_grace", "jitter"),
                    "overlap",
                    ("pause_after_failures", "max_runs"),
                )
            },
        ),
    )

    def formfield_for_dbfield(
        self, db_field: models.Field[Any, Any], request: Any, **kwargs: Any
    ) -> Any:
        """Say what each choice means, and how a length of time is written."""
        field: Any = super().formfield_for_dbfield(db_field, request, **kwargs)
        labels = _LABELS.get(db_field.name)
        if labels is not None and field is not None:
            field.choices = [(choice.value, label) for choice, label in labels.items()]
        if isinstance(db_field, models.DurationField) and field is not None:
            field.widget.attrs["placeholder"] = "hh:mm:ss"
        return field

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Who may see the schedule may see its policy."""
        return request.user.has_perm("django_celery_beat.view_periodictask") or self._may(request)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Who may edit the schedule may give it a policy."""
        return self._may(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Who may edit the schedule may edit its policy."""
        return self._may(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """It goes with its schedule."""
        return False

    @staticmethod
    def _may(request: HttpRequest) -> bool:
        user = request.user
        return user.has_perm("django_celery_beat.change_periodictask") or user.has_perm(
            "django_celery_beat.add_periodictask"
        )
