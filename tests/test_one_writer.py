"""Nothing outside the ledger writes the ledger's tables."""

from __future__ import annotations

import ast
import re

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.test import RequestFactory

import reliable_tasks
from reliable_tasks.models import (
    Attempt,
    BeatLease,
    Entry,
    Key,
    Occurrence,
    Operation,
    OperatorAct,
    Pause,
    ScheduleState,
    TouchedEntry,
    WorkerProcess,
)
from tests.harness import ROOT

PACKAGE = ROOT / "reliable_tasks"
TABLES = (
    *(Entry, Attempt, Key, WorkerProcess, OperatorAct, TouchedEntry, Operation, Pause),
    *(Occurrence, ScheduleState, BeatLease),
)
MODELS = {model.__name__: model for model in TABLES}
# Who uses one of these words can have rows of the ledger's in hand.
ROWS = {*MODELS, "attempts", "entries", "workers"}
WRITES = {
    *("save", "create", "delete", "update", "update_or_create", "get_or_create"),
    *("bulk_create", "bulk_update", "_raw_delete", "_insert", "_update", "save_base"),
}
WRITES |= {f"a{verb}" for verb in WRITES}
# These have no other meaning than a write, whoever's rows they are.
NEVER = {verb for verb in WRITES if "bulk" in verb or "_or_" in verb or "_raw" in verb}
SQL = re.compile(
    r"\b(INSERT\s+INTO|UPDATE\s+\S+\s+SET|DELETE\s+FROM|TRUNCATE\s+|MERGE\s+INTO|COPY\s+\S+\s+FROM)",
    re.IGNORECASE,
)


def writes(source: str) -> list[str]:
    """Return where a module writes, or may write, rows of the ledger's.

    Args:
        source: the module's text.
    """
    tree = ast.parse(source)
    words = {word for node in ast.walk(tree) for word in _words(node)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            verb = node.func.attr
            if _handed_on(node):
                continue
            if verb in NEVER or (verb in WRITES and words & ROWS and not _of_a_mapping(node)):
                found.append(f"line {node.lineno}: {ast.unparse(node.func)}()")
        elif _is_sql(node):
            found.append(f"line {node.lineno}: SQL that writes")
    return found


def _words(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute):
        return [node.attr]
    if isinstance(node, ast.alias):
        return [node.asname or node.name, node.name]
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.findall(r"\w+", node.value)[:2]  # get_model("reliable_tasks", "Entry")
    return []


def _handed_on(node: ast.Call) -> bool:
    # A model that refuses some of its own writes hands the others on.
    return ast.unparse(node.func) in {"super().save", "super().delete"}


def _of_a_mapping(node: ast.Call) -> bool:
    # A queryset's update() takes keywords only; a dict's or set's takes what it adds.
    return node.func.attr == "update" and bool(node.args) and not node.keywords


def _is_sql(node: ast.AST) -> bool:
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    # What an f-string fills in counts as a word, such as the table's name.
    text = "".join(str(getattr(part, "value", "")) if _is_text(part) else "x" for part in parts)
    return SQL.search(text) is not None


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


MODULES = sorted(
    path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).parts[0] != "ledger"
)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_ledger_writes(path):
    """No module outside the ledger changes a row of the ledger's, by ORM or by SQL."""
    assert writes(path.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "Entry.objects.filter(pk=1).update(state='dead')",
        "from .models import Entry as Row\nRow.objects.create(task='x')",
        "def act(entry: Entry):\n    entry.save(update_fields=['state'])",
        "from . import models\nfor row in models.Entry.objects.all():\n    row.delete()",
        "overview.entries().filter(pk=1).update(wake_at=None)",
        "entry.attempts.create(number=1)",
        "rows.bulk_update(many, ['state'])",
        "apps.get_model('reliable_tasks', 'Entry').objects.update(state='x')",
        "await Entry.objects.acreate()",
        "cursor.execute('UPDATE reliable_tasks_entry SET state = 1')",
        "cursor.execute(f'INSERT INTO {TABLE} (id) VALUES (1)')",
        "cursor.execute('delete from reliable_tasks_attempt')",
        "cursor.execute(f'UPDATE {TABLE} SET {changes}')",
    ],
)
def test_a_write_is_recognised(source):
    """Each way to write a row, by ORM or SQL, is seen by this test."""
    assert writes(source)


@pytest.mark.parametrize(
    "source",
    [
        "headers.update(options)",
        "Entry.objects.filter(pk=1).values_list('pk')\nnames.update(Entry.objects.all())",
        "form.save()",
        "'''An UPDATE that moves what it sets.'''",
        "ledger.cancel([entry.pk])",
    ],
)
def test_what_is_no_write_is_not_taken_for_one(source):
    """A dictionary's update, another model's form and plain words are no writes."""
    assert writes(source) == []


def test_the_ledger_itself_writes():
    """The test looks at real code: it sees the ledger's own writes."""
    assert all(
        any(writes(path.read_text()) for path in (PACKAGE / "ledger").glob(f"{name}.py"))
        for name in (
            *("acts", "claim", "enqueue", "finish", "operate", "pauses", "rescue", "workers"),
            *("schedules", "occurrences", "beats"),
        )
    )


@pytest.mark.parametrize("name", MODELS)
def test_the_admin_changes_no_row_by_itself(name):
    """In the admin nobody, not even a superuser, adds, edits or deletes a row of the ledger's."""
    model = MODELS[name]
    if model not in admin.site._registry:
        return
    page = admin.site._registry[model]
    request = RequestFactory().get("/")
    request.user = User(is_superuser=True, is_staff=True, is_active=True)
    assert not page.has_add_permission(request)
    assert not page.has_change_permission(request)
    assert not page.has_delete_permission(request)
    assert "delete_selected" not in page.get_actions(request)
    for inline in page.get_inline_instances(request):
        assert not inline.has_add_permission(request, None)
        assert not inline.has_change_permission(request, None)
        assert not inline.has_delete_permission(request, None)


def test_the_public_root_hands_out_no_writer():
    """The package's root offers nothing that writes entries but the task itself."""
    assert not {"Entry", "Attempt", "ledger"} & set(reliable_tasks.__all__)
