"""The ledger's tables. Read them freely; only ``reliable_tasks.ledger`` writes them.

Each index names the query that it serves.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.db import models, router
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from .ids import new_id
from .options import LONGEST_NAME
from .oversight import Operation, OperatorAct, Pause, TouchedEntry
from .schedule_models import (
    BeatLease,
    DeclaredSchedule,
    Occurrence,
    SchedulePolicy,
    ScheduleState,
)
from .states import ACTIVE, ENDED, WAITING, Outcome, State
from .subject import about, subjects_of

__all__ = [
    "Attempt",
    "BeatLease",
    "DeadLetter",
    "DeclaredSchedule",
    "Entry",
    "EntryQuerySet",
    "Occurrence",
    "Operation",
    "OperatorAct",
    "Pause",
    "SchedulePolicy",
    "ScheduleState",
    "TouchedEntry",
    "WorkerProcess",
    "database_for_ledger",
]

# Celery, AMQP and most databases agree that a name fits in 255 bytes.
_NAME = LONGEST_NAME


def _choices(kind: type[State | Outcome]) -> list[tuple[str, Any]]:
    return [(member.value, _(member.value)) for member in kind]


class EntryQuerySet(models.QuerySet["Entry"]):
    """Named selections of entries. All read only.

    Every live entry has a ``wake_at`` and every ended one a ``finished_at``: saying so lets the
    partial indexes serve.
    """

    def waiting(self) -> EntryQuerySet:
        """Entries that wait for an attempt."""
        return self.filter(state__in=WAITING, wake_at__isnull=False)

    def running(self) -> EntryQuerySet:
        """Entries that an attempt holds."""
        return self.filter(state=State.RUNNING, wake_at__isnull=False)

    def active(self) -> EntryQuerySet:
        """Entries that have not ended."""
        return self.filter(state__in=ACTIVE, wake_at__isnull=False)

    def ended(self) -> EntryQuerySet:
        """Entries that have ended."""
        return self.filter(state__in=ENDED, finished_at__isnull=False)

    def dead(self) -> EntryQuerySet:
        """Dead letters."""
        return self.filter(state=State.DEAD, finished_at__isnull=False)

    def for_object(self, instance: models.Model) -> EntryQuerySet:
        """Entries that are about a row of the project's, newest first.

        Args:
            instance: the row.
        """
        return self.for_objects([instance])

    def for_objects(self, instances: Iterable[models.Model]) -> EntryQuerySet:
        """Entries that are about any of several rows, newest first.

        Args:
            instances: the rows, as a list or a queryset, which is read; as many as fit on a page
                or into some statement of the database.
        """
        return self.filter(about(s for each in instances for s in subjects_of(each))).order_by(
            "-pk"
        )


class Entry(models.Model):
    """One logical task: what was enqueued, where it stands, and what came of it."""

    id = models.UUIDField(_("id"), primary_key=True, default=new_id, editable=False)
    task = models.CharField(_("task"), max_length=_NAME)
    args = models.JSONField(_("arguments"), default=list, blank=True)
    kwargs = models.JSONField(_("keyword arguments"), default=dict, blank=True)
    options = models.JSONField(_("options"), null=True, blank=True)
    queue = models.CharField(_("queue"), max_length=_NAME)
    priority = models.SmallIntegerField(_("priority"), null=True, blank=True)
    state = models.CharField(
        _("state"), max_length=16, choices=_choices(State), default=State.PENDING
    )
    key = models.CharField(_("key"), max_length=_NAME, null=True, blank=True)  # noqa: DJ001 - NULL: no key

    attempt = models.PositiveIntegerField(_("attempt"), default=0)
    retries = models.PositiveIntegerField(_("retries"), default=0)
    max_retries = models.PositiveIntegerField(_("retries at most"), null=True, blank=True)
    crashes = models.PositiveSmallIntegerField(_("crashes"), default=0)
    crash_budget = models.PositiveSmallIntegerField(_("crash budget"), default=3)

    due_at = models.DateTimeField(_("due"), default=timezone.now)
    wake_at = models.DateTimeField(_("sweeper looks next"), null=True, blank=True)
    publishes = models.PositiveIntegerField(_("publishes"), default=0)
    published_at = models.DateTimeField(_("last published by a sweeper"), null=True, blank=True)
    expires_at = models.DateTimeField(_("expires"), null=True, blank=True)
    cancel_requested_at = models.DateTimeField(_("asked to stop"), null=True, blank=True)

    worker = models.CharField(_("worker"), max_length=_NAME, default="", blank=True)
    # What it is about, see reliable_tasks.subject. NULL: nothing, and then it is in no index.
    subject_type = models.CharField(_("subject's type"), max_length=_NAME, null=True, blank=True)  # noqa: DJ001
    subject_id = models.CharField(_("subject's id"), max_length=_NAME, null=True, blank=True)  # noqa: DJ001
    root_id = models.UUIDField(_("root"), null=True, blank=True)
    parent_id = models.UUIDField(_("parent"), null=True, blank=True)
    group_id = models.UUIDField(_("group"), null=True, blank=True)
    schedule = models.CharField(_("schedule"), max_length=_NAME, default="", blank=True)

    error_class = models.CharField(_("error class"), max_length=_NAME, default="", blank=True)
    error_message = models.TextField(_("error message"), default="", blank=True)
    fingerprint = models.CharField(_("fingerprint"), max_length=16, default="", blank=True)
    reason = models.TextField(_("reason"), default="", blank=True)
    progress = models.JSONField(_("progress"), null=True, blank=True)

    enqueued_at = models.DateTimeField(_("enqueued"), default=timezone.now)
    # By a person, last; its attempts go on counting.
    requeued_at = models.DateTimeField(_("requeued"), null=True, blank=True)
    started_at = models.DateTimeField(_("began"), null=True, blank=True)
    finished_at = models.DateTimeField(_("ended"), null=True, blank=True)

    objects = EntryQuerySet.as_manager()

    class Meta:
        verbose_name = _("entry")
        verbose_name_plural = _("entries")
        permissions = [
            ("requeue_entry", "Can requeue entries"),
            ("cancel_entry", "Can cancel entries"),
            ("discard_entry", "Can discard dead entries"),
            ("edit_entry_arguments", "Can requeue entries with other arguments"),
        ]
        indexes = [
            # The sweeper: what is due to be published, rescued or expired. Also all counts and
            # lists of what is live: ended entries have no wake_at, so the index holds no others.
            models.Index(F("wake_at"), name="reliable_wake", condition=Q(wake_at__isnull=False)),
            # Prune, and the lists of what ended lately: by state, oldest first.
            models.Index(
                F("state"),
                F("finished_at"),
                name="reliable_ended",
                condition=Q(finished_at__isnull=False),
            ),
            # Dead letters by what they died of: their groups are counted from this index alone, and
            # a group is listed from it, newest first. Only a death pays for it.
            models.Index(
                F("fingerprint"),
                F("finished_at"),
                F("task"),
                F("error_class"),
                name="reliable_dead",
                condition=Q(state="dead"),
            ),
            # All entries of one row of the project's, newest first: for_object, for_objects.
            models.Index(
                F("subject_type"),
                F("subject_id"),
                F("id"),
                name="reliable_subject",
                condition=Q(subject_id__isnull=False),
            ),
            # The page of an entry: what it enqueued. Entries that no task enqueued are not in it.
            models.Index(
                F("parent_id"), name="reliable_parent", condition=Q(parent_id__isnull=False)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.task}[{self.id}]"

    @property
    def ended(self) -> bool:
        """Whether the entry has reached a state that only a person changes."""
        return self.state in ENDED


class DeadLetter(Entry):
    """An entry that is dead. A name for a list of its own in the admin, not a table."""

    class Meta:
        proxy = True
        default_permissions = ()
        verbose_name = _("dead letter")
        verbose_name_plural = _("dead letters")


class Attempt(models.Model):
    """One execution of an entry that did not succeed; a success needs only the entry."""

    id = models.BigAutoField(_("id"), primary_key=True)
    entry = models.ForeignKey(
        Entry,
        on_delete=models.CASCADE,
        related_name="attempts",
        verbose_name=_("entry"),
        db_index=False,  # the constraint below has an index that begins with it
    )
    number = models.PositiveIntegerField(_("number"))
    outcome = models.CharField(_("outcome"), max_length=16, choices=_choices(Outcome))
    error_class = models.CharField(_("error class"), max_length=_NAME, default="", blank=True)
    error_message = models.TextField(_("error message"), default="", blank=True)
    traceback = models.TextField(_("traceback"), default="", blank=True)
    fingerprint = models.CharField(_("fingerprint"), max_length=16, default="", blank=True)
    worker = models.CharField(_("worker"), max_length=_NAME, default="", blank=True)
    started_at = models.DateTimeField(_("began"), null=True, blank=True)
    ended_at = models.DateTimeField(_("ended"), default=timezone.now)

    entry_id: UUID

    class Meta:
        verbose_name = _("attempt")
        verbose_name_plural = _("attempts")
        ordering = ("entry", "number")
        constraints = [
            # No attempt is recorded twice; and the attempts of an entry, in their order.
            models.UniqueConstraint(fields=("entry", "number"), name="reliable_attempt_number")
        ]
        indexes = [
            # The overview: what attempts came to in the last hours.
            models.Index(F("ended_at"), F("outcome"), name="reliable_attempt_ended"),
        ]

    def __str__(self) -> str:
        return f"{self.entry_id} #{self.number}: {self.outcome}"


class Key(models.Model):
    """A dedup key that is held. No foreign key: a window may outlast its entry's pruning."""

    digest = models.UUIDField(primary_key=True)
    entry_id = models.UUIDField()
    task = models.CharField(max_length=_NAME)
    text = models.CharField(max_length=_NAME)
    arguments = models.CharField(max_length=32)
    holds_dead = models.BooleanField(default=False)
    held_at = models.DateTimeField(default=timezone.now)
    # NULL: as long as its entry keeps it. Otherwise it has ended once this time has come.
    until = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = _("key")
        verbose_name_plural = _("keys")
        permissions = [("release_key", "Can release keys")]
        indexes = [
            # Release with the end of an entry; the key of an entry.
            models.Index(F("entry_id"), name="reliable_key_entry"),
            # Looking a key up by what people read.
            models.Index(F("text"), name="reliable_key_text"),
            # The sweeper: rows whose window has ended.
            models.Index(F("until"), name="reliable_key_until", condition=Q(until__isnull=False)),
        ]

    def __str__(self) -> str:
        return self.text


