"""The causes that keep an entry from running, one function each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, Final

from django.db.models import Count, Min, Q
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from .. import overview
from ..conf import current
from ..dedup import FOLLOWS
from ..ledger.backlog import FUTILE
from ..models import Attempt
from ..options import as_uuid
from ..overview import ALIVE, DRAINING, SILENT
from ..states import ACTIVE, WAITING, State
from .case import Case, Reason, ago, ahead, some, span, sweep_remedy


def _cancel_asked(case: Case) -> Iterator[Reason]:
    asked = case.entry.cancel_requested_at
    if asked is not None:
        text = _("It was asked to stop %(when)s. The next sweep cancels it.")
        yield Reason("cancelled", text % {"when": ago(asked, case.at)}, sweep_remedy())


def _expiry(case: Case) -> Iterator[Reason]:
    expires = case.entry.expires_at
    if expires is None:
        return
    details = {"expires_at": expires}
    if expires <= case.at:
        text = _("It expired %(when)s. The next sweep cancels it.")
        yield Reason(
            "expired", text % {"when": ago(expires, case.at)}, sweep_remedy(), True, details
        )
    elif expires <= case.entry.due_at:
        text = _("It expires %(when)s, before it is due: it will be cancelled, not run.")
        remedy = _("Enqueue it again with a later expiry.")
        yield Reason(
            "expires_first", text % {"when": ahead(expires, case.at)}, remedy, True, details
        )
    else:
        text = _("It is cancelled if no attempt has begun by then: it expires %(when)s.")
        yield Reason("expires", text % {"when": ahead(expires, case.at)}, "", False, details)


def _not_due(case: Case) -> Iterator[Reason]:
    if case.is_due:
        return
    entry, when = case.entry, ahead(case.entry.due_at, case.at)
    details = {"due_at": entry.due_at}
    if entry.state == State.PENDING:
        text = _("It is not due yet. It may begin %(when)s.") % {"when": when}
        yield Reason("not_due", text, "", True, details)
        return
    attempts = Attempt.objects.using(entry._state.db).filter(entry=entry)
    last = attempts.order_by("-number").first()
    error = entry.error_class.rpartition(".")[2] or _("no error given")
    text = _(
        "Attempt %(number)s came to %(outcome)s (%(error)s). The next one may begin %(when)s."
    ) % {
        "number": entry.attempt,
        "outcome": last.get_outcome_display() if last is not None else "-",
        "error": error,
        "when": when,
    }
    yield Reason("retry_delay", text, "", True, {**details, "attempt": entry.attempt})


def _paused(case: Case) -> Iterator[Reason]:
    for pause in overview.pauses_of(case.entry):
        who, why = pause.by or _("somebody"), pause.reason or _("no reason given")
        if pause.ends_at is None:
            text = _("The %(kind)s “%(name)s” was paused %(when)s by %(who)s: %(why)s")
        else:
            text = _(
                "The %(kind)s “%(name)s” was paused %(when)s by %(who)s, and goes on %(end)s: "
                "%(why)s"
            )
        yield Reason(
            "paused",
            text
            % {
                "kind": pause.kind,
                "name": pause.name,
                "when": ago(pause.paused_at, case.at),
                "who": who,
                "end": "" if pause.ends_at is None else ahead(pause.ends_at, case.at),
                "why": why,
            },
            _("Resume it: manage.py reliable_tasks resume %(kind)s %(name)s")
            % {"kind": pause.kind, "name": pause.name},
            True,
            {
                "pause": pause.pk,
                "kind": pause.kind,
                "name": pause.name,
                "until": pause.ends_at,
            },
        )


def _key_held(case: Case) -> Iterator[Reason]:
    kept = case.entry.options
    held_by = as_uuid(kept.get(FOLLOWS)) if isinstance(kept, dict) else None
    if held_by is None:
        return
    holder = overview.entries().filter(pk=held_by, state__in=ACTIVE).only("state").first()
    if holder is None:
        return
    text = _(
        "Entry %(holder)s holds its key “%(key)s” and does the same work. It is %(state)s; when it "
        "succeeds, this one ends with its result."
    )
    yield Reason(
        "key_held",
        text
        % {
            "holder": holder.pk,
            "key": case.entry.key or "-",
            "state": holder.get_state_display(),
        },
        _("See why that one does not run: manage.py reliable_tasks show %(holder)s")
        % {"holder": holder.pk},
        True,
        {"holder": holder.pk, "state": holder.state},
    )


def _no_worker(case: Case) -> Iterator[Reason]:
    queue = case.entry.queue
    if case.serving:
        return
    remedy = _("Start one: celery -A <project> worker -Q %(queue)s") % {"queue": queue}
    on_queue = [(each, how) for each, how in case.workers if queue in each.queues]
    details: dict[str, Any] = {
        "queue": queue,
        "alive": sum(how == ALIVE for _each, how in case.workers),
        "draining": [each.identity for each, how in on_queue if how == DRAINING],
        "silent": [each.identity for each, how in on_queue if how == SILENT],
    }
    if details["draining"]:
        text = _(
            "The only workers on queue “%(queue)s” are stopping and take nothing new: %(names)s."
        ) % {"queue": queue, "names": some(details["draining"])}
    elif details["silent"]:
        text = _(
            "The only workers on queue “%(queue)s” have been silent for longer than a lease: "
            "%(names)s. They were killed, hang, or cannot reach the database."
        ) % {"queue": queue, "names": some(details["silent"])}
    elif details["alive"]:
        text = ngettext(
            "No worker consumes queue “%(queue)s”; %(count)d is alive on other queues.",
            "No worker consumes queue “%(queue)s”; %(count)d are alive on other queues.",
            details["alive"],
        ) % {"queue": queue, "count": details["alive"]}
    else:
        text = _("No worker is alive.")
    yield Reason("no_worker", text, remedy, True, details)


def _unknown_task(case: Case) -> Iterator[Reason]:
    if not case.serving or case.able:
        return
    text = _(
        "No worker on queue “%(queue)s” knows the task “%(task)s”. Was it renamed, or is its "
        "module not imported there?"
    ) % {"queue": case.entry.queue, "task": case.entry.task}
    remedy = _(
        "Start a worker whose code has the task, or run the entry under the task's new name: "
        "manage.py reliable_tasks requeue %(id)s --task-name NEW.NAME"
    ) % {"id": case.entry.pk}
    names = [each.identity for each in case.serving]
    yield Reason("unknown_task", text, remedy, True, {"workers": names})


def _broker(case: Case) -> Iterator[Reason]:
    error = case.link.trouble() if case.link is not None else ""
    if error:
        text = _("The broker does not answer, so no worker can be woken: %(error)s")
        remedy = _("See to the broker. Once it answers, the sweeper publishes what was missed.")
        yield Reason("broker", text % {"error": error}, remedy, True, {"error": error})


def _no_sweeper(case: Case) -> Iterator[Reason]:
    wake = case.entry.wake_at
    patience = timedelta(seconds=max(5.0, 5 * current().SWEEP_SECONDS))
    if wake is not None and wake < case.at - patience:
        text = _(
            "The sweeper should have looked at it %(when)s and has not: none runs, it is far "
            "behind, or it cannot reach the database."
        ) % {"when": ago(wake, case.at)}
        yield Reason("no_sweeper", text, sweep_remedy(), True, {"wake_at": wake})


def _in_vain(case: Case) -> Iterator[Reason]:
    count = case.entry.publishes
    if case.is_due and case.able and count >= FUTILE:
        text = _(
            "It was published %(count)d times and never claimed. Perhaps something else consumes "
            "the queue: workers of another project, without the task, or on another database."
        ) % {"count": count}
        remedy = _(
            "Compare broker, database and task modules of the workers. Their logs say which "
            "messages they discard."
        )
        yield Reason("in_vain", text, remedy, True, {"publishes": count})


def _busy(case: Case) -> Iterator[Reason]:
    sizes = [each.concurrency for each in case.able]
    slots = sum(size or 0 for size in sizes)
    if not case.is_due or not slots or None in sizes:
        return
    mine = overview.running_now().filter(worker__in=[each.identity for each in case.able])
    found = mine.aggregate(count=Count("pk"), oldest=Min("started_at"))
    if found["count"] < slots or found["oldest"] is None:
        return
    text = ngettext(
        "The workers on its queue are busy: their only slot has been taken for %(span)s.",
        "The workers on its queue are busy: all %(slots)d slots are taken, one of them for "
        "%(span)s.",
        slots,
    ) % {"slots": slots, "span": span(case.at - found["oldest"])}
    yield Reason("busy", text, "", False, {"slots": slots, "oldest_started_at": found["oldest"]})


def _backlog(case: Case) -> Iterator[Reason]:
    if not case.is_due:
        return
    entry = case.entry
    earlier = Q(queue=entry.queue, state__in=WAITING, due_at__lt=entry.due_at) & ~Q(pk=entry.pk)
    sample = overview.soonest()
    found = sample.aggregate(before=Count("pk", filter=earlier), seen=Count("pk"))
    count, exact = found["before"], found["seen"] < overview.SAMPLE
    if not count:
        return
    if exact:
        text = ngettext(
            "%(count)d entry on its queue became due earlier.",
            "%(count)d entries on its queue became due earlier.",
            count,
        )
    else:
        text = _("At least %(count)d entries on its queue became due earlier.")
    details = {"ahead": count, "exact": exact}
    remedy = _("If the queue never gets shorter, start more workers on it.")
    yield Reason("backlog", text % {"count": count}, remedy, False, details)


def next_in_turn(case: Case) -> Reason:
    """Say that nothing keeps the entry."""
    waited = case.at - case.entry.due_at
    if waited < timedelta(seconds=current().PUBLISH_GRACE):
        text = _(
            "It has been due for %(span)s and nothing keeps it. Its message is on its way; if it "
            "was lost, the sweeper publishes it again."
        )
    else:
        text = _("It has been due for %(span)s and nothing keeps it: it is next in turn.")
    return Reason("next", text % {"span": span(waited)}, "", False, {"due_at": case.entry.due_at})


#: What is looked for, the most decisive first.
CAUSES: Final[tuple[Callable[[Case], Iterator[Reason]], ...]] = (
    _cancel_asked,
    _expiry,
    _not_due,
    _paused,
    _key_held,
    _no_worker,
    _unknown_task,
    _broker,
    _no_sweeper,
    _in_vain,
    _busy,
    _backlog,
)
