"""The translations are complete, compiled from their text, and used."""

from __future__ import annotations

import gettext
import re
import shutil
import subprocess

import pytest
from django.urls import reverse
from django.utils import translation

from reliable_tasks import overview
from reliable_tasks.why import why_waiting
from tests import entries, messages
from tests.messages import Message

CATALOGUES = messages.catalogues()
_PLACE = re.compile(r"%\(\w+\)[a-z]|%[a-z]|<[^>]+>")


@pytest.fixture(params=CATALOGUES, ids=lambda path: path.parent.parent.name)
def catalogue(request):
    """Give the test each catalogue."""
    return request.param


def test_simplified_chinese_is_there():
    """The languages that are promised have catalogues."""
    assert "zh_Hans" in {path.parent.parent.name for path in CATALOGUES}


def test_every_message_is_translated(catalogue):
    """No text of the package lacks a translation, and none has one that nobody looked at."""
    known = messages.read_po(catalogue)
    missing = [
        f"{message.text!r} in {places}"
        for message, places in messages.extract().items()
        if message not in known or not known[message].text
    ]
    assert not missing, "python -m tests.messages adds them to the catalogue, to be translated"
    assert [message.text for message, each in known.items() if each.flags] == []


def test_a_translation_fills_in_the_same_values(catalogue):
    """A translation has the placeholders and the markup of its message."""
    for message, each in messages.read_po(catalogue).items():
        wanted = _PLACE.findall(message.plural or message.text)
        assert sorted(_PLACE.findall(each.text)) == sorted(wanted), message.text
        if "%" in message.text:  # the message is filled in, so that any other % is written twice
            assert "%" not in _PLACE.sub("", each.text).replace("%%", ""), message.text


def test_the_compiled_catalogue_is_that_of_the_text(catalogue):
    """What gettext reads is what the text says, byte for byte."""
    known = messages.read_po(catalogue)
    language = catalogue.parent.parent.name
    compiled = catalogue.with_suffix(".mo")
    assert compiled.read_bytes() == messages.compiled(language, known), "python -m tests.messages"
    with compiled.open("rb") as file:
        found = gettext.GNUTranslations(file)
    for message, each in known.items():
        if message.plural:
            assert found.ngettext(message.text, message.plural, 2) == each.text
        elif message.context:
            assert found.pgettext(message.context, message.text) == each.text
        else:
            assert found.gettext(message.text) == each.text


def test_gettext_accepts_the_catalogue(catalogue, tmp_path):
    """Where GNU gettext is installed, its own compiler finds no fault with the catalogue."""
    program = shutil.which("msgfmt")
    if program is None:
        pytest.skip("msgfmt is not installed")
    done = subprocess.run(
        [program, "--check-format", "-o", tmp_path / "out.mo", catalogue],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_what_is_to_be_translated_is_found():
    """Texts are found in code and in templates, with plural, context, and joined literals."""
    source = 'a = _("one " "two")\nb = ngettext("%d x", "%d xs", n)\nc = pgettext("of time", "m")\n'
    assert list(messages.of_python(source, "here")) == [
        Message("one two"),
        Message("%d x", "%d xs"),
        Message("m", context="of time"),
    ]
    template = (
        '{% load i18n %}{% if x %}{% translate "one" %}{% endif %}'
        "{% blocktranslate trimmed count n=n %}\n {{ n }} y\n{% plural %}{{ n }} ys"
        "{% endblocktranslate %}"
    )
    assert set(messages.of_template(template)) == {
        Message("one"),
        Message("%(n)s y", "%(n)s ys"),
    }
    with pytest.raises(AssertionError):
        list(messages.of_python("ngettext(one, many, n)", "here"))


def test_an_update_keeps_translations(tmp_path, monkeypatch):
    """Bringing a catalogue up to date adds what is new, empty, and loses nothing."""
    path = tmp_path / "xx" / "LC_MESSAGES" / "django.po"
    path.parent.mkdir(parents=True)
    text = 'two\nlines "quoted" \\ %(x)s'
    known = {
        Message("a", context="c"): messages.Translation("A"),
        Message(text, "many"): messages.Translation(text.upper()),
    }
    messages.write_po(path, "xx", known)
    assert {key: each.text for key, each in messages.read_po(path).items()} == {
        key: each.text for key, each in known.items()
    }
    monkeypatch.setattr(messages, "extract", lambda: {Message("new"): ["x.py"]})
    assert messages.update(path) == [Message("new")]
    assert {key.text: each.text for key, each in messages.read_po(path).items()} == {
        "new": "",
        "a": "A",
        text: text.upper(),
    }
    assert path.with_suffix(".mo").exists()


# ------------------------------------------------------------------------------------------- in use
def test_the_admin_speaks_chinese(admin_client, settings):
    """With a site in Chinese the pages have no English sentence of ours left."""
    settings.LANGUAGE_CODE = "zh-hans"
    waiting = entries.enqueue(now=overview.now(), delay=600.0)
    for name, words in {
        "overview_changelist": ["概览", "各队列的等待情况", "最近", "每 10 秒"],
        "workerprocess_changelist": ["工作进程"],
        "entry_changelist": ["条目", "状态", "入队"],
    }.items():
        text = admin_client.get(reverse(f"admin:reliable_tasks_{name}")).content.decode()
        assert [word for word in words if word not in text] == []
    page = reverse("admin:reliable_tasks_entry_change", args=[waiting])
    text = admin_client.get(page).content.decode()
    assert "尚未到期。可在" in text
    assert "It is not due yet" not in text


def test_reasons_speak_chinese(db):
    """The reasons of an entry that waits follow the language of the thread."""
    entry = entries.row(entries.enqueue(now=overview.now(), delay=600.0))
    with translation.override("zh-hans"):
        first, second = why_waiting(entry, ask_broker=False)
    assert re.match(r"尚未到期。可在(9 分 5\d 秒|10 分)后，即 \d{4}-", first.text)  # noqa: RUF001
    assert (first.cause, second.text) == ("not_due", "没有存活的工作进程。")
