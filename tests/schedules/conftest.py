"""Fixtures of the schedules' tests; what they and the tests are made of is in ``making``."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django_celery_beat.models import PeriodicTask

from tests.schedules import making


@pytest.fixture
def make_schedule(db: None) -> Callable[..., PeriodicTask]:
    """Return a function that makes a schedule: hourly, of a task that adds, unless told."""
    return making.simple
