"""What the commands read their arguments with, and print with."""

import argparse
import io
import json
from datetime import UTC, datetime, timedelta

import pytest
from django.core.management.base import OutputWrapper
from django.core.management.color import no_style

from reliable_tasks.ids import new_id
from reliable_tasks.management.console.output import Column, Output, Progress, clean, table
from reliable_tasks.management.console.parsing import duration
from reliable_tasks.management.console.shape import relative, span
from tests.commands import Terminal

COLUMNS = (
    Column("ID"),
    Column("TASK", least=6),
    Column("N", right=True, spare=True),
    Column("QUEUE", spare=True),
)
ROWS = [["a1", "shop.tasks.charge", "7", "mail"], ["b2", "x", "10", ""]]


def test_a_table_is_aligned():
    """Columns line up, numbers to the right, and no line ends in blanks."""
    assert list(table(COLUMNS, ROWS, None)) == [
        "ID  TASK                N  QUEUE",
        "a1  shop.tasks.charge   7  mail",
        "b2  x                  10",
    ]


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (30, "a1  shop.tasks.cha…   7  mail"),
        (21, "a1  shop.…   7  mail"),
        (16, "a1  shop.ta…   7"),
        (9, "a1  shop.…"),
        (3, "a1  shop.…"),
    ],
)
def test_a_table_fits_its_terminal(width, line):
    """Long cells are cut first, then spare columns go, and what is needed stays."""
    assert list(table(COLUMNS, ROWS, width))[1] == line


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("90", timedelta(seconds=90)),
        ("0.5", timedelta(seconds=0.5)),
        ("45s", timedelta(seconds=45)),
        ("1h30m", timedelta(minutes=90)),
        ("1h 30m", timedelta(minutes=90)),
        ("7D", timedelta(days=7)),
        ("2w", timedelta(days=14)),
    ],
)
def test_lengths_of_time_are_read(text, length):
    """A plain number is seconds; units add up."""
    assert duration(text) == length


@pytest.mark.parametrize("text", ["", "soon", "-5", "1y", "5 5", "1h5", "9" * 30 + "w"])
def test_other_lengths_are_refused(text):
    """What is no length of time is refused with an example."""
    with pytest.raises(argparse.ArgumentTypeError):
        duration(text)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0.0s"),
        (0.44, "0.4s"),
        (59.9, "59s"),
        (60, "1m"),
        (185, "3m 5s"),
        (7200, "2h"),
        (86400 * 2 + 3600 * 4 + 59, "2d 4h"),
        (-65, "-1m 5s"),
    ],
)
def test_lengths_of_time_are_written(seconds, words):
    """A length of time is written in two units at most."""
    assert span(timedelta(seconds=seconds)) == words


def test_times_are_told_from_now():
    """A time is ahead, gone by, or now."""
    now = datetime(2030, 1, 1, tzinfo=UTC)
    assert relative(now + timedelta(hours=2), now) == "in 2h"
    assert relative(now - timedelta(seconds=5), now) == "5s ago"
    assert relative(now, now) == "now"


def test_clean_text_is_harmless():
    """Control characters are spelled out; in a table's cell line breaks are blanks."""
    assert clean("a\x1b[31m\nb\tc") == "a\\x1b[31m b c"
    assert clean("a\nb", keep_lines=True) == "a\nb"
    assert clean(None) == ""
    assert clean("Grüße 你好") == "Grüße 你好"


class Ascii(io.StringIO):
    """A terminal that cannot write most of the world's letters."""

    encoding = "ascii"

    def write(self, text):
        text.encode("ascii")
        return super().write(text)


def output(stdout, stderr=None, **options):
    wrapped = [OutputWrapper(each or io.StringIO()) for each in (stdout, stderr)]
    return Output(*wrapped, no_style(), as_json=options.get("as_json", False))


def test_letters_that_the_terminal_lacks_are_spelled_out():
    """A message in any script is printed on any terminal."""
    out = Ascii()
    output(out).line("Grüße \udcff")
    assert out.getvalue() == "Gr\\xfc\\xdfe \\udcff\n"


def test_json_has_ids_and_times_as_text():
    """Ids are text, times ISO 8601 in UTC, and all of it ASCII."""
    out, entry = io.StringIO(), new_id()
    moment = datetime(2030, 1, 1, 2, tzinfo=UTC)
    output(out).data({"id": entry, "at": moment, "text": "ü"})
    assert json.loads(out.getvalue()) == {
        "id": str(entry),
        "at": "2030-01-01T02:00:00+00:00",
        "text": "ü",
    }
    assert out.getvalue().isascii()


def test_paragraphs_are_wrapped_on_a_terminal(monkeypatch):
    """Long text is wrapped and indented on a terminal, and one line elsewhere."""
    monkeypatch.setenv("COLUMNS", "40")
    wide, narrow = io.StringIO(), Terminal()
    for out in (wide, narrow):
        output(out).paragraph("word " * 12 + "requeue --task-name", "ok  ", "    ")
    assert len(wide.getvalue().splitlines()) == 1
    lines = narrow.getvalue().splitlines()
    assert len(lines) == 3
    assert all(len(line) <= 40 for line in lines)
    assert lines[1].startswith("    word")
    assert lines[2].endswith("--task-name")


def test_short_work_shows_no_progress():
    """An act that is over at once prints no progress."""
    err = io.StringIO()
    with Progress(OutputWrapper(err), "requeued", 10) as progress:
        progress.add(10)
    assert err.getvalue() == ""


def test_long_work_shows_how_far_it_is(monkeypatch):
    """Long work tells how far it is: in place on a terminal, line by line elsewhere."""
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    plain, live = io.StringIO(), Terminal()
    for err in (plain, live):
        with Progress(OutputWrapper(err), "requeued", 2000) as progress:
            progress.add(500)
            progress.add(1000)
    assert plain.getvalue() == "requeued 500 of 2,000 …\nrequeued 1,500 of 2,000 …\n"
    assert live.getvalue().endswith("\r\x1b[Krequeued 1,500 of 2,000 …\r\x1b[K")
