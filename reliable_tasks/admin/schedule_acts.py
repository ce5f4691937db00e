"""What an operator does to schedules in the admin: the forms, and what they come to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING, Any, Final

from django import forms
from django.contrib import messages
from django.utils import timezone
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from .. import overview
from ..occurrence import Fate
from ..schedules import operations
from ..schedules.operations import BackfillResult
from ..schedules.when import zone_of
from .choosing import time_of

if TYPE_CHECKING:
    from django_celery_beat.models import PeriodicTask

#: A note for the operator: Django's level, the text, and the schedule it is logged on, if any.
Note = tuple[int, str, "PeriodicTask | None"]
#: Most due times that one backfill fires: it must end before the web server's patience does.
BACKFILL_LIMIT: Final = 500
_SHOWN: Final = 20
_MINUTE: Final = "%Y-%m-%dT%H:%M"


class _Moment(forms.DateTimeField):
    """A time, in the browser's own picker; read in the current time zone."""

    widget = forms.DateTimeInput(attrs={"type": "datetime-local"}, format=_MINUTE)

    def __init__(self, **options: Any) -> None:
        super().__init__(input_formats=(_MINUTE, f"{_MINUTE}:%S"), **options)


def _now_text() -> str:
    return overview.now().isoformat()


class ReasonForm(forms.Form):
    """Why, in words."""

    reason = forms.CharField(
        label=_("Reason"),
        max_length=500,
        help_text=_("Why, in words; kept with your name."),
        widget=forms.TextInput(attrs={"class": "vTextField", "autocomplete": "off"}),
    )


class PauseForm(ReasonForm):
    """Why, and until when."""

    until = _Moment(
        label=_("Until"), required=False, help_text=_("Empty: until somebody resumes it.")
    )
    field_order = ("reason", "until")

    def clean_until(self) -> datetime | None:
        """Refuse an end that has passed."""
        until: datetime | None = self.cleaned_data["until"]
        if until is not None and until <= timezone.now():
            raise forms.ValidationError(_("This time has passed."))
        return until


class ResumeForm(ReasonForm):
    """Why, and which pauses: those that were there when the page was made."""

    as_of = forms.CharField(widget=forms.HiddenInput, required=False, initial=_now_text)


class BackfillForm(ReasonForm):
    """Which range."""

    start = _Moment(label=_("From"))
    end = _Moment(label=_("To"), help_text=_("Included; not in the future."))
    unknown_too = forms.BooleanField(
        label=_("Also what may have fired"),
        required=False,
        help_text=_(
            "Due times whose occurrences have been pruned: nobody knows what they came to."
        ),
    )
    field_order = ("start", "end", "unknown_too", "reason")

    def clean(self) -> dict[str, Any]:
        """Refuse ranges that are empty or not over."""
        given: dict[str, Any] = super().clean() or self.cleaned_data
        start, end = given.get("start"), given.get("end")
        if start is not None and end is not None and end < start:
            self.add_error("end", _("The range ends before it begins."))
        if end is not None and end > timezone.now():
            self.add_error("end", _("This time is still to come."))
        return given


@dataclass(frozen=True, slots=True)
class Act:
    """Something that is done to schedules after a confirmation.

    Attributes:
        name: in addresses and forms.
        permission: what it requires, of the app ``reliable_tasks``.
        title: of the button and the page.
        meaning: what it does, for the page.
        form: what is asked.
        perform: does it to one schedule and yields notes.
        plan: tells what it would do, in lines, for an act that is confirmed twice.
    """

    name: str
    permission: str
    title: Any
    meaning: Any
    form: type[ReasonForm]
    perform: Callable[[PeriodicTask, dict[str, Any], str], Iterable[Note]]
    plan: Callable[[Sequence[PeriodicTask], dict[str, Any]], list[str]] | None = None


def _run(each: PeriodicTask, given: dict[str, Any], by: str) -> Iterator[Note]:
    done = operations.run_now(each, reason=given["reason"], by=by)
    if done.outcome == Fate.FIRED:
        text = gettext("“%(name)s” was run: %(entry)s.")
        yield messages.SUCCESS, text % {"name": each.name, "entry": done.entry_id}, each
    else:
        text = gettext("“%(name)s” did not run: %(reason)s")
        yield messages.ERROR, text % {"name": each.name, "reason": done.reason}, None


def _pause(each: PeriodicTask, given: dict[str, Any], by: str) -> Iterator[Note]:
    if operations.pause(each, given["reason"], until=given["until"], by=by):
        yield messages.SUCCESS, gettext("“%(name)s” is paused.") % {"name": each.name}, each
    else:
        text = gettext("“%(name)s” is paused already; that pause stays as it is.")
        yield messages.WARNING, text % {"name": each.name}, None


