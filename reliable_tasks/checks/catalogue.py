"""What the checks can find: one rule for each stable id. ``docs/checks.md`` explains each.

An id is never reused. ``E`` means that something cannot work or that a promise would be broken,
``W`` that work may be slow, stuck or exposed, ``I`` is worth knowing.

Note [Quiet by default]: whoever starts with a broker URL and the defaults sees nothing. Advice that
only production needs therefore runs with ``manage.py check --deploy``, as Django's own does.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from django.core.checks import ERROR, INFO, WARNING, CheckMessage

_LEVELS: Final = {"E": ERROR, "W": WARNING, "I": INFO}


class When(StrEnum):
    """When a rule is looked at."""

    ALWAYS = "always"
    DATABASE = "`--database`"
    DEPLOY = "`--deploy`"


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that can be wrong.

    Attributes:
        code: letter of the level and number.
        title: what is wrong, in a line.
        when: when it is looked at.
    """

    code: str
    title: str
    when: When = When.ALWAYS

    @property
    def id(self) -> str:
        """The stable id, as in ``SILENCED_SYSTEM_CHECKS``."""
        return f"reliable_tasks.{self.code}"

    @property
    def level(self) -> int:
        """Django's number for the level."""
        return _LEVELS[self.code[0]]

    def found(self, where: str, message: str, hint: str) -> CheckMessage:
        """Return the message of one finding.

        Args:
            where: the setting or task it is about.
            message: what is wrong there, with its values.
            hint: why it matters and what to type.
        """
        return CheckMessage(self.level, message, hint=hint, obj=where, id=self.id)


SETTINGS = Rule("E001", "`RELIABLE_TASKS` is wrong")
USE_TZ = Rule("E002", "`USE_TZ` is off")
VENDOR = Rule("E003", "The ledger is on a database of an unknown kind")
TIME_ZONE = Rule("E004", "The ledger's database connection is not in UTC")
AUTOCOMMIT = Rule("E005", "Autocommit is off on the ledger's database")
ROUTER = Rule("E006", "The ledger's tables have no home")
JSON_REFUSED = Rule("E007", "Workers refuse JSON")
APP_NEEDED = Rule("E008", "Celery is told to use an app that is not installed")
CELERY_CONF = Rule("E009", "Celery's configuration cannot be read")
UNREACHABLE = Rule("E010", "The ledger's database does not answer", When.DATABASE)
ONCE = Rule("E030", "`once` of a task cannot be meant")
HINT_UNUSABLE = Rule("E040", "An annotation with a model cannot be honoured")
ARGUMENT_OPTION = Rule("E041", "An option for arguments names what is not there")
LOCK = Rule("E042", "Rows are to be locked outside of a transaction")
LOAD = Rule("E043", "`Load(…)` asks for what is not there")
DECLARATION = Rule("E055", "A schedule that code declares is wrong")
BEAT_NEEDED = Rule("E056", "`django_celery_beat` is not installed")

NOT_MIGRATED = Rule("W001", "The ledger's tables are not migrated", When.DATABASE)
SQLITE_MODE = Rule("W002", "SQLite takes its write lock too late")
SQLITE_TIMEOUT = Rule("W003", "SQLite hardly waits for its turn to write")
SQLITE_WAL = Rule("W004", "SQLite's readers and writers block each other")
ATOMIC_REQUESTS = Rule("W005", "`ATOMIC_REQUESTS` does not cover the ledger's database")
COMPANION = Rule("W006", "A companion app is not installed")
NO_APP = Rule("W007", "There is no Celery app")
NO_FIXUP = Rule("W008", "The Celery app does not know Django")
THREADS = Rule("W009", "Other threads see another Celery app")
NO_BROKER = Rule("W010", "Celery has no broker URL")
PICKLE = Rule("W011", "Pickle is accepted")
VISIBILITY = Rule("W012", "The visibility timeout is short")
EAGER = Rule("W013", "Tasks run in the caller's process")
ANNOTATION = Rule("W014", "An annotation undoes what reliable tasks pin")
UNPINNED = Rule("W015", "A task undoes what its base pins")
TASK_CLS = Rule("W016", "Celery's own tasks became reliable")
GREEN_POOL = Rule("W017", "A short lease on a pool of green threads")
SOCKET_TIMEOUT = Rule("W018", "A silent broker blocks whoever talks to it", When.DEPLOY)
TIME_LIMIT = Rule("W019", "An attempt may hang for ever", When.DEPLOY)
ISOLATION = Rule("W020", "The ledger's transactions are isolated too strictly")
DURABILITY = Rule("W021", "A commit does not wait for the disk", When.DATABASE)
HINT_UNREADABLE = Rule("W040", "An annotation cannot be read")
SCHEDULED = Rule("W041", "A schedule passes arguments that are refused")
EMBEDDED_BEAT = Rule("W060", "A beat runs inside a worker", When.DATABASE)
STOCK_SCHEDULER = Rule("W061", "The stock scheduler is configured beside declared schedules")
SCHEDULED_TASK = Rule("W062", "A schedule names a task that does not exist", When.DATABASE)
SCHEDULED_JSON = Rule("W063", "A schedule's arguments are no JSON", When.DATABASE)
SCHEDULED_CALL = Rule("W064", "A schedule's arguments do not fit its task", When.DATABASE)
SCHEDULED_ROW = Rule("W065", "A schedule's argument names a row that is gone", When.DATABASE)
RIVAL = Rule("W066", "Another scheduler runs the same schedules", When.DATABASE)

ACKS_LATE = Rule("I001", "`task_acks_late` does not apply to reliable tasks", When.DEPLOY)
CONNECTIONS = Rule("I002", "Plain tasks open a database connection each", When.DEPLOY)
CHORDS = Rule("I003", "Chords of plain tasks may lose their body", When.DEPLOY)
PREFETCH = Rule("I004", "A worker hoards messages behind long tasks", When.DEPLOY)
CONFIRM = Rule("I005", "RabbitMQ does not confirm what it takes", When.DEPLOY)

RULES: Final = tuple(value for value in list(globals().values()) if isinstance(value, Rule))
