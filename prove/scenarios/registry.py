"""The list of scenarios, filled by the decorator below."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from prove.world import FAST, World

Act = Callable[[World], None]


class Skipped(Exception):
    """A scenario cannot be acted here; the message says why."""


@dataclass(frozen=True)
class Scenario:
    """One scenario.

    Attributes:
        name: by which ``--only`` chooses it.
        title: what happens, for the table.
        act: does it, and returns when the faults are over.
        short: the brokers on which it belongs to the short set, if it does.
        settings: ``RELIABLE_TASKS`` of all processes.
        brokers: the brokers that it is acted on in the full set.
    """

    name: str
    title: str
    act: Act
    short: tuple[str, ...]
    settings: dict[str, Any]
    brokers: tuple[str, ...]


SCENARIOS: dict[str, Scenario] = {}


def scenario(
    name: str,
    title: str,
    *,
    short: tuple[str, ...] = (),
    settings: dict[str, Any] | None = None,
    brokers: tuple[str, ...] = ("redis",),
) -> Callable[[Act], Act]:
    """Add a function to the scenarios."""

    def add(act: Act) -> Act:
        chosen = dict(FAST if settings is None else settings)
        SCENARIOS[name] = Scenario(name, title, act, short, chosen, brokers)
        return act

    return add
