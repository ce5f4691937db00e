"""The ledger in Django's admin: to look at, to requeue and to cancel; nothing is edited here."""

from .entries import EntryAdmin
from .workers import WorkerProcessAdmin

__all__ = ["EntryAdmin", "WorkerProcessAdmin"]
