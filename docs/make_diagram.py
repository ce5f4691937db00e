"""Draws the life of an entry from ``reliable_tasks.states`` into ``life-of-an-entry.md``.

Run ``python docs/make_diagram.py`` after a change of the table of moves. A test compares the page
with what this prints.
"""

# ruff: noqa: INP001 - a script beside the pages, in no package

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from reliable_tasks.states import ENDED, MOVES, Move, State  # noqa: E402

PAGE = HERE / "life-of-an-entry.md"
BEGIN = "<!-- moves:begin -->"
END = "<!-- moves:end -->"


def arrows() -> dict[tuple[State, State], list[str]]:
    """Return the verbs that lead from one state to another, in the order of the table of moves."""
    found: dict[tuple[State, State], list[str]] = {}
    for move in MOVES:
        for before in ordered(move.before):
            for after in ordered(move.after):
                found.setdefault((before, after), []).append(move.verb)
    return found


def ordered(states: frozenset[State]) -> list[State]:
    """Return states in the order in which they are declared."""
    return [state for state in State if state in states]


def diagram() -> list[str]:
    """Return the lines of the state diagram."""
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> pending: enqueue"]
    lines += [
        f"    {before} --> {after}: {', '.join(verbs)}"
        for (before, after), verbs in arrows().items()
    ]
    lines += [f"    {state} --> [*]: prune" for state in State if state in ENDED]
    return [*lines, "```"]


def table() -> list[str]:
    """Return the lines of the table of moves."""
    return ["| verb | from | to | who may |", "|---|---|---|---|", *map(row, MOVES)]


def row(move: Move) -> str:
    """Return one move as a line of the table."""
    before, after = (", ".join(ordered(states)) for states in (move.before, move.after))
    return f"| {move.verb} | {before} | {after} | {move.by} |"


def section() -> str:
    """Return everything between the two markers."""
    return "\n".join([BEGIN, "", *diagram(), "", *table(), "", END])


def replaced(page: str) -> str:
    """Return the page's text with the section between the markers made anew."""
    head, rest = page.split(BEGIN)
    return head + section() + rest.split(END)[1]


if __name__ == "__main__":
    PAGE.write_text(replaced(PAGE.read_text()))
