"""One thing that the doctor has to say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

OK: Final = "ok"
#: Worth knowing; nothing is lost or stuck because of it.
WARNING: Final = "warning"
#: Something does not work, or waits for a person.
PROBLEM: Final = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """A fact, what it means, and what to do.

    Attributes:
        check: what was looked at; the same word each time.
        level: one of the three above.
        summary: the fact.
        meaning: what follows from it; empty if all is well.
        remedy: what to do; empty if nothing.
        details: the same for programs.
    """

    check: str
    level: str
    summary: str
    meaning: str = ""
    remedy: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
