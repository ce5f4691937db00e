"""What the body of a reliable task can do through ``self``: ask, report, want another attempt."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from celery.result import allow_join_result

from . import arguments, calling, codec, options
from .backoff import RetryPolicy
from .conf import Settings, current
from .described import Described
from .errors import AttemptCancelled, ConfigurationError, OptionError
from .models import Entry
from .running import Running
from .verdict import RetryAsked


class FromSettings:
    """A class attribute whose default is a setting; a task that sets it overrides it.

    Args:
        name: the setting.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        try:
            return getattr(current(), self._name)
        except ConfigurationError:
            # Celery reads this while it makes the task. The system check explains what is wrong,
            # which it can do only if the import that gets there survives.
            return getattr(Settings(), self._name)


class Body(Described):
    """The part of the task base that a running body uses; see :class:`ReliableTask`."""

    abstract = True
    max_retries: Any = FromSettings("MAX_RETRIES")
    retry_backoff: Any = FromSettings("RETRY_BACKOFF")
    retry_backoff_max: Any = FromSettings("RETRY_BACKOFF_MAX")
    retry_jitter: Any = FromSettings("RETRY_JITTER")

    @property
    def attempt(self) -> int:
        """Number of the running attempt, from 1; 0 in a direct call."""
        running = self._running()
        return running.claim.token if running else 0

    @property
    def entry(self) -> Entry | None:
        """The running attempt's entry, read on first use; None in a direct call."""
        running = self._running()
        return running.entry if running else None

    @property
    def idempotency_key(self) -> str:
        """A key to hand to outside services: the same in every attempt of this entry.

        In a direct call it is new for each call.
        """
        running = self._running()
        if running is not None:
            return str(running.claim.entry)
        request = self.request
        if not hasattr(request, "idempotency_key"):
            request.idempotency_key = str(uuid4())
        return str(request.idempotency_key)

    def progress(self, done: float, total: float | None = None, note: str = "") -> None:
        """Report how far the body has come; at most one write a second, the rest is free.

        Args:
            done: how much is done.
            total: how much there is, if known; reaching it is always written.
            note: what is being done, in words.

        Raises:
            AttemptCancelled: the entry was cancelled meanwhile. Let it pass.
        """
        running = self._running()
        if running is not None:
            running.progress(done, total, note)

    def cancel_requested(self) -> bool:
        """Tell whether the entry was cancelled while its body runs; looks once a second."""
        running = self._running()
        return running is not None and running.asked_to_stop()

    def raise_if_cancelled(self) -> None:
        """Raise AttemptCancelled if the entry was cancelled while its body runs."""
        if self.cancel_requested():
            raise AttemptCancelled(f"{self.name}[{self.request.id}] was cancelled.")

    def retry(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        exc: BaseException | None = None,
        throw: bool = True,
        eta: datetime | None = None,
        countdown: float | None = None,
        max_retries: int | None = None,
        **call: Any,
    ) -> Exception:
        """Ask for another attempt, with Celery's meaning: the entry is rescheduled, nothing sent.

        Args:
            args: other positional arguments for it.
            kwargs: other keyword arguments for it.
            exc: what to raise instead when no retries are left.
            throw: raise at once; otherwise the wish is kept until the body returns.
            eta: when it is due.
            countdown: seconds until it is due; ``default_retry_delay`` unless given.
            max_retries: another limit for this time.
            **call: other options for it, as for :meth:`apply_async`.

        Returns:
            What it would have raised, if ``throw`` is off.

        Raises:
            Retry: always, unless ``throw`` is off.
            MaxRetriesExceededError: no retries are left and ``exc`` was not given.
            ArgumentError: an argument cannot be kept.
            OptionError: an option is unknown, impossible, or ``expires``, which is the entry's.
        """
        running: Running | None = getattr(self.request, "reliable", None)
        if running is None:
            return super().retry(  # type: ignore[no-any-return]
                args, kwargs, exc, throw, eta, countdown, max_retries, **call
            )
        if countdown is not None:
            options.check(self.name, {"countdown": countdown})
        self._check_retries(running, max_retries, exc)
        due_at = self._moment(eta)
        delay = float(self.default_retry_delay if countdown is None else countdown)
        asked = RetryAsked(exc, delay, due_at, self._changes(running, args, kwargs, call))
        asked.__context__ = sys.exc_info()[1]  # also where it is raised only later
        if throw:
            raise asked
        running.retry_asked = asked
        return asked

    def _check_retries(
        self, running: Running, limit: int | None, exc: BaseException | None
    ) -> None:
        limit = self.retry_policy().max_retries if limit is None else limit
        if limit is not None and running.claim.retries >= limit:
            running.gave_up = True
            raise exc or self.MaxRetriesExceededError(
                f"{self.name}[{self.request.id}] was retried {running.claim.retries} times.",
                task_args=self.request.args,
                task_kwargs=self.request.kwargs,
            )

    def on_replace(self, sig: Any) -> Any:
        """Remember that the body put something else in its place, as Celery's ``replace`` does."""
        running = self._running()
        if running is not None:
            running.replaced = True
        with allow_join_result():  # an eager call waits for what has run already
            return super().on_replace(sig)

    def retry_policy(self) -> RetryPolicy:
        """Return how this task is retried, from its options and the settings."""
        given: dict[str, Any] = getattr(self, "retry_kwargs", None) or {}
        delay: Any = given.get("countdown", self.default_retry_delay)
        backoff = 0.0 if "countdown" in given else float(self.retry_backoff)
        return RetryPolicy(
            max_retries=given.get("max_retries", self.max_retries),
            backoff=backoff,
            backoff_max=float(self.retry_backoff_max),
            jitter=bool(self.retry_jitter),
            delay=float(delay),
            retry_for=tuple(getattr(self, "autoretry_for", None) or (Exception,)),
            never_for=tuple(getattr(self, "dont_autoretry_for", None) or ()),
        )

    def _moment(self, eta: datetime | str | None) -> datetime | None:
        if eta is None:
            return None
        zone = self._get_app().timezone
        return options.moment_of(self.name, "eta", eta, zone, datetime.now(UTC))

    def _running(self) -> Running | None:
        found: Running | None = getattr(self.request, "reliable", None)
        return found

    def _changes(
        self,
        running: Running,
        args: Sequence[Any] | None,
        kwargs: Mapping[str, Any] | None,
        call: Mapping[str, Any],
    ) -> dict[str, Any]:
        options.check(self.name, call)
        changes: dict[str, Any] = {}
        if args is not None or kwargs is not None:
            # With those that stay, too: they may be what the entry is about.
            before = codec.decode(running.claim.args, running.claim.kwargs)
            given = (before[0] if args is None else args, before[1] if kwargs is None else kwargs)
            plain = arguments.plain(self, *given)
            texts = arguments.texts(self, plain.args, plain.kwargs)
            running.secrets = [*running.secrets, *arguments.secrets(self, plain.args, plain.kwargs)]
            if args is not None:
                changes["args"] = texts[0]
            if kwargs is not None:
                changes["kwargs"] = texts[1]
            if plain.subject is not None:
                changes["subject_type"], changes["subject_id"] = plain.subject
        if call.get("queue"):
            changes["queue"] = calling.route(self, call, (), {})
        if call.get("priority") is not None:
            changes["priority"] = call["priority"]
        if call.get("expires") is not None:
            raise OptionError(
                f"{self.name}: retry() cannot change expires; it belongs to the entry."
            )
        kept = options.kept({name: value for name, value in call.items() if name != "queue"})
        text = options.dumps({**running.options, **kept}) if kept else None
        if text is not None:
            changes["options"] = text
        return changes
