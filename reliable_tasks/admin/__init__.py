"""The ledger in Django's admin: to see, to understand, and to set right; nothing is edited here.

Each page is a class of its own with a mixin beneath it, for a site or a theme of your own. Where
django-unfold is installed, they are built on its ``ModelAdmin``. Schedules are the exception: their
page is django-celery-beat's, with policy, runs and acts added.
"""

from .acts import OperatorActAdmin, OperatorActAdminMixin
from .deadletters import DeadLetterAdmin, DeadLetterAdminMixin
from .entries import EntryAdmin, EntryAdminMixin
from .occurrences import OccurrenceAdmin
from .operations import OperationAdmin, OperationAdminMixin
from .overview import OverviewAdmin
from .pauses import PauseAdmin, PauseAdminMixin
from .schedules import ScheduleAdminMixin
from .subject import SubjectAdminMixin
from .workers import WorkerProcessAdmin

__all__ = [
    "DeadLetterAdmin",
    "DeadLetterAdminMixin",
    "EntryAdmin",
    "EntryAdminMixin",
    "OccurrenceAdmin",
    "OperationAdmin",
    "OperationAdminMixin",
    "OperatorActAdmin",
    "OperatorActAdminMixin",
    "OverviewAdmin",
    "PauseAdmin",
    "PauseAdminMixin",
    "ScheduleAdminMixin",
    "SubjectAdminMixin",
    "WorkerProcessAdmin",
]
