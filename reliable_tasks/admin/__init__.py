"""The ledger in Django's admin: to look at, to requeue and to cancel; nothing is edited here."""

from .entries import EntryAdmin
from .overview import OverviewAdmin
from .subject import SubjectAdminMixin
from .workers import WorkerProcessAdmin

__all__ = ["EntryAdmin", "OverviewAdmin", "SubjectAdminMixin", "WorkerProcessAdmin"]
