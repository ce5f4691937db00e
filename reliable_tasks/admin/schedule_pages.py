"""The parts of a schedule's page: how it stands, its last runs and its next."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, tzinfo
from itertools import compress
from typing import TYPE_CHECKING, Any, Final

from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from .. import overview
from ..models import Occurrence
from ..schedules import operations, rivals
from ..schedules.beats import embedded_beats
from ..schedules.operations import Standing
from ..schedules.trouble import troubles
from ..schedules.when import zone_of

if TYPE_CHECKING:
    from django_celery_beat.models import PeriodicTask

_RUNS: Final = 10
_TIME: Final = "%Y-%m-%d %H:%M:%S"


def standing_word(standing: Standing) -> str:
    """Return how a schedule stands, in a word."""
    if standing.problem:
        return _("problem")
    if not standing.enabled:
        return _("disabled")
    return _("paused") if standing.paused else _("enabled")


def how_it_stands(schedule: PeriodicTask) -> SafeString:
    """Return how a schedule stands and what is wrong with it."""
    standing = operations.standing(schedule)
    lines = [(_stands(standing),)]
    if standing.remaining is not None:
        lines.append((_("%d runs left.") % standing.remaining,))
    if standing.buffered is not None:
        at = f"{standing.buffered:{_TIME}} UTC"
        lines.append((_("The run of %s waits for an earlier one to end.") % at,))
    if standing.handled_until is not None:
        at = f"{standing.handled_until:{_TIME}} UTC"
        lines.append((_("Every due time until %s is accounted for.") % at,))
    shown = format_html_join("", "<div>{}</div>", lines)
    found = [(each.text, each.remedy) for each in troubles(schedule)]
    found += inside_workers()
    if standing.ran_elsewhere_at is not None:
        at = f"{standing.ran_elsewhere_at:{_TIME}} UTC"
        found.append((_("Another scheduler ran it at %s.") % at, _stop_the_other()))
    wrong = format_html_join(
        "", '<div class="reliable-tasks-trouble"><strong>{}</strong> {}</div>', found
    )
    return format_html('<div class="reliable-tasks-standing">{}{}</div>', shown, wrong)


def inside_workers() -> list[tuple[str, str]]:
    """Return which beats run inside workers, and what to do about it."""
    names = embedded_beats()
    if not names:
        return []
    text = _("A beat runs inside a worker (-B): %s.") % ", ".join(names)
    return [(text, _("Run it as a process of its own: celery -A <project> beat -S reliable"))]


def other_schedulers() -> list[tuple[str, str]]:
    """Return whether another scheduler runs schedules, and what to do about it."""
    rival = rivals.seen()
    if rival is None:
        return []
    at = f"{rival.latest:{_TIME}} UTC"
    text = _("Another scheduler runs schedules, such as “%(name)s” at %(at)s.")
    return [(text % {"name": rival.names[0], "at": at}, _stop_the_other())]


def _stop_the_other() -> str:
    return _("Stop the beat that runs without -S reliable: each of its runs is one too many.")


def _stands(standing: Standing) -> str:
    word = standing_word(standing)
    if standing.problem:
        return f"{word}: {standing.problem}"
    if standing.enabled and standing.paused:
        if standing.paused_until is None:
            return _("%(word)s: %(reason)s") % {"word": word, "reason": standing.pause_reason}
        local = f"{timezone.localtime(standing.paused_until):{_TIME} %Z}"
        return _("%(word)s until %(until)s: %(reason)s") % {
            "word": word,
            "until": local,
            "reason": standing.pause_reason,
        }
    return word


def last_runs(schedule: PeriodicTask) -> SafeString:
    """Return the last ten occurrences as a table, each linked to its entry."""
    rows = operations.last_runs(schedule, _RUNS)
    if not rows:
        return format_html("<p>{}</p>", _("It has not come due yet."))
    zone = zone_of(schedule)
    states = _states(rows)
    head: tuple[str, ...] = (
        *(_zone_name(zone), "UTC"),
        *(_("trigger"), _("outcome"), _("entry"), _("why")),
    )
    cells: list[tuple[Any, ...]] = [
        (
            local_time(each.due_at, zone),
            f"{each.due_at:{_TIME}}",
            trigger_word(each),
            outcome(each),
            entry_link(each, _(states[each.entry_id]) if each.entry_id in states else ""),
            each.reason or cause_word(each),
        )
        for each in rows
    ]
    if head[0] == "UTC":
        head, cells = head[1:], [row[1:] for row in cells]
    more = format_html(
        '<p><a href="{}?schedule__exact={}">{}</a></p>',
        reverse("admin:reliable_tasks_occurrence_changelist"),
        schedule.pk,
        _("All of its runs"),
    )
    return table(head, cells) + more


def next_runs(schedule: PeriodicTask) -> SafeString:
    """Return the next ten due times as a table."""
    if operations.standing(schedule).problem:
        return format_html("<p>{}</p>", _("They cannot be told."))
    runs = operations.next_runs(schedule, _RUNS)
    if not runs:
        return format_html("<p>{}</p>", _("It will not come due again."))
    head = (_zone_name(zone_of(schedule)), "UTC", _("fires (UTC)"), "")
    cells = [
        (
            f"{each.local:{_TIME} %Z}",
            f"{each.due_at:{_TIME}}",
            f"{each.fires_at:{_TIME}}",
            _("will be skipped: paused") if each.paused else "",
        )
        for each in runs
    ]
    # What says the same as its neighbour is left out: a zone that is UTC, a jitter that is none.
    keep = (
        head[0] != "UTC",
        True,
        any(each.fires_at != each.due_at for each in runs),
        any(each.paused for each in runs),
    )
    shown = table(compress(head, keep), [tuple(compress(row, keep)) for row in cells])
    if not schedule.enabled:
        shown += format_html("<p>{}</p>", _("The schedule is disabled: these would be its runs."))
    return shown


def outcome(row: Occurrence) -> str:
    """Return what became of an occurrence, and of how many where one row stands for several."""
    word = _(row.outcome)
    if row.send_at is not None:
        return _("%s, its message not sent yet") % word
    if row.count == 1:
        return word
    return _("%(outcome)s, %(count)d of them") % {"outcome": word, "count": row.count}


def trigger_word(row: Occurrence) -> str:
    """Return what made an occurrence, in a word."""
    return str(row.get_trigger_display()).replace("_", " ")


def cause_word(row: Occurrence) -> str:
    """Return why a due time did not fire, in a word."""
    return str(row.get_cause_display()) if row.cause else ""


def entry_link(row: Occurrence, state: str = "") -> SafeString | str:
    """Return the link to an occurrence's entry; for a plain Celery task the message's id."""
    if row.entry_id is None:
        return ""
    if not row.reliable:
        return str(row.entry_id)
    try:
        url = reverse("admin:reliable_tasks_entry_change", args=[row.entry_id])
    except NoReverseMatch:  # a project may have taken the page of entries out of its admin
        return str(row.entry_id)
    text = f"{str(row.entry_id)[-12:]} {state}".strip()
    return format_html('<a href="{}" title="{}">{}</a>', url, row.entry_id, text)


def local_time(at: datetime, zone: tzinfo) -> str:
    """Return a time in a schedule's own zone."""
    return f"{at.astimezone(zone):{_TIME} %Z}"


def table(head: Iterable[Any], rows: Iterable[Sequence[Any]]) -> SafeString:
    """Return a table, everything in it escaped."""
    titles = format_html_join("", '<th scope="col">{}</th>', ((each,) for each in head))
    lines = format_html_join(
        "",
        "<tr>{}</tr>",
        ((format_html_join("", "<td>{}</td>", ((cell,) for cell in row)),) for row in rows),
    )
    return format_html(
        '<div class="reliable-tasks-scroll">'
        '<table class="reliable-tasks-runs reliable-tasks-times">'
        "<thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>",
        titles,
        lines,
    )


def _zone_name(zone: tzinfo) -> str:
    return str(getattr(zone, "key", zone))


def _states(rows: Sequence[Occurrence]) -> dict[Any, str]:
    ids = [each.entry_id for each in rows if each.entry_id is not None and each.reliable]
    return dict(overview.entries().filter(pk__in=ids).values_list("pk", "state")) if ids else {}
