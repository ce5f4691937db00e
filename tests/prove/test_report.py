"""The proof's table in the documentation is what was measured."""

from __future__ import annotations

from prove import report


def row(title: str, **changes: object) -> report.Row:
    findings = {"orders": 10, "attempts": 12, "lost": 0}
    return report.Row("x", title, runs=1, faults=2, **{"findings": findings, **changes})  # type: ignore[arg-type]


def test_rows_are_replaced_and_others_stay(tmp_path):
    """Writing one scenario again replaces its row and notes, and leaves all others as they are."""
    page = tmp_path / "page.md"
    page.write_text(f"before\n{report.BEGIN}\n{report.END}\nafter\n")
    first = [
        row("one", recoveries=[1.0, 2.0], figures={"pace": 7}),
        row("two", figures={"pace": 8}),
    ]
    report.write(first, "make prove", page)
    report.write([row("one", recoveries=[3.0], skipped="")], "make prove ARGS=x", page)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    lines = report.read(text)
    assert [line[0] for line in lines] == ["one", "two"]
    assert lines[0][-2:] == ["3.0", "3.0"]
    assert "- two: pace: 8" in text
    assert "- one: pace" not in text
    assert "Made by `make prove ARGS=x`" in text


def test_a_row_is_right_only_if_nothing_was_broken():
    """What a scenario looked for by itself counts like what the checker found."""
    assert row("fine").ok
    assert not row("lost", findings={"lost": 1}).ok
    assert not row("own", broken=["too slow"]).ok
    assert row("repeats", findings={"repeats": 3}).ok
