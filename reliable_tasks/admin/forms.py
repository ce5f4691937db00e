"""What is asked on the pages of acts, and how the answers become an act."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from .. import operations, overview
from ..dedup import Conflict
from ..errors import ArgumentError
from ..ledger import Seen
from ..models import Entry
from ..operations import Act
from ..oversight import Kind

_LONGEST_REASON: Final = 2_000


@dataclass(frozen=True, slots=True)
class Aim:
    """The entries on which an act is done at once.

    Attributes:
        ids: which.
        as_of: when somebody saw them.
        seen: how they stood then.
    """

    ids: list[UUID]
    as_of: datetime
    seen: Seen = None

    @property
    def guards(self) -> dict[str, Any]:
        """What an act is told, so that it leaves alone what has changed."""
        return {"as_of": self.as_of, "seen": self.seen}


@dataclass(slots=True)
class Done:
    """What an act at once came to.

    Attributes:
        touched: how many entries it touched.
        skipped: those that it left alone.
        words: what to say.
        held: who holds the keys of those that could not be put back.
    """

    touched: int
    skipped: list[UUID]
    words: list[str]
    held: dict[UUID, Conflict] = field(default_factory=dict)


class ActForm(forms.Form):
    """The reason of an act."""

    reason = forms.CharField(
        label=gettext_lazy("Reason"),
        max_length=_LONGEST_REASON,
        widget=forms.Textarea(attrs={"rows": 2, "cols": 60, "class": "vLargeTextField"}),
        help_text=gettext_lazy("Why, for whoever reads the record later."),
    )

    def params(self) -> dict[str, Any]:
        """Return what an operation needs to know beside the reason."""
        return {}

    def act(self, verb: Act, at: Aim, reason: str, *, by: str) -> Done:
        """Do the act at once."""
        if verb is Act.CANCEL:
            done = operations.cancel(at.ids, reason, by=by, **at.guards)
            words = [*cancelled_words(len(done.cancelled)), *asked_words(len(done.asked))]
            return Done(len(done.cancelled) + len(done.asked), done.skipped, words)
        if verb is Act.RELEASE_KEY:
            freed = operations.release_keys_of(at.ids, reason, by=by, **at.guards)
            count = len(freed)
            words = [ngettext("Released %d key.", "Released %d keys.", count) % count]
            left = [pk for pk in at.ids if pk not in set(freed)]
            return Done(count, left, words if count else [])
        found = operations.discard(at.ids, reason, by=by, **at.guards)
        count = len(found.discarded)
        words = [ngettext("Discarded %d entry.", "Discarded %d entries.", count) % count]
        return Done(count, found.skipped, words if count else [])


class RequeueForm(ActForm):
    """When what is requeued becomes due."""

    when = forms.ChoiceField(
        label=gettext_lazy("When"),
        choices=[
            ("now", gettext_lazy("now")),
            ("later", gettext_lazy("all after so many minutes")),
            ("spread", gettext_lazy("spread evenly over so many minutes")),
        ],
        widget=forms.RadioSelect,
        initial="now",
    )
    minutes = forms.FloatField(
        label=gettext_lazy("Minutes"),
        required=False,
        min_value=0.1,
        max_value=60 * 24 * 365,
        help_text=gettext_lazy("For “after” and “spread”."),
    )
    rate = forms.FloatField(
        label=gettext_lazy("At most so many a second"),
        required=False,
        min_value=0.01,
        max_value=operations.FASTEST,
        help_text=gettext_lazy(
            "For large numbers, which are done in the background. Empty: no limit."
        ),
    )

    def clean(self) -> dict[str, Any]:
        """Minutes are needed where they mean something."""
        data: dict[str, Any] = super().clean() or {}
        if data.get("when") in {"later", "spread"} and data.get("minutes") is None:
            self.add_error("minutes", _("How many minutes?"))
        return data

    def params(self) -> dict[str, Any]:
        """Return when, as an operation keeps it."""
        when, minutes = self.cleaned_data["when"], self.cleaned_data.get("minutes") or 0.0
        if when == "spread":
            return {"spread": minutes * 60}
        if when == "later":
            return {"due_at": (overview.now() + timedelta(minutes=minutes)).isoformat()}
        return {}

    def act(self, verb: Act, at: Aim, reason: str, *, by: str) -> Done:
        """Requeue at once."""
        when, minutes = self.cleaned_data["when"], self.cleaned_data.get("minutes") or 0.0
        now = overview.now()
        spread = operations.Spread(now, minutes * 60, len(at.ids)) if when == "spread" else None
        due_at = now + timedelta(minutes=minutes) if when == "later" else None
        done = operations.requeue(at.ids, reason, by=by, due_at=due_at, spread=spread, **at.guards)
        count = len(done.requeued)
        return Done(count, done.skipped, requeued_words(count), done.held)


class EditForm(ActForm):
    """Other arguments for one entry.

    Args:
        entry: the entry, whose arguments are the first values.
    """

    args = forms.CharField(
        label=gettext_lazy("Positional arguments"),
        widget=forms.Textarea(attrs={"rows": 6, "cols": 80, "class": "vLargeTextField"}),
        help_text=gettext_lazy("A JSON array."),
    )
    kwargs = forms.CharField(
        label=gettext_lazy("Keyword arguments"),
        widget=forms.Textarea(attrs={"rows": 6, "cols": 80, "class": "vLargeTextField"}),
        help_text=gettext_lazy("A JSON object."),
    )
    field_order = ["args", "kwargs", "reason"]

    def __init__(self, *given: Any, entry: Entry, **more: Any) -> None:
        super().__init__(*given, **more)
        self._entry = entry
        for name in ("args", "kwargs"):
            value = getattr(entry, name)
            self.fields[name].initial = json.dumps(value, ensure_ascii=False, indent=2)

    def clean(self) -> dict[str, Any]:
        """The arguments must be JSON that the task's function can be called with."""
        data: dict[str, Any] = super().clean() or {}
        if "args" not in data or "kwargs" not in data:
            return data
        try:
            data["arguments"] = operations.read_arguments(self._entry, data["args"], data["kwargs"])
        except ArgumentError as error:
            self.add_error(getattr(error, "where", "") or None, str(error))
        return data

    def act(self, verb: Act, at: Aim, reason: str, *, by: str) -> Done:
        """Requeue the one entry with the other arguments."""
        given = self.cleaned_data["arguments"]
        try:
            done = operations.requeue(at.ids[:1], reason, by=by, arguments=given, **at.guards)
        except ArgumentError as error:
            self.add_error(None, str(error))
            return Done(0, [], [])
        for holder in done.held.values():
            words = _("Another entry has the key of a call with these arguments: %s.")
            self.add_error(None, words % holder.entry)
        count = len(done.requeued)
        return Done(count, done.skipped, requeued_words(count), done.held)


