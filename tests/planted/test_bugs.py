"""The planted bugs still fit the code, and the page about them is that of these bugs."""

from __future__ import annotations

import ast
import shutil

import pytest

from tests.harness import ROOT
from tests.pages import DOCS, rows
from tests.planted.bug import NotThere
from tests.planted.bugs import BUGS


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_bug_can_be_planted(bug, tmp_path):
    """Each bug replaces texts that are there exactly once, by valid Python, and has catchers."""
    for path in {edit.path for edit in bug.edits}:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    bug.plant(tmp_path)
    for path in {edit.path for edit in bug.edits}:
        planted = (tmp_path / path).read_text()
        assert planted != (ROOT / path).read_text()
        ast.parse(planted)
    assert bug.caught_by
    assert all((ROOT / path).exists() for path in bug.caught_by)


def test_a_bug_that_no_longer_fits_is_told(tmp_path):
    """A bug whose text has gone from the code is an error, not a bug that was caught."""
    bug = BUGS[0]
    for edit in bug.edits:
        (tmp_path / edit.path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / edit.path).write_text("# rewritten\n")
    with pytest.raises(NotThere, match=r"0 times instead of once\. The code has changed"):
        bug.plant(tmp_path)


def test_the_page_shows_bugs_that_were_caught():
    """The matrix in the documentation has each bug of today, with what caught it."""
    shown = {
        cells[0].strip("`"): cells[-1]
        for cells in rows(DOCS / "planted-bugs.md")
        if cells[0].startswith("`")
    }
    assert shown
    assert set(shown) == {bug.name for bug in BUGS}
    assert all("`" in caught for caught in shown.values())
