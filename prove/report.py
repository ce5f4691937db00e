"""The table of a proof, on the terminal and in the documentation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prove.recovery import percentile
from tests.harness import ROOT

PAGE = ROOT / "docs" / "guarantees.md"
BEGIN, END = "<!-- prove: begin -->", "<!-- prove: end -->"
#: Columns of the checker's findings, all of which must be zero but the last.
COUNTED = ("lost", "duplicate", "ghost", "stuck", "fenced", "early", "poison", "shared", "leaked")


@dataclass
class Row:
    """What one scenario came to, over all its runs.

    Attributes:
        name: of the scenario.
        title: what happened.
        runs: how often it was acted.
        faults: how many faults were injected.
        findings: the checker's numbers, added up.
        recoveries: seconds of each recovery.
        broken: what else was not as promised.
        skipped: why it could not be acted, if so.
        figures: numbers of its own.
        seconds: how long it took.
    """

    name: str
    title: str
    runs: int = 0
    faults: int = 0
    findings: dict[str, Any] = field(default_factory=dict)
    recoveries: list[float] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    skipped: str = ""
    figures: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, findings: dict[str, Any]) -> None:
        """Add the findings of one run."""
        for name, value in findings.items():
            self.findings[name] = self.findings.get(name, type(value)()) + value

    @property
    def ok(self) -> bool:
        """Whether every promise was kept."""
        return not self.broken and not any(self.findings.get(name) for name in COUNTED)

    def cells(self) -> list[str]:
        """Return its line of the table."""
        if self.skipped:
            return [self.title, "skipped", *[""] * 11]
        seconds = [percentile(self.recoveries, share) for share in (0.5, 0.99)]
        return [
            self.title,
            *(str(self.runs), str(self.faults), str(self.findings.get("orders", 0))),
            str(self.findings.get("attempts", 0)),
            *(str(self.findings.get(name, 0)) for name in ("lost", "duplicate", "ghost", "stuck")),
            str(self.findings.get("fenced", 0)),
            str(self.findings.get("repeats", 0)),
            *("-" if each is None else f"{each:.1f}" for each in seconds),
        ]


HEAD = (
    *("scenario", "runs", "faults", "orders", "attempts", "lost", "dup", "ghost", "stuck"),
    *("fenced", "repeats", "p50 s", "p99 s"),
)


def table(lines: Iterable[Sequence[str]]) -> str:
    """Return lines of cells as a table of Markdown, which reads well on a terminal too."""
    all_lines = [HEAD, *lines]
    widths = [max(len(line[column]) for line in all_lines) for column in range(len(HEAD))]

    def written(line: Sequence[str]) -> str:
        first, *rest = line
        right = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        return "| " + " | ".join([first.ljust(widths[0]), *right]) + " |"

    rule = "|" + "|".join(["-" * (widths[0] + 2), *("-" * (w + 1) + ":" for w in widths[1:])]) + "|"
    head, *body = map(written, all_lines)
    return "\n".join([head, rule, *body])


def write(rows: Sequence[Row], command: str, page: Path = PAGE) -> None:
    """Put rows into the table between the page's markers; those of other scenarios stay."""
    before, rest = page.read_text().split(BEGIN)
    old, after = rest.split(END)
    cells = {line[0]: line for line in read(old)} | {row.title: row.cells() for row in rows}
    titles = {row.title for row in rows}
    notes = [
        line
        for line in old.splitlines()
        if line.startswith("- ") and line[2:].partition(": ")[0] not in titles
    ]
    for row in rows:
        notes += [f"- {row.title}: {name}: {value:,.4g}" for name, value in row.figures.items()]
        notes += [f"- {row.title}: skipped, {row.skipped}"] if row.skipped else []
    parts = [f"Made by `{command}`:", table(cells.values()), *(["\n".join(notes)] if notes else [])]
    page.write_text(before + BEGIN + "\n" + "\n\n".join(parts) + "\n\n" + END + after)


def read(text: str) -> list[list[str]]:
    """Return the cells of each line of a table, but its head."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]