class ResumeForm(ActForm):
    """Which pause is meant: the one that began at a time."""

    since = forms.CharField(required=False, widget=forms.HiddenInput)


class PauseForm(ActForm):
    """What is paused, and for how long."""

    kind = forms.ChoiceField(
        label=gettext_lazy("What"),
        choices=[
            (Kind.QUEUE.value, gettext_lazy("a queue")),
            (Kind.TASK.value, gettext_lazy("a task")),
        ],
        widget=forms.RadioSelect,
        initial=Kind.QUEUE.value,
    )
    name = forms.CharField(label=gettext_lazy("Its name"), max_length=255)
    minutes = forms.FloatField(
        label=gettext_lazy("For so many minutes"),
        required=False,
        min_value=0.1,
        max_value=60 * 24 * 365,
        help_text=gettext_lazy("Empty: until somebody resumes it."),
    )
    counted = forms.CharField(required=False, widget=forms.HiddenInput)
    field_order = ["kind", "name", "minutes", "reason"]


def requeued_words(count: int) -> list[str]:
    """Return what to say of so many entries that were requeued."""
    return [ngettext("Requeued %d entry.", "Requeued %d entries.", count) % count] if count else []


def cancelled_words(count: int) -> list[str]:
    """Return what to say of so many entries that were cancelled."""
    words = ngettext("Cancelled %d entry.", "Cancelled %d entries.", count)
    return [words % count] if count else []


def asked_words(count: int) -> list[str]:
    """Return what to say of so many attempts that were asked to stop."""
    words = ngettext(
        "Asked %d running attempt to stop.", "Asked %d running attempts to stop.", count
    )
    return [words % count] if count else []
