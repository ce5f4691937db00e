"""At every fault point, with real processes: die, freeze past the lease, lose the database."""

import pytest

pytest.register_assert_rewrite("tests.faults.cases", "tests.faults.keyed")