class WorkerProcess(models.Model):
    """A worker as it last reported itself."""

    identity = models.CharField(_("identity"), max_length=_NAME, primary_key=True)
    hostname = models.CharField(_("hostname"), max_length=_NAME)
    pid = models.PositiveIntegerField(_("process id"))
    pool = models.CharField(_("pool"), max_length=64)
    concurrency = models.PositiveIntegerField(_("concurrency"), null=True, blank=True)
    queues = models.JSONField(_("queues"), default=list)
    fetched = models.JSONField(_("fetched and not begun"), default=dict)
    versions = models.JSONField(_("versions"), default=dict)
    # The names of the reliable tasks that it knows; NULL: it did not say.
    tasks = models.JSONField(_("tasks"), null=True, blank=True)
    started_at = models.DateTimeField(_("began"))
    # Lists of live and silent workers, and the pruning of those long gone.
    beat_at = models.DateTimeField(_("last beat"), db_index=True)
    draining = models.BooleanField(_("draining"), default=False)

    class Meta:
        verbose_name = _("worker")
        verbose_name_plural = _("workers")

    def __str__(self) -> str:
        return self.identity


class Overview(Entry):
    """Stands in the admin's index for the page of charts; it has no rows of its own."""

    class Meta:
        proxy = True
        default_permissions = ()
        verbose_name = _("overview")
        verbose_name_plural = _("overview")


def database_for_ledger(**hints: Any) -> str:
    """Return the alias of the database that the ledger lives on, as Django's routers say."""
    return router.db_for_write(Entry, **hints)
