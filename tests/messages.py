"""The translations: what there is to translate, and the catalogues. ``python -m tests.messages``.

Brings each ``django.po`` up to date with the source and compiles it to ``django.mo``. Needs nothing
but Django. A message that has no translation is left empty, and the tests say so.
"""

from __future__ import annotations

import ast
import re
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parent.parent / "reliable_tasks"
LOCALES = PACKAGE / "locale"
_PLAIN = {"_", "gettext", "gettext_lazy", "gettext_noop"}
_PLURAL = {"ngettext", "ngettext_lazy"}
_CONTEXT = {"pgettext", "pgettext_lazy"}
_SEPARATOR = "\x04"
HEADER = (
    "Content-Type: text/plain; charset=UTF-8\n"
    "Content-Transfer-Encoding: 8bit\n"
    "Language: {language}\n"
    "Plural-Forms: nplurals=1; plural=0;\n"
)


@dataclass(frozen=True)
class Message:
    """One text that is to be translated.

    Attributes:
        text: the text in English.
        plural: the same for several; empty where there is only one form.
        context: what tells it from the same text elsewhere; empty where nothing has to.
    """

    text: str
    plural: str = ""
    context: str = ""

    @property
    def key(self) -> str:
        """What it is filed under in a compiled catalogue."""
        text = f"{self.text}\0{self.plural}" if self.plural else self.text
        return f"{self.context}{_SEPARATOR}{text}" if self.context else text


@dataclass
class Translation:
    """A message's translation.

    Attributes:
        text: the translation; empty if there is none.
        flags: such as ``fuzzy``.
        places: where the message stands.
    """

    text: str = ""
    flags: set[str] = field(default_factory=set)
    places: list[str] = field(default_factory=list)


