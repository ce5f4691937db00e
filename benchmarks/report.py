"""Medians, ratios, and the table for the terminal, for JSON and for README.md."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.servers import BenchmarkError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.cases import Case, Row

_BEGIN = "<!-- benchmark table: begin (written by `python -m benchmarks --write-readme`) -->"
_TIMES = "×"  # noqa: RUF001 - the ratio's sign, in the table as in the documents
_END = "<!-- benchmark table: end -->"

Rounds = list[dict[str, float]]


@dataclass(frozen=True)
class Line:
    """One finished line of the table.

    Attributes:
        label: what was measured.
        unit: "/s" or "ms".
        median: over the rounds.
        low: smallest round.
        high: largest round.
        ratio: median of the rounds' ratios to the baseline; None for the baseline.
        target: the ratio to reach, or None.
    """

    label: str
    unit: str
    median: float
    low: float
    high: float
    ratio: float | None
    target: float | None

    @property
    def verdict(self) -> str:
        """Say whether the target is reached; empty where there is none."""
        if self.target is None or self.ratio is None:
            return ""
        word = "reached" if self.ratio >= self.target else "NOT reached"
        return f"≥ {self.target:g}{_TIMES}: {word}"

    def cells(self) -> tuple[str, str, str, str, str]:
        """Return label, median, range, ratio and verdict as text."""
        ratio = f"{1.0 if self.ratio is None else self.ratio:.2f}{_TIMES}"
        spread = f"{_number(self.low, self.unit)} … {_number(self.high, self.unit)}"
        median = f"{_number(self.median, self.unit)} {self.unit}".replace(" /s", "/s")
        return self.label, median, spread, ratio, self.verdict


def _number(value: float, unit: str) -> str:
    return f"{value:,.1f}" if unit == "ms" else f"{value:,.0f}"


def _line(row: Row, rounds: Rounds) -> Line:
    values = [figures[row.label] for figures in rounds]
    ratio = None
    if row.baseline is not None:
        ratio = statistics.median(figures[row.label] / figures[row.baseline] for figures in rounds)
    return Line(
        row.label, row.unit, statistics.median(values), min(values), max(values), ratio, row.target
    )


def lines(case: Case, rounds: Rounds) -> list[Line]:
    """Return the finished lines of one case.

    Args:
        case: what was measured.
        rounds: for each round, the figure of every row by its label.
    """
    return [_line(row, rounds) for row in case.rows]


def as_text(results: Sequence[tuple[Case, Rounds]], facts: dict[str, str]) -> str:
    """Return the table for a terminal.

    Args:
        results: the cases with their rounds.
        facts: machine facts by label.
    """
    width = max(len(row.label) for case, _ in results for row in case.rows)
    parts = [f"{label}: {value}" for label, value in facts.items()]
    for case, rounds in results:
        parts += ["", f"{case.title}  [{case.name}]"]
        for line in lines(case, rounds):
            label, median, spread, ratio, verdict = line.cells()
            text = f"  {label:<{width}}  {median:>12}  ({spread})"
            parts.append(f"{text:<{width + 36}} {ratio:>7}  {verdict}".rstrip())
    return "\n".join(parts)


def as_markdown(results: Sequence[tuple[Case, Rounds]], facts: dict[str, str]) -> str:
    """Return the same table as Markdown.

    Args:
        results: the cases with their rounds.
        facts: machine facts by label.
    """
    parts = [f"- {label}: {value}" for label, value in facts.items()]
    for case, rounds in results:
        parts += ["", f"**{case.title}** (`--only {case.name}`)", ""]
        parts += [
            f"| | median | rounds | {_TIMES} plain Celery | target |",
            "|---|--:|--:|--:|---|",
        ]
        parts += [f"| {' | '.join(line.cells())} |" for line in lines(case, rounds)]
    return "\n".join(parts)


def as_json(results: Sequence[tuple[Case, Rounds]], facts: dict[str, str]) -> dict[str, Any]:
    """Return everything that was measured, ready for ``json.dumps``.

    Args:
        results: the cases with their rounds.
        facts: machine facts by label.
    """
    return {
        "machine": facts,
        "cases": {
            case.name: {
                "title": case.title,
                "lines": [vars(line) for line in lines(case, rounds)],
                "rounds": rounds,
            }
            for case, rounds in results
        },
    }


def write_readme(path: Path, table: str) -> None:
    """Put the table between the markers of a README.

    Args:
        path: the file.
        table: Markdown.

    Raises:
        BenchmarkError: the markers are not there.
    """
    text = path.read_text(encoding="utf-8")
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise BenchmarkError(f"{path} has lost the markers between which the table goes.")
    path.write_text(f"{before}{begin}\n\n{table}\n\n{end}{after}", encoding="utf-8")
