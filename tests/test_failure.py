"""What is kept of an exception."""

from __future__ import annotations

import importlib
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reliable_tasks import codec, failure
from reliable_tasks.errors import ArgumentError
from reliable_tasks.failure import Failure, class_name, describe, fingerprint


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no words")


def caught(act, *args):
    try:
        act(*args)
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def test_class_message_and_place_are_kept():
    """A failure has the class, the message and the traceback down to the line that raised."""
    found = describe(caught(int, "seven"))
    assert found.error_class == "ValueError"
    assert found.message == "invalid literal for int() with base 10: 'seven'"
    assert "in caught" in found.traceback
    assert found.traceback.endswith(f"ValueError: {found.message}\n")


def test_a_class_is_named_with_its_module():
    """Classes are named by module and qualified name, builtins by name alone."""
    assert class_name(Mute) == f"{__name__}.Mute"
    assert class_name(KeyError) == "KeyError"


def test_the_traceback_begins_with_the_users_code():
    """The package's own frames above the user's code are left out of the traceback."""
    error = caught(codec.encode, [object()], {})
    assert isinstance(error, ArgumentError)
    outside = error.__traceback__
    error.__traceback__ = outside.tb_next  # as in a worker, where the first frame is the package's
    assert "codec.py" not in describe(error).traceback
    error.__traceback__ = outside
    assert "codec.py" in describe(error).traceback


def test_the_cause_is_kept():
    """The traceback shows what caused the exception."""

    def act():
        try:
            {}["missing"]
        except KeyError as cause:
            raise LookupError("no such order") from cause

    kept = describe(caught(act)).traceback
    assert "KeyError: 'missing'" in kept
    assert "LookupError: no such order" in kept


@pytest.mark.parametrize("kind", [Mute, type("Odd", (Exception,), {"__str__": lambda self: 5})])
def test_an_exception_that_cannot_be_shown_is_kept_all_the_same(kind):
    """A broken __str__ costs the message, never the failure."""
    found = describe(caught(raise_, kind()))
    assert found.error_class.endswith(kind.__name__)
    assert "cannot be shown" in found.message
    assert found.traceback


def raise_(error):
    raise error


def test_an_exception_that_was_never_raised_can_be_described():
    """An exception without a traceback has a class, a message and a fingerprint."""
    found = describe(ValueError("made, not raised"))
    assert (found.error_class, found.message) == ("ValueError", "made, not raised")
    assert len(found.fingerprint) == 16


@given(st.text(st.characters(), max_size=200))
def test_whatever_the_message_the_database_can_store_it(message):
    """Neither NUL nor a lone surrogate, which no database takes, is left in a message."""
    found = describe(ValueError(message))
    assert "\x00" not in found.message
    assert found.message.encode() == found.message.encode("utf-8", "strict")
    assert "\x00" not in found.traceback
    found.traceback.encode()


def test_a_huge_message_is_cut_in_the_middle():
    """A message too long to be read keeps its beginning and its end and says what is missing."""
    found = describe(ValueError("begin" + "x" * 100_000 + "end"))
    assert found.message.startswith("begin")
    assert found.message.endswith("end")
    assert "characters left out" in found.message
    assert len(found.message) < 5_000


def test_a_runaway_recursion_leaves_a_bounded_row():
    """The traceback of a runaway recursion is bounded."""

    def dig(n):
        return dig(n + 1) + len(str(n))

    def zig(n):
        return zag(n + 1)

    def zag(n):
        return zig(n + 1)

    for act in (dig, zig):
        found = describe(caught(act, 0))
        assert found.error_class == "RecursionError"
        assert len(found.traceback) < 50_000


def test_a_long_class_name_fits_its_column():
    """The name of a class is cut to the width of its column."""
    assert len(describe(type("E" * 400, (Exception,), {})()).error_class) == 255


MODULE = """
def first(n):
    raise ValueError(n)
def second(n):
    raise ValueError(n)
def other_kind(n):
    raise KeyError(n)
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Give the test a function that writes and imports a module of tasks."""
    monkeypatch.syspath_prepend(tmp_path)

    def load(text):
        sys.modules.pop("tasks_that_fail", None)
        (tmp_path / "tasks_that_fail.py").write_text(text)
        importlib.invalidate_caches()
        return importlib.import_module("tasks_that_fail")

    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield load
    sys.modules.pop("tasks_that_fail", None)


def test_alike_failures_share_a_fingerprint(module):
    """Failures of one class in one function are alike, whatever their message and line."""
    tasks = module(MODULE)
    first = describe(caught(tasks.first, 1)).fingerprint
    assert describe(caught(tasks.first, 2)).fingerprint == first
    edited = module("import os\n\n\n" + MODULE)
    assert describe(caught(edited.first, 3)).fingerprint == first


def test_different_failures_have_different_fingerprints(module):
    """Another class or another function is another kind of failure."""
    tasks = module(MODULE)
    kinds = {
        describe(caught(act, 1)).fingerprint
        for act in (tasks.first, tasks.second, tasks.other_kind)
    }
    assert len(kinds) == 3


def test_a_fingerprint_keeps_its_parts_apart():
    """Two lists of parts that join to the same text are still different."""
    assert fingerprint("ab", "c") != fingerprint("a", "bc")
    assert fingerprint("a") == fingerprint("a")


def test_a_failure_reads_as_one_line():
    """A failure is shown as its class without the module and its message."""
    assert str(Failure("app.errors.GatewayDown", "503")) == "GatewayDown: 503"
    assert str(Failure("KeyError", "")) == "KeyError"


def test_limits_leave_room_for_whole_messages():
    """A message of ordinary length is kept to the letter."""
    text = "".join(chr(33 + n % 90) for n in range(failure._MESSAGE_LIMIT))
    assert describe(ValueError(text)).message == text