def extract() -> dict[Message, list[str]]:
    """Return all messages of the package, with the files that they stand in."""
    found: dict[Message, list[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        if "migrations" not in path.parts:
            for message in of_python(path.read_text(), str(path)):
                _note(found, message, path)
    for path in sorted(PACKAGE.rglob("*.html")):
        for message in of_template(path.read_text()):
            _note(found, message, path)
    for message in of_choices():
        _note(found, message, PACKAGE / "models.py")
    return found


def _note(found: dict[Message, list[str]], message: Message, path: Path) -> None:
    place = path.relative_to(PACKAGE.parent).as_posix()
    places = found.setdefault(message, [])
    if place not in places:
        places.append(place)


def of_python(source: str, name: str) -> Iterator[Message]:
    """Yield the messages of a module.

    Args:
        source: its text.
        name: where it stands, for errors.
    """
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        called = node.func.id if isinstance(node.func, ast.Name) else ""
        texts = [each.value for each in node.args if isinstance(each, ast.Constant)]
        if called in _PLAIN and texts:
            yield Message(texts[0])
        elif called in _PLURAL:
            assert len(texts) >= 2, f"{name}:{node.lineno}: not two literal texts"
            yield Message(texts[0], texts[1])
        elif called in _CONTEXT:
            assert len(texts) == 2, f"{name}:{node.lineno}: not two literal texts"
            yield Message(texts[1], context=texts[0])


def of_template(source: str) -> Iterator[Message]:
    """Yield the messages of a template, as Django's own tags look them up."""
    from django.template import engines
    from django.templatetags.i18n import BlockTranslateNode, TranslateNode

    nodes = engines["django"].from_string(source).template.nodelist
    for node in nodes.get_nodes_by_type(TranslateNode):
        literal = node.filter_expression.var
        text = literal if isinstance(literal, str) else getattr(literal, "literal", None)
        if isinstance(text, str):
            yield Message(text)
    for node in nodes.get_nodes_by_type(BlockTranslateNode):
        text, _names = node.render_token_list(node.singular)
        plural = node.render_token_list(node.plural)[0] if node.plural else ""
        yield Message(text, plural)


def of_choices() -> Iterator[Message]:
    """Yield the names of all choices of all fields: they are words of the code."""
    from django.apps import apps
    from django.utils.translation import override

    with override("en"):
        for model in apps.get_app_config("reliable_tasks").get_models():
            for each in model._meta.fields:
                for _value, label in each.flatchoices:
                    yield Message(str(label))


# -- catalogues -----------------------------------------------------------------------------------


def read_po(path: Path) -> dict[Message, Translation]:
    """Read a catalogue as text."""
    found: dict[Message, Translation] = {}
    for block in re.split(r"\n\s*\n", path.read_text(encoding="utf-8")):
        values: dict[str, str] = {}
        translation = Translation()
        keyword = ""
        for line in block.splitlines():
            if line.startswith("#,"):
                translation.flags.update(part.strip() for part in line[2:].split(","))
            elif line.startswith("#:"):
                translation.places += line[2:].split()
            elif match := re.match(r'(msg\w+(?:\[0\])?) (".*")$', line):
                keyword = match[1]
                values[keyword] = ast.literal_eval(match[2])
            elif line.startswith('"') and keyword:
                values[keyword] += ast.literal_eval(line)
        if values.get("msgid"):
            translation.text = values.get("msgstr", values.get("msgstr[0]", ""))
            message = Message(
                values["msgid"], values.get("msgid_plural", ""), values.get("msgctxt", "")
            )
            found[message] = translation
    return found


def write_po(path: Path, language: str, entries: dict[Message, Translation]) -> None:
    """Write a catalogue as text."""
    blocks = [f'msgid ""\nmsgstr ""\n{_lines(HEADER.format(language=language))}']
    for message, translation in entries.items():
        lines = [f"#: {place}" for place in translation.places]
        lines += [f"#, {', '.join(sorted(translation.flags))}"] if translation.flags else []
        lines += [f"msgctxt {_quoted(message.context)}"] if message.context else []
        lines += [f"msgid {_quoted(message.text)}"]
        if message.plural:
            lines += [f"msgid_plural {_quoted(message.plural)}"]
            lines += [f"msgstr[0] {_quoted(translation.text)}"]
        else:
            lines += [f"msgstr {_quoted(translation.text)}"]
        blocks.append("\n".join(lines))
    path.write_text("\n\n".join(blocks) + "\n", encoding="utf-8")


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _lines(text: str) -> str:
    return "\n".join(_quoted(line) for line in text.splitlines(keepends=True))


def compiled(language: str, entries: dict[Message, Translation]) -> bytes:
    """Return a catalogue as gettext reads it: sorted, without what is fuzzy or not translated."""
    texts = {"": HEADER.format(language=language)}
    texts |= {
        message.key: translation.text
        for message, translation in entries.items()
        if translation.text and "fuzzy" not in translation.flags
    }
    pairs = [(key.encode(), texts[key].encode()) for key in sorted(texts, key=str.encode)]
    start = 7 * 4
    data_at = start + 16 * len(pairs)
    tables: tuple[list[int], list[int]] = ([], [])
    data = b""
    for which in (0, 1):
        for pair in pairs:
            tables[which].extend((len(pair[which]), data_at + len(data)))
            data += pair[which] + b"\0"
    head = struct.pack("<7I", 0x950412DE, 0, len(pairs), start, start + 8 * len(pairs), 0, 0)
    return head + b"".join(struct.pack(f"<{len(t)}I", *t) for t in tables) + data


def catalogues() -> list[Path]:
    """Return the catalogues as text."""
    return sorted(LOCALES.glob("*/LC_MESSAGES/django.po"))


def update(path: Path) -> list[Message]:
    """Bring a catalogue up to date and compile it.

    Args:
        path: the catalogue as text.

    Returns:
        What has no translation, or one that nobody has looked at.
    """
    before = read_po(path) if path.exists() else {}
    entries = {}
    for message, places in extract().items():
        known = before.get(message, Translation())
        entries[message] = Translation(known.text, known.flags, places)
    # A text that is not used at the moment keeps its translation: it may come back.
    for message, known in before.items():
        if message not in entries and known.text:
            entries[message] = Translation(known.text, known.flags)
    language = path.parent.parent.name
    write_po(path, language, entries)
    path.with_suffix(".mo").write_bytes(compiled(language, entries))
    return [message for message, each in entries.items() if not each.text or each.flags]


def main() -> int:
    """Update all catalogues; return 1 if something has no translation."""
    import django

    django.setup()
    missing: list[Any] = []
    for path in catalogues():
        missing += update(path)
    for message in missing:
        sys.stderr.write(f"not translated: {message.text!r}\n")
    return 1 if missing else 0


if __name__ == "__main__":
    import os

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    sys.exit(main())