def _resume(each: PeriodicTask, given: dict[str, Any], by: str) -> Iterator[Note]:
    if operations.resume(each, given["reason"], by=by, as_of=time_of(given["as_of"])):
        yield messages.SUCCESS, gettext("“%s” goes on.") % each.name, each
    else:
        text = gettext("“%s” was left alone: it is not paused, or has been paused anew.")
        yield messages.WARNING, text % each.name, None


def _reset(each: PeriodicTask, given: dict[str, Any], by: str) -> Iterator[Note]:
    if operations.reset_runs(each, reason=given["reason"], by=by):
        text = gettext("“%s” counts its runs from zero.")
        yield messages.SUCCESS, text % each.name, each
    else:
        yield messages.WARNING, gettext("“%s” had no runs to count.") % each.name, None


def _backfill(each: PeriodicTask, given: dict[str, Any], by: str) -> Iterator[Note]:
    done = _filled(each, given, by=by, dry_run=False)
    count = len(done.fired)
    text = ngettext(
        "“%(name)s”: %(count)d due time was fired.",
        "“%(name)s”: %(count)d due times were fired.",
        count,
    )
    level = messages.SUCCESS if count else messages.WARNING
    yield level, text % {"name": each.name, "count": count}, each if count else None
    for at, why in done.refused.items():
        text = gettext("“%(name)s” at %(at)s was refused: %(why)s")
        yield messages.ERROR, text % {"name": each.name, "at": at, "why": why}, None
    if done.more:
        text = gettext("“%(name)s” has more due times there than %(limit)d: do it again.")
        yield messages.WARNING, text % {"name": each.name, "limit": BACKFILL_LIMIT}, None


def _plan_backfill(rows: Sequence[PeriodicTask], given: dict[str, Any]) -> list[str]:
    lines = []
    for each in rows:
        planned = _filled(each, given, by="", dry_run=True)
        count = len(planned.fired)
        text = ngettext("%(name)s: %(count)d due time", "%(name)s: %(count)d due times", count)
        lines.append(text % {"name": each.name, "count": count})
        lines += [_in_words(at, zone_of(each)) for at in planned.fired[:_SHOWN]]
        if count > _SHOWN:
            lines.append(gettext("… and %d more") % (count - _SHOWN))
        if planned.already:
            lines.append(gettext("%d fired before and stay as they are") % len(planned.already))
        if planned.unknown:
            text = gettext("%d may have fired, as their occurrences are pruned, and are left alone")
            lines.append(text % len(planned.unknown))
        if planned.more:
            lines.append(gettext("There are more than %d: the oldest.") % BACKFILL_LIMIT)
    return lines


def _in_words(at: datetime, zone: tzinfo) -> str:
    """Return a due time in its schedule's zone and in UTC, unless they are the same."""
    local, universal = f"{at.astimezone(zone):%Y-%m-%d %H:%M:%S %Z}", f"{at:%Y-%m-%d %H:%M:%S} UTC"
    return universal if local == universal else f"{local} · {universal}"


def _filled(
    schedule: PeriodicTask, given: dict[str, Any], *, by: str, dry_run: bool
) -> BackfillResult:
    return operations.backfill(
        schedule,
        given["start"],
        given["end"],
        limit=BACKFILL_LIMIT,
        reason=given["reason"],
        by=by,
        unknown_too=given["unknown_too"],
        dry_run=dry_run,
    )


ACTS: Final = {
    act.name: act
    for act in (
        Act(
            "run",
            "run_schedule",
            _("Run now"),
            _(
                "Each of them fires once, now, besides its due times; also if it is disabled or "
                "paused."
            ),
            ReasonForm,
            _run,
        ),
        Act(
            "pause",
            "pause_schedule",
            _("Pause"),
            _("Due times are skipped from now on, each with the reason, until the pause ends."),
            PauseForm,
            _pause,
        ),
        Act(
            "resume",
            "pause_schedule",
            _("Resume"),
            _("Due times fire again from now on. What was skipped stays skipped."),
            ResumeForm,
            _resume,
        ),
        Act(
            "backfill",
            "backfill_schedule",
            _("Backfill a range"),
            _("The due times of a range that have not fired are fired now."),
            BackfillForm,
            _backfill,
            _plan_backfill,
        ),
        Act(
            "reset",
            "run_schedule",
            _("Count runs from zero"),
            _("What has run so far no longer counts for the most runs that its policy allows."),
            ReasonForm,
            _reset,
        ),
    )
}
