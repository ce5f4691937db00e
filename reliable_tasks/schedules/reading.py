"""From the rows of django-celery-beat to schedules, many at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from django.db.models import QuerySet
from django_celery_beat.models import PeriodicTask
from kombu.utils.json import loads

from ..errors import ReliableTasksError
from ..ledger.guard import ledger_connection
from ..schedule_models import MOST_CAUGHT_UP
from .policy import Policy, delay_of, one_off
from .spec import Clocked, Crontab, Interval, Plan, Solar, Spec, plan_from_json

_INSTANT: Final = timedelta(microseconds=1)
_CRONTAB: Final = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week", "timezone")
_SOLAR: Final = ("event", "latitude", "longitude")
_POLICY: Final = (
    *("catch_up", "catch_up_limit", "catch_up_window", "misfire_grace", "overlap", "jitter"),
    *("pause_after_failures", "max_runs"),
)
_FIELDS: Final = (
    *("id", "name", "task", "args", "kwargs", "queue", "exchange", "routing_key", "headers"),
    *("priority", "expires", "expire_seconds", "one_off", "start_time", "enabled"),
    *("last_run_at", "date_changed", "crontab_id", "interval_id", "solar_id", "clocked_id"),
    *(f"crontab__{name}" for name in _CRONTAB),
    *("interval__every", "interval__period"),
    *(f"solar__{name}" for name in _SOLAR),
    "clocked__clocked_time",
    "reliable_policy__schedule_id",
    *(f"reliable_policy__{name}" for name in _POLICY),
)
_AT: Final = {name: number for number, name in enumerate(_FIELDS)}
# What every run changes by itself.
_VOLATILE: Final = (_AT["last_run_at"], _AT["date_changed"])
_DEFAULT: Final = Policy()

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule as its rows say.

    Attributes:
        id: primary key of its ``PeriodicTask``.
        name: its name.
        task: the name of the task that it calls.
        args: positional arguments of the call.
        kwargs: keyword arguments of the call.
        options: options of the call.
        plan: its due times.
        policy: what else it does.
        delay: how long after each due time it fires.
        enabled: whether it is enabled.
        one_off: whether it is to run a single time.
        changed_at: when its row was saved last.
        last_run_at: when it ran last, as its row says.
    """

    id: int
    name: str
    task: str
    args: list[Any]
    kwargs: dict[str, Any]
    options: dict[str, Any]
    plan: Plan
    policy: Policy
    delay: timedelta
    enabled: bool
    one_off: bool
    changed_at: datetime
    last_run_at: datetime | None

    def counted_from(self, first: datetime) -> Schedule:
        """Return it with its interval counted from another first due time."""
        spec = self.plan.spec
        if not isinstance(spec, Interval) or self.plan.start is not None:
            return self
        return replace(self, plan=replace(self.plan, spec=replace(spec, first=first)))

    def continued(self, kept: Mapping[str, Any]) -> Schedule | None:
        """Return it with the plan that is kept, if both mean the same due times; else None."""
        try:
            plan = plan_from_json(kept)
        except (ValueError, TypeError, KeyError):  # of a later version of this package
            return None
        if plan is None or not plan.same_times(self.plan):
            return None
        return replace(self, plan=plan)

    def begins_after(self, instant: datetime) -> datetime:
        """Return after which instant its due times count, if it is new at that instant.

        One that is clocked for an instant that has passed is due all the same.
        """
        if isinstance(self.plan.spec, Clocked):
            return min(instant, self.plan.spec.at - _INSTANT)
        return instant


class Unreadable(ReliableTasksError):
    """The rows of a schedule make no sense; the message says why."""


def rows(schedules: Iterable[int] | None = None, *, enabled_only: bool = True) -> list[Row]:
    """Read the rows of schedules; None for all.

    Args:
        schedules: their ids.
        enabled_only: leave out those that are disabled.
    """
    found: QuerySet[Any] = PeriodicTask.objects.using(ledger_connection().alias).order_by("pk")
    if schedules is not None:
        found = found.filter(pk__in=list(schedules))
    if enabled_only:
        found = found.filter(enabled=True)
    return list(found.values_list(*_FIELDS))


