"""``QueueOnce``: the base of that name in celery_once, over the ledger.

The names and what they mean are those of celery_once 3.0; the rest is ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from . import ledger, spelled
from .dedup import Conflict
from .errors import AlreadyQueued
from .task import ReliableTask

_LOCKED_ALREADY = "The key {key!r} is held: {held}."


class QueueOnce(ReliableTask):
    """A reliable task that is enqueued once at a time, with the interface of celery_once.

    It takes ``once={"keys": […], "graceful": …, "timeout": …, "unlock_before_run": …}`` with the
    meaning they have there, and all other options of ``once`` besides.

    Keys are canonical, unless :meth:`get_key` is overridden or ``once`` has ``"textual": True``:
    then the text that it returns is the key.
    """

    abstract = True
    once: Any = {"graceful": False, "unlock_before_run": False}

    @property
    def config(self) -> Any:
        """The Celery app's configuration."""
        return self._get_app().conf

    @property
    def once_config(self) -> Mapping[str, Any]:
        """``app.conf.ONCE``, empty where there is none."""
        return self.config.get("ONCE") or {}

    @property
    def once_backend(self) -> LedgerBackend:
        """What locks and unlocks keys by their text."""
        return LedgerBackend(self)

    @property
    def default_timeout(self) -> float:
        """``default_timeout`` of ``app.conf.ONCE``, else the setting ``ONCE_TIMEOUT``."""
        given = (self.once_config.get("settings") or {}).get("default_timeout")
        return super().default_timeout if given is None else float(given)

    def unlock_before_run(self) -> bool:
        """Tell whether the key is free as soon as an attempt starts."""
        return bool((self.once if isinstance(self.once, Mapping) else {}).get("unlock_before_run"))

    def get_key(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None
    ) -> str:
        """Return a key's text as celery_once spells it.

        Args:
            args: positional arguments of a call.
            kwargs: keyword arguments of a call.

        Raises:
            TypeError: the arguments do not fit the task's signature.
        """
        keys = (self.once if isinstance(self.once, Mapping) else {}).get("keys")
        return spelled.spelling(self, keys, args or (), kwargs or {})

    @property
    def key_is_text(self) -> bool:
        """Whether :meth:`get_key` is overridden, so that its text is the key."""
        return type(self).get_key is not QueueOnce.get_key


class LedgerBackend:
    """The lock of celery_once's backends, by text, for code that calls it by hand.

    Args:
        task: whose keys are meant.
    """

    def __init__(self, task: QueueOnce) -> None:
        self._task = task

    def raise_or_lock(self, key: str, timeout: float) -> None:
        """Raise if the key is held. It is not taken: only an entry can hold a key.

        Args:
            key: its text.
            timeout: what ``countdown`` counts from.

        Raises:
            AlreadyQueued: it is held.
        """
        held = [each for each in self._held(key) if not each.expired]
        if held:
            left = held[0].frees_in
            rest = max(0.0, timeout - held[0].age) if left is None else left
            text = _LOCKED_ALREADY.format(key=key, held=held[0])
            raise AlreadyQueued(rest, text, conflict=held[0])

    def clear_lock(self, key: str) -> None:
        """Release the key, whoever holds it.

        Args:
            key: its text.
        """
        for held in self._held(key):
            ledger.release_key(held.digest, reason="Its key was released by clear_lock().")

    def _held(self, key: str) -> list[Conflict]:
        digest, _ = spelled.textual(key)
        text = spelled.readable_text(self._task, key)
        return ledger.find_keys(self._task.name, digest, text)
