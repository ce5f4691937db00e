"""The list of fault points is that of the code, the docs and the tests."""

from __future__ import annotations

import re

from reliable_tasks.faults import POINTS
from tests.faults import keyed
from tests.faults.cases import CASES, FAULTS, NOTHING_TO_CUT, ON_SQLITE, cases_of
from tests.harness import ROOT
from tests.pages import DOCS, rows


def test_every_point_of_the_code_is_listed():
    """The points that the code reaches are those of the list."""
    code = "".join(path.read_text() for path in (ROOT / "reliable_tasks").rglob("*.py"))
    assert set(re.findall(r"reach\(\"([a-z.]+)\"\)", code)) == set(POINTS)


def test_every_point_is_documented():
    """The page of the fault points has each of them with its words."""
    listed = {cells[0].strip("`"): cells[1] for cells in rows(DOCS / "fault-points.md")}
    assert {name: listed.get(name) for name in POINTS} == POINTS


def test_every_point_has_a_test_for_each_fault():
    """Each point is led to, and nothing is left out but cuts of connections that are not used."""
    assert {case.point for case in (*CASES, *keyed.CASES)} == set(POINTS)
    tried = {(case.point, fault) for fault in FAULTS for case in cases_of(fault)}
    tried |= {(case.point, fault) for case, fault in keyed.TRIED}
    missing = {(point, fault) for point in POINTS for fault in FAULTS} - tried
    allowed = set(POINTS) if ON_SQLITE else NOTHING_TO_CUT
    assert missing == {(point, "cut") for point in allowed}
