"""The settings of this package: one frozen, typed object read from ``RELIABLE_TASKS``.

``settings`` below is the only way the package reads its own configuration. It is built on first
use and again whenever Django announces a change of the setting (as ``override_settings`` does).
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any, Final

from django.conf import settings as django_settings
from django.core.signals import setting_changed

from .errors import ConfigurationError

NAME: Final = "RELIABLE_TASKS"
PUBLISH_MODES: Final = ("background", "inline", "off")
TRANSACTION_MODES: Final = ("error", "warn", "allow")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What can be set. Times are seconds unless they are a ``timedelta``."""

    #: How long a worker may be silent before its running entries are taken over.
    LEASE_SECONDS: float = 10.0
    #: How often a worker renews the leases of what it runs.
    HEARTBEAT_SECONDS: float = 3.0
    #: Run the sweeper in every worker. Turn it off only where ``manage.py`` runs it alone.
    SWEEPER: bool = True
    #: Longest pause between two sweeps; a known due time shortens it.
    SWEEP_SECONDS: float = 1.0
    #: Most entries one sweep touches; four times as many where it only puts off its next look.
    SWEEP_BATCH: int = 500
    #: "background" publishes from a thread and never makes the caller wait; "inline" publishes
    #: in the caller's thread right after commit (for servers that forbid threads); "off" leaves
    #: it to the sweeper (for tests).
    PUBLISH: str = "background"
    #: Longest wait for one socket operation of a publish.
    PUBLISH_TIMEOUT: float = 0.4
    #: How long an entry must have waited before its message can count as lost. As often, the
    #: sweeper counts whether the broker holds a message for every entry that waits.
    PUBLISH_GRACE: float = 5.0
    #: How long after a publish the sweeper looks at a single entry that nobody has claimed; the
    #: interval grows with the entry's age.
    PUBLISH_RECHECK: float = 60.0
    #: Longest interval between two such looks.
    PUBLISH_RECHECK_MAX: float = 600.0
    #: Most wake-ups that wait for the publisher thread; the sweeper publishes what is over.
    PUBLISH_BUFFER: int = 10_000
    #: How long nothing is published after the broker refused or did not answer.
    BREAKER_SECONDS: float = 5.0
    #: Failures of an entry that are followed by another attempt; None for no limit.
    MAX_RETRIES: int | None = 20
    #: First delay between attempts, doubled each time; 0 for a fixed ``default_retry_delay``.
    RETRY_BACKOFF: float = 1.0
    #: Longest delay between attempts.
    RETRY_BACKOFF_MAX: float = 600.0
    #: Draw each delay evenly from zero to its full length.
    RETRY_JITTER: bool = True
    #: Attempts that may take their process down with them before the entry is dead.
    CRASH_BUDGET: int = 3
    #: Write an entry for a message that has none (``send_task``, another service, old code).
    ADOPT: bool = True
    #: Enqueue while a transaction is open on another database only: "error", "warn" or "allow".
    OTHER_TRANSACTION: str = "error"
    #: How long after its entry a row on another database than the ledger's may come to be visible.
    VISIBLE_WITHIN: float = 60.0
    #: What ``AlreadyQueued.countdown`` counts from where nothing else says when a key is free:
    #: celery_once's ``default_timeout``. No key ends by it.
    ONCE_TIMEOUT: float = 3600.0
    #: Time between asking a running attempt to stop and terminating its process.
    CANCEL_GRACE: float = 10.0
    #: How long a database connection of a worker's process is kept; it is replaced between tasks.
    CONNECTION_MAX_AGE: float = 600.0
    #: Longest wait of a worker between two tries to reach a broker that is away.
    RECONNECT_SECONDS: float = 5.0
    #: How long ended entries are kept; None keeps them for ever.
    KEEP_SUCCEEDED: timedelta | None = timedelta(days=7)
    KEEP_CANCELLED: timedelta | None = timedelta(days=30)
    KEEP_DEAD: timedelta | None = None
    #: How long a beat that stopped renewing still leads; another one takes over then.
    BEAT_LEASE_SECONDS: float = 6.0
    #: How long occurrences of schedules are kept; None keeps them for ever.
    KEEP_OCCURRENCES: timedelta | None = timedelta(days=30)
    #: Most entries that one statement of prune deletes.
    PRUNE_BATCH: int = 1000
    #: Schedules that code declares, by name; ``migrate`` and ``schedules sync`` write their rows.
    SCHEDULES: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            _check_type(field.name, getattr(self, field.name), str(field.type))
        self._check_values()

    def _check_values(self) -> None:
        for name in _POSITIVE:
            if getattr(self, name) <= 0:
                raise _wrong(name, "must be greater than zero", getattr(self, name))
        for name in _NOT_NEGATIVE:
            value = getattr(self, name)
            if value is not None and value < type(value)():
                raise _wrong(name, "must not be negative", value)
        if self.PUBLISH not in PUBLISH_MODES:
            raise _wrong("PUBLISH", f"must be one of {PUBLISH_MODES}", self.PUBLISH)
        if self.OTHER_TRANSACTION not in TRANSACTION_MODES:
            raise _wrong(
                "OTHER_TRANSACTION", f"must be one of {TRANSACTION_MODES}", self.OTHER_TRANSACTION
            )
        # With fewer than two chances to renew, one slow statement costs a healthy attempt its
        # lease.
        if self.HEARTBEAT_SECONDS * 2 > self.LEASE_SECONDS:
            raise _wrong(
                "LEASE_SECONDS",
                f"must be at least twice HEARTBEAT_SECONDS ({self.HEARTBEAT_SECONDS})",
                self.LEASE_SECONDS,
            )

    def keep(self, state: str) -> timedelta | None:
        """Return how long entries that ended in a state are kept; None for ever.

        Args:
            state: ``succeeded``, ``cancelled`` or ``dead``.
        """
        kept: timedelta | None = getattr(self, f"KEEP_{state.upper()}")
        return kept


