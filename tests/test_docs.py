"""The documentation says what the code does: tables, links, blocks and command lines."""

from __future__ import annotations

import inspect
import logging
import re
import shlex
from dataclasses import fields
from datetime import timedelta
from pathlib import Path

import pytest

from reliable_tasks import events
from reliable_tasks.conf import Settings
from reliable_tasks.management.commands.reliable_tasks import Command
from reliable_tasks.states import MOVES, Outcome, State
from tests.harness import ROOT
from tests.pages import DOCS, PAGES, anchors, blocks, prose, rows

LIFE = DOCS / "life-of-an-entry.md"
PACKAGE = ROOT / "reliable_tasks"
SETTINGS = {field.name: field for field in fields(Settings)}
_LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_COMMAND = re.compile(r"manage\.py reliable_tasks(?P<rest>[^`\n]*)")


def table(page: Path, pattern: str) -> dict[str, list[str]]:
    """Return the rows of a page's tables whose first cell is code of that pattern, by the code."""
    found = {}
    for cells in rows(page):
        match = re.fullmatch(rf"`({pattern})`", cells[0])
        if match:
            found[match[1]] = cells[1:]
    return found


def ids(pages: list[Path]) -> list[str]:
    return [str(page.relative_to(ROOT)) for page in pages]


# -- reference pages ------------------------------------------------------------------------------


def test_settings_page_lists_every_setting():
    """The settings page has one row for each setting, with its type and default."""
    listed = table(DOCS / "settings.md", "[A-Z_]+")

    assert sorted(listed) == sorted(SETTINGS)
    for name, (kind, default, _meaning) in listed.items():
        assert kind == f"`{SETTINGS[name].type}`", name
        assert eval(default.strip("`"), {"timedelta": timedelta}) == SETTINGS[name].default, name


def test_settings_page_example_is_valid():
    """The example on the settings page is accepted."""
    scope: dict[str, dict[str, object]] = {}
    exec(blocks(DOCS / "settings.md", "python")[0].text, scope)
    Settings(**scope["RELIABLE_TASKS"])


@pytest.mark.parametrize("page", PAGES, ids=ids(PAGES))
def test_numbers_beside_settings_are_their_defaults(page):
    """Where a page puts a number behind a setting's name, it is the default."""
    for name, number in re.findall(r"`([A-Z_]{4,})` \((\d+)", prose(page)):
        assert int(number) == SETTINGS[name].default, name


def test_events_table_lists_every_event():
    """The table of events has each signal with its class, its own fields and its level."""
    base = {field.name for field in fields(events.Event)}
    kinds = {
        kind.__name__: kind
        for _, kind in inspect.getmembers(events, inspect.isclass)
        if issubclass(kind, events.Event) and kind is not events.Event
    }
    listed = table(DOCS / "operating.md", "entry_[a-z_]+|publish_failed")

    assert {cells[0].strip("`") for cells in listed.values()} == set(kinds)
    for signal, (kind_name, names, level, _when) in listed.items():
        kind = kinds[kind_name.strip("`")]
        own = [field.name for field in fields(kind) if field.name not in base]
        assert getattr(events, signal) is kind.signal
        assert re.findall(r"`(\w+)`", names) == own, signal
        assert getattr(logging, level) == kind.level, signal


def test_glossary_has_every_word_of_the_code():
    """The glossary explains every state and every verb of the table of moves."""
    text = (DOCS / "glossary.md").read_text()
    assert all(re.search(rf"\b{state}\b", text) for state in State)
    explained = {cells[0] for cells in rows(DOCS / "glossary.md")}
    assert {move.verb for move in MOVES} <= explained


def test_module_map_is_complete():
    """The module map names every module of the package, of its ledger and of its worker."""
    modules = {
        path.relative_to(PACKAGE).with_suffix("").as_posix()
        for folder in ("", "ledger", "worker")
        for path in (PACKAGE / folder).glob("*.py")
        if path.name != "__init__.py"
    }
    packages = {
        f"{path.parent.name}/"
        for path in PACKAGE.glob("*/__init__.py")
        if path.parent.name != "migrations"
    }
    assert set(table(DOCS / "architecture.md", "[a-z_/]+")) == modules | packages


def test_life_page_explains_every_state_and_outcome():
    """The page of an entry's life has a row for each state and for each outcome."""
    listed = set(table(LIFE, "[a-z]+"))
    assert {*State, *Outcome} <= listed


# -- every page -----------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=ids(PAGES))
def test_links_lead_somewhere(page):
    """Each relative link of a page leads to a file that exists, and to a heading that it has."""
    for found in _LINK.finditer(prose(page)):
        target, _, heading = found["target"].partition("#")
        if re.match(r"https?://", target):
            continue
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), found[0]
        if heading:
            assert heading in anchors(file), found[0]


@pytest.mark.parametrize("page", PAGES, ids=ids(PAGES))
def test_python_blocks_compile(page):
    """Each block of Python on a page is valid Python."""
    for block in blocks(page, "python"):
        compile(block.text, str(page), "exec")


@pytest.mark.parametrize("page", PAGES, ids=ids(PAGES))
def test_commands_exist(page):
    """Each `manage.py reliable_tasks` on a page has a verb and options that exist."""
    parser = Command().create_parser("manage.py", "reliable_tasks")
    for found in _COMMAND.finditer(page.read_text()):
        words = shlex.split(found["rest"], comments=True)
        if not words or words[0].startswith(("<", "VERB")) or not words[0].isalpha():
            continue
        required = {"show": ["00000000-0000-7000-8000-000000000000"]} if len(words) == 1 else {}
        parser.parse_args(words + required.get(words[0], []))


def test_index_links_to_every_page():
    """The index of the documentation leads to each of its pages."""
    linked = {found["target"] for found in _LINK.finditer((DOCS / "index.md").read_text())}
    assert {page.name for page in DOCS.glob("*.md")} - {"index.md"} <= linked
