"""Brings the rows of schedules in line with what code declares, and leaves operators' edits alone.

Each value is compared three ways: what was declared at the last sync, what the row says now, and
what is declared now. A value that nobody but the code has changed follows the code; one that an
operator has changed stays, and the difference is told.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from celery import Celery, current_app
from django.core.exceptions import ValidationError
from django.db import IntegrityError, router, transaction
from django.db.models import QuerySet
from django.utils import timezone
from django_celery_beat.models import PeriodicTask, PeriodicTasks

from ..errors import ConfigurationError
from ..models import DeclaredSchedule, SchedulePolicy
from .beat_schedule import PLACE
from .beat_schedule import declared as declared_by_celery
from .changes import Act, Change, Difference, SyncReport
from .declared import ROW, Declaration, declarations
from .definition import declared_values, row_columns, row_values, when_from
from .policy_values import policy_columns, policy_defaults
from .when import KINDS, columns

logger = logging.getLogger("reliable_tasks.beat")

_TRIES: Final = 5


class _TouchedMeanwhileError(Exception):
    """Somebody edited the row between the look and the write."""


def sync(
    *, dry_run: bool = False, overwrite: Collection[str] = (), import_tasks: bool = True
) -> SyncReport:
    """Create, update and disable rows so that they say what code declares.

    Schedules that are no longer declared are disabled, never deleted: their history stays. Only
    those that were declared by this Celery app are, so that two projects may share a database.

    Args:
        dry_run: only tell what would be done.
        overwrite: names of schedules in which the code wins over an operator's edits.
        import_tasks: import the modules of the tasks first, as a worker does, to see what
            :func:`~reliable_tasks.schedules.scheduled` declares.

    Returns:
        What was done to which schedule.

    Raises:
        ConfigurationError: a declaration is wrong. Nothing was written.
        ImportError: or whatever else the import of a task's module raises. Nothing was written.
    """
    if import_tasks:
        current_app.loader.import_default_modules()
    owned = _declared_rows().exclude(source__startswith=PLACE)
    report = _bring_in_line(declarations(), owned, set(), dry_run, overwrite)
    if _declared_rows().filter(source__startswith=PLACE).exists():
        # A beat has taken these over. Only a beat sees all of them, so none is disabled here.
        more = sync_beat_schedule(current_app, disable=False, dry_run=dry_run, overwrite=overwrite)
        report.changes += more.changes
    return report


def sync_beat_schedule(
    app: Celery, *, disable: bool = True, dry_run: bool = False, overwrite: Collection[str] = ()
) -> SyncReport:
    """Do the same for what ``CELERY_BEAT_SCHEDULE`` and ``add_periodic_task()`` say.

    They speak of fewer values: what an entry leaves open stays as the row says. A row that
    django-celery-beat has made of an entry follows it at first, as it did there at each start.

    Args:
        app: the Celery app that has the entries.
        disable: disable those that are gone.
        dry_run: only tell what would be done.
        overwrite: names of schedules in which the code wins over an operator's edits.
    """
    found, names = declared_by_celery(app)
    try:
        ours = {each.name for each in declarations()}
    except ConfigurationError:  # told by `check` and by the sync
        ours = set()
    for name in sorted(names & ours):
        logger.warning("%s[%r] has no effect: the package's own settings declare it.", PLACE, name)
    owned = _declared_rows().filter(source__startswith=PLACE)
    return _bring_in_line(
        [each for each in found if each.name not in ours],
        owned if disable else owned.none(),
        names,
        dry_run,
        overwrite,
    )


def _bring_in_line(
    declared: Sequence[Declaration],
    owned: QuerySet[DeclaredSchedule],
    spared: set[str],
    dry_run: bool,
    overwrite: Collection[str],
) -> SyncReport:
    report = SyncReport(dry_run=dry_run)
    for each in declared:
        report.changes.append(_settled(each, each.name in overwrite, dry_run))
    names = spared.union(each.name for each in declared)
    for kept in owned.select_related("schedule").order_by("schedule__name"):
        if kept.schedule.name not in names and not kept.definition.get("removed"):
            report.changes.append(_disable(kept, dry_run))
    return report


def _settled(declared: Declaration, overwrite: bool, dry_run: bool) -> Change:
    for _ in range(_TRIES):
        try:
            with transaction.atomic(using=_alias()):
                return _settle(declared, overwrite, dry_run)
        except (IntegrityError, ValidationError, _TouchedMeanwhileError):
            continue  # look again: somebody else was faster
    with transaction.atomic(using=_alias()):
        return _settle(declared, overwrite, dry_run)


def _settle(declared: Declaration, overwrite: bool, dry_run: bool) -> Change:
    # Locked, and read before what it is compared with: of two syncs the second waits, then sees all
    # that the first has written. Whoever declared it last: an app may have been renamed, and a name
    # means one schedule.
    kept = _all_declared().select_for_update().filter(schedule__name=declared.name).first()
    rows = PeriodicTask.objects.using(_alias()).select_related(*KINDS)
    row = rows.filter(name=declared.name).first()
    code = declared_values(declared)
    if row is None:
        if not dry_run:
            _create(declared, code)
        return Change(declared.name, Act.CREATED, where=declared.where)
    policy = _policies().filter(schedule=row).first()
    said = row_values(row, policy)
    before = {**_defaults(), **kept.definition["values"]} if kept is not None else None
    if before is None and declared.says is not None:
        # The stock scheduler would have overwritten all of it but this.
        before = {**said, "enabled": True}
    follow, stay = _compare(code, said, before, overwrite)
    if not dry_run:
        if follow:
            _update(row, policy, {each.field: each.code for each in follow})
        _note(row, kept, declared, code)
    act = Act.UPDATED if follow else Act.UNCHANGED
    return Change(declared.name, act, tuple(follow), tuple(stay), declared.where)


def _compare(
    code: Mapping[str, Any],
    said: Mapping[str, Any],
    before: Mapping[str, Any] | None,
    overwrite: bool,
) -> tuple[list[Difference], list[Difference]]:
    """Return the values that follow the code and those that stay."""
    follow: list[Difference] = []
    stay: list[Difference] = []
    for key, value in code.items():
        if value == said[key]:
            continue
        untouched = before is not None and before[key] == said[key]
        (follow if overwrite or untouched else stay).append(Difference(key, said[key], value))
    return follow, stay


def _create(declared: Declaration, code: Mapping[str, Any]) -> None:
    alias = _alias()
    row = PeriodicTask(name=declared.name, **row_columns(code), **columns(declared.when, alias))
    row.save(using=alias)
    _policies().create(schedule=row, **policy_columns(code))
    _note(row, None, declared, code)


def _update(row: PeriodicTask, policy: SchedulePolicy | None, values: Mapping[str, Any]) -> None:
    new = row_columns(values)
    if "when" in values:
        new |= columns(when_from(values["when"]), _alias())
    if new:
        # The row must still say what was compared.
        old = {key: getattr(row, key) for key in new}
        rows = PeriodicTask.objects.using(_alias()).filter(pk=row.pk, **_equal(old))
        if new.get("enabled") is False:
            # A schedule that is disabled forgets its last run, as when it is saved.
            new["last_run_at"] = None
        if rows.update(**new, date_changed=timezone.now()) != 1:
            raise _TouchedMeanwhileError
    changed = policy_columns(values)
    if changed and policy is None:
        _policies().create(schedule=row, **changed)
    elif changed:
        old = {key: getattr(policy, key) for key in changed}
        if _policies().filter(schedule=row, **_equal(old)).update(**changed) != 1:
            raise _TouchedMeanwhileError
    _tell_beats()


def _disable(kept: DeclaredSchedule, dry_run: bool) -> Change:
    row = kept.schedule
    gone = (Difference("enabled", row.enabled, False),) if row.enabled else ()
    if not dry_run:
        values = dict(kept.definition["values"])
        if gone:
            # So that it is enabled again when it is declared again; not so what an operator
            # had disabled.
            values["enabled"] = False
        with transaction.atomic(using=_alias()):
            rows = PeriodicTask.objects.using(_alias()).filter(pk=row.pk, enabled=True)
            if rows.update(enabled=False, last_run_at=None, date_changed=timezone.now()):
                _tell_beats()
            definition = {**kept.definition, "values": values, "removed": True}
            _declared_rows().filter(pk=kept.pk).update(
                definition=definition, synced_at=timezone.now()
            )
    return Change(row.name, Act.DISABLED if gone else Act.UNCHANGED, gone, (), kept.source)


def _note(
    row: PeriodicTask,
    kept: DeclaredSchedule | None,
    declared: Declaration,
    code: Mapping[str, Any],
) -> None:
    definition = {"values": code, "project": _project()}
    if kept is None:
        _all_declared().create(schedule=row, source=declared.where[:255], definition=definition)
    elif (kept.definition, kept.source) != (definition, declared.where[:255]):
        _all_declared().filter(pk=kept.pk).update(
            definition=definition, source=declared.where[:255], synced_at=timezone.now()
        )


def _equal(old: Mapping[str, Any]) -> dict[str, Any]:
    return {
        f"{key}__isnull" if value is None else key: True if value is None else value
        for key, value in old.items()
    }


def _defaults() -> dict[str, Any]:
    # What an older release of this package did not know, it left as it is.
    return {**ROW, **policy_defaults()}


def _tell_beats() -> None:
    PeriodicTasks.update_changed()


def _all_declared() -> Any:
    return DeclaredSchedule.objects.using(_alias())


def _declared_rows() -> Any:
    return _all_declared().filter(definition__project=_project())


def _policies() -> Any:
    return SchedulePolicy.objects.using(_alias())


def _alias() -> str:
    return router.db_for_write(PeriodicTask)


def _project() -> str:
    return str(current_app.main or "")
