"""Schedules that never miss and never double: the planner, the beat, and what an operator does.

``times`` and what it stands on are pure: they tell which due times lie between two instants.
``settling`` is the one place where due times become occurrences; beats, run now and backfill all
go through it.
"""

from .declared import scheduled

__all__ = ["scheduled"]
