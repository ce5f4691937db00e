"""The tables of what operators do: their acts, the operations that carry out large ones, pauses.

Read them freely; only ``reliable_tasks.ledger`` writes them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final, NoReturn
from uuid import UUID

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from .ids import new_id

_NAME: Final = 255


class Act(StrEnum):
    """What a person can do."""

    REQUEUE = "requeue"
    CANCEL = "cancel"
    DISCARD = "discard"
    PAUSE = "pause"
    RESUME = "resume"
    RELEASE_KEY = "release key"
    RUN_SCHEDULE = "run schedule"
    BACKFILL = "backfill"
    RESET_RUNS = "reset runs"
    STEER = "steer operation"


class Steps(StrEnum):
    """Where an operation stands."""

    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    STOPPED = "stopped"  # by a person, before its end


class Kind(StrEnum):
    """What can be paused."""

    QUEUE = "queue"
    TASK = "task"


class Immutable(TypeError):
    """Somebody tried to change what must stay as it was written."""


class WrittenOnce(models.QuerySet["OperatorAct"]):
    """Rows that are written once and stay."""

    def update(self, **_: Any) -> NoReturn:
        """Refuse."""
        raise Immutable("An operator's act is on record; it cannot be changed.")

    def delete(self) -> NoReturn:
        """Refuse."""
        raise Immutable("An operator's act is on record; it cannot be deleted.")


def _choices(kind: type[StrEnum]) -> list[tuple[str, Any]]:
    return [(member.value, _(member.value)) for member in kind]


class OperatorAct(models.Model):
    """One act of a person: who, what, why, on what, and how many it touched.

    ``done`` and ``skipped`` are empty where an operation carries it out: the operation counts.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    act = models.CharField(_("act"), max_length=32, choices=_choices(Act))
    by = models.CharField(_("by"), max_length=_NAME, blank=True)
    reason = models.TextField(_("reason"), blank=True)
    target = models.TextField(_("target"), blank=True)
    details = models.JSONField(_("details"), null=True, blank=True)
    done = models.PositiveIntegerField(_("done"), null=True, blank=True)
    skipped = models.PositiveIntegerField(_("skipped"), null=True, blank=True)
    at = models.DateTimeField(_("at"), default=timezone.now)

    objects = WrittenOnce.as_manager()

    class Meta:
        verbose_name = _("operator's act")
        verbose_name_plural = _("operators' acts")
        default_permissions = ("view",)

    def __str__(self) -> str:
        words = {"act": _(self.act), "who": self.by or gettext("somebody")}
        return gettext("%(act)s by %(who)s") % words

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Write a new row; refuse to change one."""
        if not self._state.adding:
            raise Immutable("An operator's act is on record; it cannot be changed.")
        super().save(*args, **{**kwargs, "force_insert": True})

    def delete(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse."""
        raise Immutable("An operator's act is on record; it cannot be deleted.")


class TouchedEntry(models.Model):
    """One entry that an act touched. It goes when the entry is pruned; the act stays."""

    id = models.BigAutoField(primary_key=True)
    # No foreign key to the entry: the ledger prunes entries without asking Django's collector.
    entry_id = models.UUIDField()
    act = models.ForeignKey(OperatorAct, on_delete=models.PROTECT, related_name="touched")
    result = models.CharField(max_length=16)

    act_id: UUID

    class Meta:
        default_permissions = ()
        constraints = [
            # The acts on one entry, for its page; and that no act touches an entry twice.
            models.UniqueConstraint(fields=("entry_id", "act"), name="reliable_touched_once")
        ]

    def __str__(self) -> str:
        return f"{self.entry_id}: {self.result}"


class Operation(models.Model):
    """An act on many entries, carried out in the background in batches."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    act = models.OneToOneField(OperatorAct, on_delete=models.PROTECT, related_name="operation")
    verb = models.CharField(_("act"), max_length=32, choices=_choices(Act))
    chosen = models.JSONField(_("chosen"))
    params = models.JSONField(_("parameters"), default=dict)
    state = models.CharField(_("state"), max_length=16, choices=_choices(Steps))
    total = models.PositiveIntegerField(_("total"))
    done = models.PositiveIntegerField(_("done"), default=0)
    skipped = models.PositiveIntegerField(_("skipped"), default=0)
    rate = models.FloatField(_("entries a second"), null=True, blank=True)
    cursor = models.UUIDField(null=True, blank=True)
    turn = models.PositiveIntegerField(default=0)
    entry_id = models.UUIDField(null=True, blank=True)
    as_of = models.DateTimeField(_("as of"))
    started_at = models.DateTimeField(_("started"))
    moved_at = models.DateTimeField(_("last moved"))
    ended_at = models.DateTimeField(_("ended"), null=True, blank=True)

    act_id: UUID

    class Meta:
        verbose_name = _("operation")
        verbose_name_plural = _("operations")
        default_permissions = ("view",)
        permissions = [("steer_operation", "Can pause, resume, stop and slow down operations")]

    def __str__(self) -> str:
        words = {"act": _(self.verb), "handled": self.done + self.skipped, "total": self.total}
        return gettext("%(act)s: %(handled)s of %(total)s") % words


class Pause(models.Model):
    """A queue or task whose entries are not claimed for a while."""

    id = models.BigAutoField(primary_key=True)
    kind = models.CharField(_("kind"), max_length=8, choices=_choices(Kind))
    name = models.CharField(_("name"), max_length=_NAME)
    reason = models.TextField(_("reason"), blank=True)
    by = models.CharField(_("by"), max_length=_NAME, blank=True)
    paused_at = models.DateTimeField(_("paused"), default=timezone.now)
    ends_at = models.DateTimeField(_("until"), null=True, blank=True)

    class Meta:
        verbose_name = _("pause")
        verbose_name_plural = _("pauses")
        default_permissions = ("view",)
        permissions = [
            ("pause_work", "Can pause queues and tasks"),
            ("resume_work", "Can resume queues and tasks"),
        ]
        constraints = [
            models.UniqueConstraint(fields=("kind", "name"), name="reliable_pause_of_one")
        ]

    def __str__(self) -> str:
        return f"{_(self.kind)} {self.name}"
