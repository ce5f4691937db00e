"""Schedules whose due times fire once or say why not: planner, beat, and what an operator does.

``times`` and what it stands on are pure: they tell which due times lie between two instants.
``settling`` is where a beat turns due times into occurrences. Besides, ``operations`` fires what a
person asks for, ``backfilling`` fires what did not fire, and ``adopting`` accounts for due times of
a schedule that was disabled. All of them write their calls by ``firing``.
"""

from .declared import scheduled

__all__ = ["scheduled"]
