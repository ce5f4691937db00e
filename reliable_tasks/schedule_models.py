"""The tables of schedules. Read them freely; only ``reliable_tasks.ledger`` writes them.

Two are people's and not the ledger's: :class:`SchedulePolicy` is edited in the admin, and
:class:`DeclaredSchedule` is written by the sync of schedules that are declared in code.
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Any

from django.apps import apps
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from .occurrence import CatchUp, Cause, Fate, Overlap, Trigger

_PERIODIC_TASK = "django_celery_beat.PeriodicTask"
_NAME = 255
#: Most late due times of a schedule that catch-up may run; they are looked at together.
MOST_CAUGHT_UP = 10_000


def _choices(kind: type[StrEnum]) -> list[tuple[str, Any]]:
    return [(member.value, _(member.value)) for member in kind]


def _at_least(least: timedelta) -> list[MinValueValidator]:
    return [MinValueValidator(least)]


def _tell_beats() -> None:
    changes: Any = apps.get_model("django_celery_beat", "PeriodicTasks")
    changes.update_changed()


class SchedulePolicy(models.Model):
    """What a schedule does besides its due times. A schedule without one has these defaults."""

    schedule = models.OneToOneField(
        _PERIODIC_TASK, on_delete=models.CASCADE, primary_key=True, related_name="reliable_policy"
    )
    catch_up = models.CharField(
        max_length=8,
        choices=_choices(CatchUp),
        default=CatchUp.LATEST,
        help_text=_(
            "What becomes of due times that nobody handled in time, because no beat or database "
            "was up: none of them runs, the newest, or all up to a limit."
        ),
    )
    catch_up_limit = models.PositiveIntegerField(
        default=10,
        validators=[MinValueValidator(1), MaxValueValidator(MOST_CAUGHT_UP)],
        help_text=_("Most late due times that run when catch-up is “all”; the newest ones."),
    )
    catch_up_window = models.DurationField(
        null=True,
        blank=True,
        validators=_at_least(timedelta(0)),
        help_text=_("A due time longer ago than this never runs. Empty: no limit."),
    )
    misfire_grace = models.DurationField(
        default=timedelta(seconds=60),
        validators=_at_least(timedelta(seconds=1)),
        help_text=_("How late a due time may be handled and still count as in time."),
    )
    overlap = models.CharField(
        max_length=8,
        choices=_choices(Overlap),
        default=Overlap.ALLOW,
        help_text=_("What becomes of a due time while an earlier run has not ended."),
    )
    jitter = models.DurationField(
        default=timedelta(0),
        validators=_at_least(timedelta(0)),
        help_text=_(
            "Fire up to this much after each due time. The delay is the same each time, and "
            "differs from schedule to schedule."
        ),
    )
    pause_after_failures = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text=_("Pause when this many runs in a row have ended as dead. Empty: never."),
    )
    max_runs = models.PositiveIntegerField(
        null=True,
        blank=True,
        help_text=_("Disable the schedule after this many runs. Empty: no limit."),
    )

    class Meta:
        verbose_name = _("schedule policy")
        verbose_name_plural = _("schedule policies")
        # Of schedules: their own table is django-celery-beat's.
        permissions = [
            ("run_schedule", "Can run schedules now"),
            ("backfill_schedule", "Can backfill schedules"),
            ("pause_schedule", "Can pause and resume schedules"),
        ]

    def __str__(self) -> str:
        return f"{self.catch_up}, overlap {self.overlap}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save, and let every beat read its schedules again."""
        super().save(*args, **kwargs)
        _tell_beats()

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        """Delete, and let every beat read its schedules again."""
        deleted = super().delete(*args, **kwargs)
        _tell_beats()
        return deleted


