"""What a reliable task may say of itself, looked at when Celery makes it. Pure."""

from __future__ import annotations

from typing import Any, Final

from .errors import ConfigurationError
from .options import LONGEST_NAME

# What a column for small whole numbers holds on every database, and one for others.
_SMALL: Final = 32_767
_LARGE: Final = 2_147_483_647


def check(task: Any) -> None:
    """Refuse a task whose options cannot be kept in an entry.

    Args:
        task: the task's class, or the task.

    Raises:
        ConfigurationError: which option is wrong, and what it may be.
    """
    if len(task.name) > LONGEST_NAME:
        raise ConfigurationError(
            f"The name of a task may have {LONGEST_NAME} characters, not {len(task.name)}: "
            f"{task.name[:60]!r}… Pass name='…' to its decorator."
        )
    if not _is_count(task.crash_budget, 1, _SMALL):
        raise _wrong(task, "crash_budget", f"a whole number from 1 to {_SMALL}")
    if task.max_retries is not None and not _is_count(task.max_retries, 0, _LARGE):
        raise _wrong(task, "max_retries", f"None or a whole number from 0 to {_LARGE}")


def _is_count(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _wrong(task: Any, name: str, rule: str) -> ConfigurationError:
    return ConfigurationError(
        f"{task.name}: {name} must be {rule}; it is {getattr(task, name)!r}. Without it the "
        f"setting RELIABLE_TASKS[{name.upper()!r}] applies."
    )