def read_one(schedule: int) -> Schedule:
    """Read one schedule, enabled or not.

    Raises:
        PeriodicTask.DoesNotExist: there is none of that id.
        Unreadable: its rows make no sense.
    """
    found = rows([schedule], enabled_only=False)
    if not found:
        raise PeriodicTask.DoesNotExist(f"There is no schedule with the id {schedule}.")
    return read(found[0])


def from_object(task: PeriodicTask) -> Schedule:
    """Read a schedule from an object, saved or not.

    Raises:
        Unreadable: it makes no sense.
    """
    values: list[Any] = []
    for name in _FIELDS:
        value: Any = task
        for part in name.split("__"):
            value = getattr(value, part, None)
        values.append(value)
    if values[_AT["date_changed"]] is None:  # not saved yet
        values[_AT["date_changed"]] = datetime.now().astimezone()
    return read(tuple(values))


def identity(row: Row) -> Row:
    """Return the part of a row that changes only if somebody edits the schedule."""
    first, second = _VOLATILE
    return row[:first] + row[second + 1 :]


def saved_at(row: Row) -> datetime:
    """Return when a schedule's own row was saved last."""
    at: datetime = row[_AT["date_changed"]]
    return at


def was_disabled(row: Row) -> bool:
    """Tell whether a schedule that has run was disabled since: its row forgets the run then."""
    return row[_AT["last_run_at"]] is None


def read(row: Row) -> Schedule:
    """Make a schedule of a row.

    Raises:
        Unreadable: it makes no sense.
    """
    value = dict(zip(_FIELDS, row, strict=True))
    policy = _policy(value)
    return Schedule(
        id=value["id"],
        name=value["name"],
        task=value["task"],
        args=_json(value, "args", list),
        kwargs=_json(value, "kwargs", dict),
        options=_options(value),
        plan=Plan(_spec(value), value["start_time"], value["expires"]),
        policy=one_off(policy) if value["one_off"] else policy,
        delay=delay_of(value["id"], policy.jitter),
        enabled=value["enabled"],
        one_off=value["one_off"],
        changed_at=value["date_changed"],
        last_run_at=value["last_run_at"],
    )


def _policy(value: Mapping[str, Any]) -> Policy:
    if value["reliable_policy__schedule_id"] is None:
        return _DEFAULT
    policy = Policy(**{name: value[f"reliable_policy__{name}"] for name in _POLICY})
    if policy.catch_up_limit > MOST_CAUGHT_UP:  # written before there was a limit to it
        return replace(policy, catch_up_limit=MOST_CAUGHT_UP)
    return policy


def _spec(value: Mapping[str, Any]) -> Spec:
    if value["crontab_id"] is not None:
        return Crontab(**{name: str(value[f"crontab__{name}"]) for name in _CRONTAB})
    if value["interval_id"] is not None:
        every = timedelta(**{value["interval__period"]: value["interval__every"]})
        if every <= timedelta(0):
            raise Unreadable(f"Its interval is {every}; it must be longer than nothing.")
        first = value["start_time"] or value["date_changed"] + every
        return Interval(round(every / _INSTANT), first)
    if value["solar_id"] is not None:
        return Solar(
            value["solar__event"], float(value["solar__latitude"]), float(value["solar__longitude"])
        )
    if value["clocked__clocked_time"] is not None:
        return Clocked(value["clocked__clocked_time"])
    raise Unreadable("It has no crontab, interval, solar event or clocked time.")


def _options(value: Mapping[str, Any]) -> dict[str, Any]:
    options: dict[str, Any] = {
        name: value[name]
        for name in ("queue", "exchange", "routing_key", "priority")
        if value[name] is not None
    }
    expires = value["expires"] or value["expire_seconds"]
    if expires:
        options["expires"] = expires
    headers = _json(value, "headers", dict)
    options["headers"] = {
        **headers,
        "periodic_task_name": value["name"],
        "celery_beat_task": True,
    }
    return options


def _json(value: Mapping[str, Any], name: str, kind: type) -> Any:
    text = value[name]
    if not text:
        return kind()
    try:
        found = loads(text)
    except (ValueError, TypeError, KeyError) as error:
        raise Unreadable(f"Its {name} are not JSON: {error}.") from error
    if not isinstance(found, kind):
        word = "list" if kind is list else "object"
        raise Unreadable(f"Its {name} must be a JSON {word}; they are {text}.")
    return found
