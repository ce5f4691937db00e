"""The ledger in Django's admin: to look at, to requeue and to cancel; nothing is edited here.

Schedules are the exception: their page is django-celery-beat's, with policy, runs and acts added.
"""

from .entries import EntryAdmin
from .occurrences import OccurrenceAdmin
from .overview import OverviewAdmin
from .schedules import ScheduleAdminMixin
from .subject import SubjectAdminMixin
from .workers import WorkerProcessAdmin

__all__ = [
    "EntryAdmin",
    "OccurrenceAdmin",
    "OverviewAdmin",
    "ScheduleAdminMixin",
    "SubjectAdminMixin",
    "WorkerProcessAdmin",
]