class ScheduleState(models.Model):
    """How far a schedule has come, and what is known of it beside its row.

    ``handled_until``, ``runs`` and ``buffered`` move ahead in the transaction that writes the
    occurrences of its due times. Run now, backfill, pauses and edits write here, too, each in the
    transaction of what it does; ``problem`` and what tells of other schedulers are only notes.
    """

    schedule = models.OneToOneField(
        _PERIODIC_TASK, on_delete=models.CASCADE, primary_key=True, related_name="reliable_state"
    )
    #: The definition whose due times ``handled_until`` speaks of, as ``schedules.spec`` writes it.
    spec = models.JSONField(default=dict)
    #: Every due time up to and including this one is accounted for.
    handled_until = models.DateTimeField()
    #: Whether the schedule was enabled when a beat last saw it.
    active = models.BooleanField(default=True)
    #: Runs since the schedule was created, enabled again, or reset.
    runs = models.PositiveIntegerField(default=0)
    #: A due time that waits until an earlier run has ended (overlap "buffer").
    buffered = models.DateTimeField(null=True, blank=True)
    #: The latest pause: it covers due times from ``paused_at`` until before ``paused_until``.
    paused_at = models.DateTimeField(null=True, blank=True)
    paused_until = models.DateTimeField(null=True, blank=True)
    pause_reason = models.TextField(default="", blank=True)
    #: Failures that ended before this do not count for ``pause_after_failures``.
    failures_since = models.DateTimeField(null=True, blank=True)
    #: ``last_run_at`` of the schedule's row as a beat of ours left it.
    fired_at = models.DateTimeField(null=True, blank=True)
    #: When it ran, last, without a beat of ours: another scheduler is at work.
    ran_elsewhere_at = models.DateTimeField(null=True, blank=True)
    #: What was due up to this instant may have fired and been pruned.
    pruned_until = models.DateTimeField(null=True, blank=True)
    #: Why the schedule's due times cannot be told; empty if they can.
    problem = models.TextField(default="", blank=True)

    class Meta:
        verbose_name = _("schedule state")
        verbose_name_plural = _("schedule states")

    def __str__(self) -> str:
        return f"handled until {self.handled_until}"


class Occurrence(models.Model):
    """One due time of a schedule and what it came to.

    A long stretch of due times that did not fire for one reason is one row: ``count`` of them, the
    last at ``last_due_at``.
    """

    id = models.BigAutoField(primary_key=True)
    schedule = models.ForeignKey(
        _PERIODIC_TASK, on_delete=models.CASCADE, related_name="occurrences", db_index=False
    )
    due_at = models.DateTimeField()
    last_due_at = models.DateTimeField(null=True, blank=True)
    count = models.PositiveIntegerField(default=1)
    trigger = models.CharField(max_length=8, choices=_choices(Trigger), default=Trigger.TICK)
    outcome = models.CharField(max_length=8, choices=_choices(Fate))
    cause = models.CharField(max_length=16, choices=_choices(Cause), default="", blank=True)
    reason = models.TextField(default="", blank=True)
    #: The entry; for a plain Celery task, which has none, the id of its message.
    entry_id = models.UUIDField(null=True, blank=True)
    #: Whether ``entry_id`` names an entry of the ledger.
    reliable = models.BooleanField(default=True)
    #: When a beat must send the message of a plain Celery task (again); NULL: nothing to send.
    send_at = models.DateTimeField(null=True, blank=True)
    handled_at = models.DateTimeField(default=timezone.now)

    schedule_id: int

    class Meta:
        verbose_name = _("occurrence")
        verbose_name_plural = _("occurrences")
        constraints = [
            # The truth of "exactly once"; also the latest runs of a schedule.
            models.UniqueConstraint(fields=("schedule", "due_at"), name="reliable_occurrence_once")
        ]
        indexes = [
            # Messages of plain Celery tasks that are still to be sent.
            models.Index(F("send_at"), name="reliable_to_send", condition=Q(send_at__isnull=False)),
            # Prune: oldest first.
            models.Index(F("handled_at"), name="reliable_occurred"),
        ]

    def __str__(self) -> str:
        return f"{self.due_at.isoformat()} {self.outcome}"


class BeatLease(models.Model):
    """Which beat does the work at present. Saves work; nothing depends on it."""

    name = models.CharField(max_length=32, primary_key=True)
    holder = models.CharField(max_length=_NAME, default="", blank=True)
    acquired_at = models.DateTimeField()
    renewed_at = models.DateTimeField()
    until = models.DateTimeField()

    class Meta:
        verbose_name = _("beat lease")
        verbose_name_plural = _("beat leases")

    def __str__(self) -> str:
        return f"{self.holder} until {self.until}"


class DeclaredSchedule(models.Model):
    """A schedule that code declares, as it was last synced to its row."""

    schedule = models.OneToOneField(
        _PERIODIC_TASK, on_delete=models.CASCADE, primary_key=True, related_name="reliable_declared"
    )
    #: Where it is declared: "settings", or the task's name.
    source = models.CharField(max_length=_NAME)
    #: What was declared at the last sync; a row that differs from it was edited by an operator.
    definition = models.JSONField(default=dict)
    synced_at = models.DateTimeField(default=timezone.now)

    class Meta:
        verbose_name = _("declared schedule")
        verbose_name_plural = _("declared schedules")

    def __str__(self) -> str:
        return self.source
