"""Fresh instances for the body, from the primary keys that an entry keeps.

Rows are read where they are written, never from a replica, and in the body's own transaction if
the task is atomic. All rows of one model are read with one query.

Note [Three ways not to be there]: a row that is *gone* follows the parameter's ``on_missing``. A
database that *cannot be reached* says nothing of the row. And a row on another database than the
ledger's may be *not yet visible*: the entry commits before or after it. The last two wait for
another attempt, which is not charged, because the body could not even begin. A database that
answers and refuses the query (a column that was not migrated, a lock that somebody holds for long)
is none of them: that is a failure as if the body had asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from django.db import InterfaceError, OperationalError, connections
from django.db.models import Model, QuerySet

from .codec import MASK
from .conf import current
from .errors import ArgumentError, CorruptEntry, MissingObject, NotVisibleYet, ObjectsUnavailable
from .failure import describe
from .ledger import ledger_connection
from .outage import out_of_reach
from .parameters import Load, ModelParameter
from .plan import plan_of
from .states import Outcome
from .verdict import Verdict, judge

if TYPE_CHECKING:
    from .running import Running
    from .task import ReliableTask

# Seconds; doubled for each attempt.
_FIRST_DELAY: Final = 1.0
_SHOWN: Final = 10
_SPARE: Final = 50


class NotLoaded(Exception):
    """The body cannot run now, or not at all, for want of its rows. Never leaves the attempt.

    Attributes:
        error: what is to be told.
        policy: "dead", "discard" or "retry"; "wait" for an attempt that is not charged.
        delay: seconds until the next attempt, when it is "wait".
    """

    def __init__(self, error: Exception, policy: str, delay: float = 0.0) -> None:
        super().__init__(str(error))
        self.error = error
        self.policy = policy
        self.delay = delay


def verdict_on(task: ReliableTask, running: Running, failed: NotLoaded) -> Verdict:
    """Return what becomes of an entry whose rows could not be loaded.

    Args:
        task: its task.
        running: the attempt.
        failed: why the body cannot run.
    """
    retries = running.claim.retries
    # An eager call does not wait: it would look again at once.
    if failed.policy == "retry" or (failed.policy == "wait" and task.request.is_eager):
        return judge(failed.error, task.retry_policy(), retries, covered=True)
    failure = describe(failed.error)
    if failed.policy == "wait":
        return Verdict(failure, Outcome.FAILED, delay=failed.delay, charged=False)
    return Verdict(failure, Outcome.REJECTED, f"Not run: {failed.error}")


@dataclass(slots=True)
class _Rows:
    """The rows of one model that a call names, read in the same way."""

    parameters: list[ModelParameter] = field(default_factory=list)
    keys: set[Any] = field(default_factory=set)
    found: dict[Any, Model] = field(default_factory=dict)


def load(
    task: ReliableTask, running: Running, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """Put fresh instances in the place of primary keys.

    Args:
        task: the task that is about to run.
        running: its attempt.
        args: the entry's positional arguments.
        kwargs: the entry's keyword arguments.

    Returns:
        What the body gets.

    Raises:
        NotLoaded: a row is missing, or its database does not answer.
        DatabaseError: the database refuses to read the rows.
        CorruptEntry: what the entry keeps is no key of the parameter's model.
    """
    plan = plan_of(task)
    if plan is None or not plan.models:
        return args, kwargs
    places = [plan.models.get(plan.at(n)) for n in range(len(args))]
    named = {name: plan.models.get(plan.of(name)) for name in kwargs}
    groups: dict[tuple[type[Model], Load], _Rows] = {}
    for parameter, kept in _pairs(places, args, named, kwargs):
        group = groups.setdefault((parameter.model, parameter.load), _Rows())
        group.parameters.append(parameter)
        group.keys.update(_keys(parameter, kept))
    for group in groups.values():
        _fetch(task, running, group)

    def fresh(parameter: ModelParameter | None, kept: Any) -> Any:
        if parameter is None or kept is None:
            return kept
        found = groups[parameter.model, parameter.load].found
        instances = [found[key] for key in _keys(parameter, kept)]
        return instances[0] if parameter.container is None else parameter.container(instances)

    return (
        [fresh(*each) for each in zip(places, args, strict=True)],
        {name: fresh(named[name], kwargs[name]) for name in kwargs},
    )


def _pairs(
    places: Sequence[ModelParameter | None],
    args: Sequence[Any],
    named: Mapping[str, ModelParameter | None],
    kwargs: Mapping[str, Any],
) -> Iterator[tuple[ModelParameter, Any]]:
    both = [*zip(places, args, strict=True), *((named[name], kwargs[name]) for name in kwargs)]
    return ((parameter, kept) for parameter, kept in both if parameter is not None)


def _keys(parameter: ModelParameter, kept: Any) -> list[Any]:
    try:
        return parameter.keys(kept)
    except ArgumentError as error:
        raise CorruptEntry(f"The argument {parameter.name!r} of the entry {error}") from error


def _fetch(task: ReliableTask, running: Running, group: _Rows) -> None:
    parameter = group.parameters[0]
    alias = parameter.alias
    try:
        group.found = _read(parameter, alias, sorted(group.keys))
    except (OperationalError, InterfaceError) as error:
        if not out_of_reach(connections[alias], error):
            raise
        raise _unavailable(task, running, group, error) from error
    gone = [key for key in sorted(group.keys) if key not in group.found]
    if gone:
        raise _missing(task, running, group, gone)


def _read(parameter: ModelParameter, alias: str, keys: list[Any]) -> dict[Any, Model]:
    how = parameter.load
    model: Any = parameter.model
    manager = getattr(model, how.manager) if how.manager else model._default_manager
    rows: QuerySet[Model] = manager.using(alias)
    if how.select_related:
        rows = rows.select_related(*how.select_related)
    if how.prefetch_related:
        rows = rows.prefetch_related(*how.prefetch_related)
    if how.only:
        rows = rows.only(*how.only)
    if how.for_update:
        # What is joined is not locked: a nullable join could not be.
        of = connections[alias].features.has_select_for_update_of
        rows = rows.select_for_update(of=("self",) if of and how.select_related else ())
    limit = connections[alias].features.max_query_params or len(keys) + _SPARE
    # A manager may have parameters of its own.
    size = max(1, (limit - _SPARE) // len(model._meta.pk_fields))
    found: dict[Any, Model] = {}
    for start in range(0, len(keys), size):
        # In the order of keys, so that two tasks which lock several rows cannot deadlock.
        part = rows.filter(pk__in=keys[start : start + size]).order_by("pk")
        found.update((row.pk, row) for row in part)
    return found


def _missing(task: ReliableTask, running: Running, group: _Rows, gone: list[Any]) -> NotLoaded:
    parameter = group.parameters[0]
    what = _named(task, group, gone)
    if not task.request.is_eager and _may_come(running, parameter.alias):
        return NotLoaded(
            NotVisibleYet(
                f"{what} not there yet on {parameter.alias!r}: it is another database than the "
                "ledger's, where the row may still be uncommitted."
            ),
            "wait",
            min(_delay(running), current().VISIBLE_WITHIN),
        )
    policy = parameter.load.on_missing or task.on_missing
    return NotLoaded(MissingObject(f"{what} gone from the database {parameter.alias!r}."), policy)


def _delay(running: Running) -> float:
    # No float is as large as what some thousand claims would come to.
    return _FIRST_DELAY * 2.0 ** min(running.claim.token - 1, 30)


def _may_come(running: Running, alias: str) -> bool:
    """Tell whether the row's transaction may be still open: it is not the entry's."""
    if alias == ledger_connection().alias:
        return False
    entry = running.entry
    age = (entry.started_at or entry.enqueued_at) - entry.enqueued_at  # both by one clock
    return age < timedelta(seconds=current().VISIBLE_WITHIN)


def _unavailable(task: ReliableTask, running: Running, group: _Rows, error: Exception) -> NotLoaded:
    parameter = group.parameters[0]
    what = _named(task, group, sorted(group.keys)).rpartition(" ")[0]
    delay = min(_delay(running), task.retry_policy().backoff_max)
    first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return NotLoaded(
        ObjectsUnavailable(
            f"{what} could not be read, the database {parameter.alias!r} does not answer: "
            f"{first_line}"
        ),
        "wait",
        delay,
    )


def _named(task: ReliableTask, group: _Rows, keys: list[Any]) -> str:
    plan = plan_of(task)
    hidden = plan is not None and any(plan.hides(each.name) for each in group.parameters)
    model = group.parameters[0].model.__name__
    names = ", ".join(dict.fromkeys(repr(each.name) for each in group.parameters))
    some = MASK if hidden else ", ".join(map(str, keys[:_SHOWN]))
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN and not hidden else ""
    return f"{model} {some}{more} (argument {names}) {'is' if len(keys) == 1 else 'are'}"
