"""Whatever exception tells a secret, and in whatever spelling, it is masked before it is told."""

from __future__ import annotations

import json
import pickle
import subprocess
import traceback
from pathlib import Path
from uuid import UUID

import pytest
from celery.exceptions import Reject, Retry
from django.core.exceptions import ValidationError

from reliable_tasks.hiding import hide_in_error, hide_in_verdict
from reliable_tasks.models import Entry
from reliable_tasks.verdict import RetryAsked, judge
from tests.app.argument_tasks import OddError, use_token
from tests.arguments.test_sensitive import SECRET, everything, extended, heard
from tests.enqueue.calls import deliver

__all__ = ["extended", "heard"]

TOKEN = UUID("11111111-2222-3333-4444-555555555555")
KEY = "-----BEGIN KEY-----\nab'c\"d\\e é\n-----END KEY-----"
TEXTS = [KEY, str(TOKEN), SECRET]


class Worded(Exception):
    """Words its text of something that no attribute shows."""

    __slots__ = ("_token",)

    def __init__(self, token):
        super().__init__()
        self._token = [token, object()].__getitem__

    def __str__(self):
        return f"worded: {self._token(0)}"


class Kept:
    """Shows a secret."""

    def __repr__(self):
        return f"<Kept {SECRET}>"


def with_note():
    error = ValueError("x")
    error.add_note(f"note {SECRET}")
    return error


def with_context():
    error = ValueError("x")
    error.__context__ = FileNotFoundError(2, "No such file", SECRET)
    return error


ERRORS = {
    "file": lambda: FileNotFoundError(2, "No such file", f"/x/{SECRET}"),
    "two files": lambda: OSError(2, "x", SECRET, None, SECRET),
    "command": lambda: subprocess.CalledProcessError(1, ["curl", "-H", SECRET], SECRET),
    "encoded": lambda: UnicodeDecodeError("utf-8", SECRET.encode() + b"\xff", 13, 14, SECRET),
    "invalid": lambda: ValidationError("%(value)s is bad", params={"value": SECRET}),
    "all invalid": lambda: ValidationError({"a": [ValidationError(SECRET), SECRET]}),
    "set": lambda: ValueError({SECRET}),
    "bytes": lambda: ValueError(SECRET.encode()),
    "uuid": lambda: KeyError(TOKEN),
    "path": lambda: ValueError(Path(SECRET)),
    "object": lambda: ValueError(Kept()),
    "nested": lambda: ValueError("x", [{"a": (Kept(), SECRET)}]),
    "error in error": lambda: ValueError(ValueError([KeyError(SECRET)])),
    "note": with_note,
    "context": with_context,
    "group": lambda: ExceptionGroup(f"all {SECRET}", [ValueError(SECRET)]),
    "attribute": lambda: OddError(SECRET),
    "worded": lambda: Worded(SECRET),
    "reject": lambda: Reject(SECRET),
    "retry": lambda: Retry(SECRET, exc=ValueError(SECRET)),
    "exit": lambda: SystemExit(f"bye {SECRET}"),
    "lines": lambda: ValueError(f"bad {KEY}"),
    "lines written": lambda: ValueError(f"bad {KEY!r}"),
    "lines in json": lambda: ValueError(json.dumps({"a": KEY})),
    "lines in json as it is": lambda: ValueError(json.dumps({"a": KEY}, ensure_ascii=False)),
    "lines in a key": lambda: KeyError(KEY),
    "lines in bytes": lambda: ValueError(f"bad {KEY.encode()!r}"),
}


@pytest.mark.parametrize("kind", ERRORS)
def test_no_text_of_an_exception_has_the_secret(kind):
    """Neither str, nor repr, nor the formatted chain of an exception tells a secret."""
    error = ERRORS[kind]()
    before = type(error)
    hide_in_error(error, TEXTS)
    told = f"{error}\n{error!r}\n{''.join(traceback.format_exception(error))}"
    for part in (SECRET, str(TOKEN), "BEGIN KEY", "END KEY"):
        assert part not in told
    assert "***" in told
    assert isinstance(error, before)
    assert (type(error).__name__, type(error).__module__) == (before.__name__, before.__module__)


def test_what_is_not_secret_stays():
    """Only the secret itself goes: the rest of a message, and of what it is made of, stays."""
    error = ValueError(f"user 7: {SECRET}", [1, SECRET], {"a": 1})
    hide_in_error(error, TEXTS)
    assert error.args == ("user 7: ***", [1, "***"], {"a": 1})
    error = FileNotFoundError(2, "No such file", f"/x/{SECRET}")
    hide_in_error(error, TEXTS)
    assert str(error) == "[Errno 2] No such file: '/x/***'"


def test_an_exception_without_secrets_is_left_alone():
    """It is the same afterwards, with the same arguments and attributes, and can be pickled."""
    error = FileNotFoundError(2, "No such file", "/x/y")
    args, state = error.args, dict(vars(error))
    hide_in_error(error, TEXTS)
    assert (error.args, error.filename, vars(error)) == (args, "/x/y", state)
    assert type(error) is FileNotFoundError
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_the_next_attempt_gets_the_secret():
    """What self.retry() changes is no message: it stays as it was given."""
    changes = {"args": f'["{SECRET}"]'}
    error = RetryAsked(ValueError(SECRET), 1.0, None, changes)
    hide_in_error(error, TEXTS)
    assert error.changes == {"args": f'["{SECRET}"]'}
    assert str(error.exc) == "***"


def test_a_structure_that_contains_itself_is_masked():
    """A list that has itself among its items does not keep the attempt from ending."""
    items = [SECRET]
    items.append(items)
    error = ValueError(items)
    hide_in_error(error, TEXTS)
    assert SECRET not in repr(error)


def test_a_verdict_has_no_spelling_of_it(retry_policy):
    """What the ledger keeps is masked in every spelling, too."""
    decision = judge(ValueError(f"bad {KEY!r} {json.dumps(KEY)}"), retry_policy, 0)
    clean = hide_in_verdict(decision, TEXTS)
    assert "BEGIN" not in f"{clean}"
    assert clean.failure.message == """bad '***' "***\""""


@pytest.fixture
def retry_policy():
    """Give the test the policy of a task."""
    return use_token.retry_policy()


@pytest.mark.parametrize("kind", ["file", "command", "reject", "exit", "worded", "uuid", "group"])
def test_nothing_that_a_worker_tells_has_it(
    transactional_db, unsent, extended, admin_client, heard, monkeypatch, kind
):
    """Ledger, log, signals and result backend tell no exception's secret."""

    def run(*args, **kwargs):
        error = ERRORS[kind]()
        raise error

    monkeypatch.setattr(use_token, "run", run)
    monkeypatch.setattr(use_token, "max_retries", 0)
    secret = str(TOKEN) if kind == "uuid" else SECRET
    result = use_token.delay(1, token=secret)
    deliver(use_token, result.id)
    entry = Entry.objects.get()
    assert entry.state == "dead"
    for where, text in everything(entry, admin_client, heard).items():
        assert secret not in text, where
