"""The page on the life of an entry shows the table of moves that the code follows."""

from __future__ import annotations

import importlib.util
import re

from reliable_tasks.states import MOVES, State, legal
from tests.harness import ROOT

PAGE = ROOT / "docs" / "life-of-an-entry.md"


def generator():
    """Load the script beside the pages, which is in no package."""
    spec = importlib.util.spec_from_file_location("make_diagram", ROOT / "docs" / "make_diagram.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def arrows():
    """Read the diagram of the page back: state, next state, verbs."""
    block = re.search(r"```mermaid\n(.*?)```", PAGE.read_text(), re.DOTALL)[1]
    return [
        (before, after, set(words.split(", ")))
        for before, after, words in re.findall(r"(\S+) --> (\S+): (.+)", block)
    ]


def test_the_page_is_up_to_date():
    """The diagram and the table of the page are what the table of moves makes them today."""
    page = PAGE.read_text()
    assert generator().replaced(page) == page, "run python docs/make_diagram.py"


def test_the_diagram_shows_every_move_and_no_other():
    """Read back from the page, the diagram is the table of moves, arrow by arrow."""
    shown = {
        (before, after, verb)
        for before, after, verbs in arrows()
        if before != "[*]" and after != "[*]"
        for verb in verbs
    }
    moves = {
        (before.value, after.value, move.verb)
        for move in MOVES
        for before in move.before
        for after in move.after
    }
    assert shown == moves
    assert all(legal(State(before), State(after)) for before, after, _ in shown)


def test_the_diagram_begins_and_ends():
    """A life begins with enqueue and ends with prune, from the ended states alone."""
    assert {(after, *verbs) for before, after, verbs in arrows() if before == "[*]"} == {
        ("pending", "enqueue")
    }
    ended = {before for before, after, verbs in arrows() if after == "[*]"}
    assert ended == {"succeeded", "dead", "cancelled"}


def test_a_new_move_would_be_noticed(monkeypatch):
    """A move that is in the code and not on the page makes the page out of date."""
    module = generator()
    monkeypatch.setattr(module, "MOVES", MOVES[:-1])
    page = PAGE.read_text()
    assert module.replaced(page) != page
