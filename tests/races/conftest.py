"""Fixtures of the races."""

from __future__ import annotations

import pytest

from tests.harness import SecondConnection
from tests.racing import Race


@pytest.fixture
def race(second_connection: SecondConnection) -> Race:
    """Give the test two connections to race with."""
    return Race(second_connection)
