"""The verbs of ``manage.py reliable_tasks``, one short module each."""

from __future__ import annotations

from typing import Any, Final, Protocol

from ..console.output import Output
from ..console.parsing import Parser
from . import (
    cancel,
    discard,
    doctor,
    keys,
    listing,
    operations,
    prune,
    requeue,
    schedules,
    show,
    status,
    sweep,
)
from .pausing import pause, resume


class Verb(Protocol):
    """What the module of a verb has."""

    NAME: str
    HELP: str

    def arguments(self, parser: Parser) -> None:
        """Add the verb's own arguments."""

    def run(self, options: dict[str, Any], out: Output) -> int:
        """Do it, print, and return the exit code: 0, or 1 if nothing matched or all is not well."""


VERBS: Final[tuple[Verb, ...]] = (
    status,
    listing,
    show,
    requeue,
    cancel,
    discard,
    pause,
    resume,
    operations,
    keys,
    schedules,
    sweep,
    prune,
    doctor,
)
