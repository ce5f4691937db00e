"""How the gateway feels: which share of the requests it spoils, and how."""

import random
import threading
from collections import Counter
from dataclasses import asdict, dataclass, replace
from enum import StrEnum


class Temper(StrEnum):
    """What the gateway does with one request."""

    HONEST = "honest"  # charge and answer
    BUSY = "busy"  # answer 503, charge nothing
    DROP = "drop"  # charge, then close the connection without an answer
    HANG = "hang"  # charge, then answer when nobody waits any more


@dataclass(frozen=True, slots=True)
class Mood:
    """Shares of the requests (0 to 1) that are spoiled; in an outage all are refused."""

    outage: bool = False
    busy: float = 0.10
    drop: float = 0.04
    hang: float = 0.01


class Moody:
    """Draws a temper for each request and counts them. Safe to use from several threads."""

    def __init__(self, mood: Mood | None = None, seed: int | None = None) -> None:
        self._lock = threading.Lock()
        self._random = random.Random(seed)
        self._mood = mood or Mood()
        self._drawn: Counter[Temper] = Counter()

    def draw(self) -> Temper:
        """Choose what happens to the next request."""
        with self._lock:
            temper = self._choose(self._random.random())
            self._drawn[temper] += 1
            return temper

    def _choose(self, chance: float) -> Temper:
        if self._mood.outage or chance < self._mood.busy:
            return Temper.BUSY
        if chance < self._mood.busy + self._mood.drop:
            return Temper.DROP
        if chance < self._mood.busy + self._mood.drop + self._mood.hang:
            return Temper.HANG
        return Temper.HONEST

    def change(self, changes: dict[str, object]) -> dict[str, object]:
        """Change the mood.

        Args:
            changes: any of the fields of `Mood`.

        Returns:
            All fields of the mood after the change.

        Raises:
            ValueError: an unknown field, or a share that is not between 0 and 1.
        """
        with self._lock:
            fields = asdict(self._mood)
            for name, value in changes.items():
                fields[name] = _checked(name, value, fields)
            self._mood = replace(self._mood, **fields)
            return fields

    def drawn(self) -> dict[str, int]:
        """Count the requests by what happened to them."""
        with self._lock:
            return {temper.value: self._drawn[temper] for temper in Temper}


def _checked(name: str, value: object, fields: dict[str, object]) -> object:
    if name not in fields:
        raise ValueError(f"a mood has {', '.join(fields)}; not {name!r}")
    if name == "outage":
        if not isinstance(value, bool):
            raise ValueError("outage is true or false")
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(f"{name} is a share between 0 and 1, not {value!r}")
    return float(value)
