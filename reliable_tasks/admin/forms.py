"""What is asked on the pages of acts, and how the answers become an act."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from .. import codec, operations, overview
from ..errors import ArgumentError, CorruptEntry
from ..models import Entry
from ..operations import Act
from ..oversight import Kind
from ..signature import bind
from ..task import ReliableTask

_LONGEST_REASON: Final = 2_000
#: Touched, left alone, and what to say.
Done = tuple[int, int, list[str]]


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

    def act(self, verb: Act, ids: list[UUID], reason: str, *, by: str, as_of: datetime) -> Done:
        """Do the act at once."""
        if verb is Act.CANCEL:
            done = operations.cancel(ids, reason, by=by, as_of=as_of)
            return (
                len(done.cancelled) + len(done.asked),
                len(done.skipped),
                [*cancelled_words(len(done.cancelled)), *asked_words(len(done.asked))],
            )
        if verb is Act.RELEASE_KEY:
            freed = len(operations.release_keys_of(ids, reason, by=by, as_of=as_of))
            words = ngettext("Released %d key.", "Released %d keys.", freed) % freed
            return freed, len(ids) - freed, [words] if freed else []
        found = operations.discard(ids, reason, by=by, as_of=as_of)
        count = len(found.discarded)
        words = ngettext("Discarded %d entry.", "Discarded %d entries.", count) % count
        return count, len(found.skipped), [words] if count else []


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

    def act(self, verb: Act, ids: list[UUID], reason: str, *, by: str, as_of: datetime) -> Done:
        """Requeue at once."""
        when, minutes = self.cleaned_data["when"], self.cleaned_data.get("minutes") or 0.0
        now = overview.now()
        spread = operations.Spread(now, minutes * 60, len(ids)) if when == "spread" else None
        due_at = now + timedelta(minutes=minutes) if when == "later" else None
        done = operations.requeue(ids, reason, by=by, as_of=as_of, due_at=due_at, spread=spread)
        return len(done.requeued), len(done.skipped), requeued_words(len(done.requeued))


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
        parsed: dict[str, Any] = {}
        for name, kind in (("args", list), ("kwargs", dict)):
            if name not in data:
                continue
            try:
                parsed[name] = json.loads(data[name])
            except ValueError as error:
                self.add_error(name, _("This is no JSON: %s") % error)
                continue
            if not isinstance(parsed[name], kind):
                self.add_error(name, self.fields[name].help_text)
        if not self.errors:
            data["arguments"] = self._checked(parsed["args"], parsed["kwargs"])
        return data

    def _checked(self, args: list[Any], kwargs: dict[str, Any]) -> Any:
        try:
            found = codec.decode(json.dumps(args), json.dumps(kwargs))
            codec.encode(*found)
        except (ArgumentError, CorruptEntry, TypeError, ValueError) as error:
            self.add_error(None, str(error))
            return None
        task = operations.known_task(self._entry.task)
        if isinstance(task, ReliableTask):
            try:
                bind(task, *found)
            except TypeError as error:
                self.add_error(None, _("The task does not take these: %s.") % error)
        return found

    def act(self, verb: Act, ids: list[UUID], reason: str, *, by: str, as_of: datetime) -> Done:
        """Requeue the one entry with the other arguments."""
        given = self.cleaned_data["arguments"]
        try:
            done = operations.requeue(ids[:1], reason, by=by, as_of=as_of, arguments=given)
        except ArgumentError as error:
            self.add_error(None, str(error))
            return 0, 0, []
        for holder in done.held.values():
            words = _("Another entry has the key of a call with these arguments: %s.")
            self.add_error(None, words % holder)
        return len(done.requeued), len(done.skipped), requeued_words(len(done.requeued))


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
