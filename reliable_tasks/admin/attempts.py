"""The attempts of an entry, on its page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from django.contrib import admin
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from ..models import Attempt, Entry
from .reading import block, exact_time

if TYPE_CHECKING:
    _StackedInline = admin.StackedInline[Attempt, Entry]
else:
    _StackedInline = admin.StackedInline

_BEGAN: Final = exact_time("started_at", _("began"))
_ENDED: Final = exact_time("ended_at", _("ended"))


class AttemptInline(_StackedInline):
    """The attempts that did not succeed."""

    model = Attempt
    fields = ("outcome", "worker", _BEGAN, _ENDED, "failure", "trace")
    readonly_fields = (_BEGAN, _ENDED, "failure", "trace")
    ordering = ("number",)
    can_delete = False
    extra = 0
    verbose_name_plural = _("attempts that did not succeed")

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Who may see an entry may see its attempts."""
        return request.user.has_perm("reliable_tasks.view_entry")

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody adds."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody edits."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody deletes."""
        return False

    @admin.display(description=_("error"))
    def failure(self, attempt: Attempt) -> SafeString | str:
        """Show the exception's class and message."""
        return error_of(attempt)

    @admin.display(description=_("traceback"))
    def trace(self, attempt: Attempt) -> SafeString | str:
        """Show the traceback with its line breaks."""
        return block(attempt.traceback)


def error_of(of: Entry | Attempt) -> SafeString | str:
    """Return the class and message of an entry's or attempt's error, escaped."""
    both = (of.error_class, of.error_message)
    return block(": ".join(part for part in both if part))
