"""What Celery's result backend has kept of an entry's return value."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils.translation import gettext as _

from .. import operations
from ..models import Entry
from ..states import State
from .reading import json_text


@dataclass(frozen=True, slots=True)
class Result:
    """A return value, or why there is none.

    Attributes:
        text: the value; empty if there is none to show.
        note: why there is none, in words.
        asks: whether the backend is somewhere else, so that the reader decides to ask it.
    """

    text: str = ""
    note: str = ""
    asks: bool = False


def result_of(entry: Entry, *, wanted: bool) -> Result | None:
    """Return what an entry's task returned; None where there is nothing to say.

    Args:
        entry: the entry.
        wanted: ask a backend that is not this database: one that is down makes the page wait.
    """
    if entry.state != State.SUCCEEDED:
        return None
    task = operations.known_task(entry.task)
    if task is None or task.ignore_result:
        return Result(note=_("This task keeps no result."))
    near = type(task.backend).__module__.startswith("django_celery_results")
    if not near and not wanted:
        return Result(asks=True)
    try:
        found = task.AsyncResult(str(entry.pk))
        if found.state != "SUCCESS":
            return Result(note=_("Celery's result backend has no result of it (any more)."))
        return Result(json_text(found.result) or "null")
    except Exception as error:  # the page is about the entry; a result backend may be down
        return Result(note=_("Celery's result backend cannot be asked: %r") % error)
