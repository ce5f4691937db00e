"""The lease by which one of several beats does the work."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.db.models import Case, F, Q, When

from ..models import BeatLease
from .guard import explained, ledger_connection, moment_expression

_NAME: Final = "beat"


@dataclass(frozen=True, slots=True)
class Leadership:
    """Who leads, as the database has it.

    Attributes:
        mine: whether the asker leads.
        holder: who does.
        now: the database's clock.
        until: when the lease ends unless it is renewed.
    """

    mine: bool
    holder: str
    now: datetime
    until: datetime


def lead(holder: str, seconds: float, *, now: datetime | None = None) -> Leadership:
    """Take the lease if it is free, renew it if it is the asker's own.

    Args:
        holder: who asks.
        seconds: how long the lease lasts.
        now: a fixed time instead of the database's clock, for tests.
    """
    leases = BeatLease.objects.using(ledger_connection().alias)
    at, until = moment_expression(0.0, now), moment_expression(seconds, now)
    free = Q(until__lte=at) | Q(holder=holder)
    with explained():
        renewed = leases.filter(free, pk=_NAME).update(
            # The database sees the row as it was, whatever the order of these.
            acquired_at=Case(When(holder=holder, then=F("acquired_at")), default=at),
            holder=holder,
            renewed_at=at,
            until=until,
        )
        found = _read(leases, at)
        if found is None:
            _begin()
            return lead(holder, seconds, now=now)
    return Leadership(bool(renewed) and found[0] == holder, *found)


def led_until() -> datetime | None:
    """Return when a beat that led was last known to be up; None if none ever led."""
    leases = BeatLease.objects.using(ledger_connection().alias)
    with explained():
        return leases.filter(pk=_NAME).values_list("renewed_at", flat=True).first()


def step_down(holder: str, *, now: datetime | None = None) -> None:
    """Give the lease back, so that another beat need not wait for its end."""
    leases = BeatLease.objects.using(ledger_connection().alias)
    leases.filter(pk=_NAME, holder=holder).update(until=moment_expression(0.0, now))


def _read(leases: object, at: object) -> tuple[str, datetime, datetime] | None:
    rows = leases.filter(pk=_NAME).annotate(at=at)  # type: ignore[attr-defined]
    found: tuple[str, datetime, datetime] | None = rows.values_list("holder", "at", "until").first()
    return found


def _begin() -> None:
    # Ended long ago, so that whoever comes first may take it.
    ago = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
    BeatLease.objects.using(ledger_connection().alias).bulk_create(
        [BeatLease(name=_NAME, acquired_at=ago, renewed_at=ago, until=ago)], ignore_conflicts=True
    )
