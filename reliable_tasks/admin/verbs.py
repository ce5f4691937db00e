"""The acts on entries as the admin offers them: names, permissions, words and forms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from django.utils.translation import gettext_lazy

from ..operations import Act
from .forms import ActForm, EditForm, RequeueForm


@dataclass(frozen=True, slots=True)
class Verb:
    """One act as the admin offers it.

    Attributes:
        name: in addresses.
        act: what is done.
        permission: of this app; who has not got it is refused.
        label: of the button.
        about: what it means, in a sentence.
        form: what is asked for.
        danger: whether its button warns.
    """

    name: str
    act: Act
    permission: str
    label: Any
    about: Any
    form: type[ActForm] = ActForm
    danger: bool = False


VERBS: Final = {
    verb.name: verb
    for verb in (
        Verb(
            "requeue",
            Act.REQUEUE,
            "requeue_entry",
            gettext_lazy("Requeue"),
            gettext_lazy("They run again, with fresh budgets of retries and crashes."),
            RequeueForm,
        ),
        Verb(
            "edit",
            Act.REQUEUE,
            "edit_entry_arguments",
            gettext_lazy("Requeue with other arguments"),
            gettext_lazy("It runs again with the arguments below, for good."),
            EditForm,
        ),
        Verb(
            "cancel",
            Act.CANCEL,
            "cancel_entry",
            gettext_lazy("Cancel"),
            gettext_lazy(
                "What waits never runs. What runs is asked to stop, and may still finish."
            ),
            danger=True,
        ),
        Verb(
            "discard",
            Act.DISCARD,
            "discard_entry",
            gettext_lazy("Discard"),
            gettext_lazy(
                "They are given up: cancelled, and no dead letters any more. They can still be "
                "requeued until they are pruned."
            ),
            danger=True,
        ),
        Verb(
            "release",
            Act.RELEASE_KEY,
            "release_key",
            gettext_lazy("Release the keys"),
            gettext_lazy(
                "An equal call is enqueued again from then on, also while the entry that held the "
                "key waits or runs. That entry goes on."
            ),
            danger=True,
        ),
    )
}
#: Not offered on all that match a filter: one entry's arguments; and keys, which somebody chose.
ONE_BY_ONE: Final = frozenset({"edit", "release"})