_POSITIVE: Final = (
    "LEASE_SECONDS",
    "HEARTBEAT_SECONDS",
    "SWEEP_SECONDS",
    "SWEEP_BATCH",
    "PUBLISH_TIMEOUT",
    "PUBLISH_RECHECK",
    "PUBLISH_RECHECK_MAX",
    "PUBLISH_BUFFER",
    "CRASH_BUDGET",
    "RECONNECT_SECONDS",
    "BEAT_LEASE_SECONDS",
    "ONCE_TIMEOUT",
    "PRUNE_BATCH",
)
_NOT_NEGATIVE: Final = (
    "VISIBLE_WITHIN",
    "PUBLISH_GRACE",
    "BREAKER_SECONDS",
    "MAX_RETRIES",
    "RETRY_BACKOFF",
    "RETRY_BACKOFF_MAX",
    "CANCEL_GRACE",
    "CONNECTION_MAX_AGE",
    "KEEP_SUCCEEDED",
    "KEEP_CANCELLED",
    "KEEP_DEAD",
    "KEEP_OCCURRENCES",
)
_KINDS: Final[dict[str, tuple[type, ...]]] = {
    "float": (int, float),
    "int": (int,),
    "bool": (bool,),
    "str": (str,),
    "timedelta": (timedelta,),
    "Mapping[str, Any]": (Mapping,),
    "None": (type(None),),
}


def _check_type(name: str, value: object, annotation: str) -> None:
    words = annotation.split(" | ")
    allowed = tuple(kind for word in words for kind in _KINDS[word])
    # bool is an int to Python, but True seconds is a mistake.
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        raise _wrong(name, f"must be {' or '.join(words)}", value)
    if isinstance(value, float) and not math.isfinite(value):
        raise _wrong(name, "must be finite", value)


def _wrong(name: str, rule: str, value: object) -> ConfigurationError:
    return ConfigurationError(f"{NAME}[{name!r}] {rule}; it is {value!r}.")


def load(values: object) -> Settings:
    """Build the settings object from the value of ``RELIABLE_TASKS``.

    Args:
        values: the mapping from the Django settings, or None where there is none.

    Returns:
        The checked settings, defaults filled in.

    Raises:
        ConfigurationError: an unknown name (with the nearest known one), a wrong type or value.
    """
    if values is None:
        return Settings()
    if not isinstance(values, Mapping):
        raise ConfigurationError(f"{NAME} must be a dict; it is {type(values).__name__}.")
    known = [field.name for field in fields(Settings)]
    for name in values:
        if name not in known:
            raise ConfigurationError(f"{NAME} has no setting {name!r}.{_suggest(name, known)}")
    return Settings(**values)


def _suggest(name: object, known: list[str]) -> str:
    close = difflib.get_close_matches(str(name).upper(), known, n=1)
    return f" Did you mean {close[0]!r}?" if close else f" Known: {', '.join(known)}."


class _Cache:
    """Holds the current settings object until Django's settings change."""

    _current: Settings | None = None

    def get(self) -> Settings:
        """Return the current settings object, building it on first use."""
        if self._current is None:
            self._current = load(getattr(django_settings, NAME, None))
        return self._current

    def reset(self) -> None:
        """Forget the object, so that the next read builds it from Django's settings again."""
        self._current = None


_cache = _Cache()


def current() -> Settings:
    """Return the settings object itself.

    Raises:
        ConfigurationError: ``RELIABLE_TASKS`` is wrong.
    """
    return _cache.get()


def _on_setting_changed(*, setting: str, **_: object) -> None:
    if setting == NAME:
        _cache.reset()


setting_changed.connect(_on_setting_changed, dispatch_uid="reliable_tasks.conf")
