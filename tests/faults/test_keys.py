"""A process with a dedup key dies, freezes or loses its database at a fault point."""

from __future__ import annotations

import pytest

from tests.faults.conftest import Stage
from tests.faults.keyed import IDS, TRIED, Case, check

# The first test of a run waits until everything is imported.
pytestmark = pytest.mark.timeout(180)


@pytest.mark.parametrize(("case", "fault"), TRIED, ids=IDS)
def test_a_key_ends_with_its_entry_and_not_before(stage: Stage, case: Case, fault: str):
    """Whatever happens where: who is to block has the key, and nobody else has it or keeps it."""
    check(stage, case, fault)
