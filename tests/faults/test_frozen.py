"""A process is frozen at a fault point until its lease is over, and then goes on."""

from __future__ import annotations

import pytest

from tests.faults.cases import Case, at_each_point, check
from tests.faults.conftest import Stage

# The first test of a run waits until everything is imported.
pytestmark = pytest.mark.timeout(180)


@at_each_point("stop")
def test_everything_ends_right(stage: Stage, case: Case):
    """Frozen at whatever step: each committed task has run and each effect is there once."""
    check(stage, case, "stop")
