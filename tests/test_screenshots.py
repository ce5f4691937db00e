"""The pictures in the docs: there, small, and shown; taking them needs a browser, this does not."""

from __future__ import annotations

import importlib.util
import random
import re
import struct
import zlib

import pytest

from tests.harness import ROOT

DOCS = ROOT / "docs"
IMAGES = DOCS / "images"
MOST_BYTES = 2_500_000


def small_png():
    spec = importlib.util.spec_from_file_location("small_png", DOCS / "small_png.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(rows, filters, kind):
    """Write a picture with the filter of each row that is wanted."""
    step = {2: 3, 6: 4}[kind]
    above, raw = bytes(len(rows[0])), b""
    for row, chosen in zip(rows, filters, strict=True):
        coded = bytearray()
        for n, value in enumerate(row):
            left, corner = (row[n - step], above[n - step]) if n >= step else (0, 0)
            guess = small_png()._nearest(left, above[n], corner)
            less = (0, left, above[n], (left + above[n]) // 2, guess)[chosen]
            coded.append((value - less) & 255)
        raw += bytes([chosen]) + coded
        above = row
    head = struct.pack(">IIBBBBB", len(rows[0]) // step, len(rows), 8, kind, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(raw))
        + chunk(b"IEND", b"")
    )


def pixels(picture):
    """Read a picture that was made small."""
    found = dict(small_png()._chunks(picture))
    width, height, depth, kind = struct.unpack(">IIBB", found[b"IHDR"][:10])
    assert (depth, kind) == (8, 3)
    raw, palette = zlib.decompress(found[b"IDAT"]), found[b"PLTE"]
    lines = [raw[n * (width + 1) + 1 : (n + 1) * (width + 1)] for n in range(height)]
    return [[palette[3 * place : 3 * place + 3] for place in line] for line in lines]


@pytest.mark.parametrize(("kind", "step"), [(2, 3), (6, 4)], ids=["RGB", "RGBA"])
def test_few_colours_stay_as_they_are(kind, step):
    """A picture of up to 256 colours has the same pixels afterwards, whatever filters it had."""
    chance = random.Random(4)
    colours = [bytes([*chance.randbytes(3), 255][:step]) for _ in range(200)]
    grid = [[chance.choice(colours) for _ in range(31)] for _ in range(10)]
    small = small_png().shrink(png([b"".join(row) for row in grid], [0, 1, 2, 3, 4] * 2, kind))
    assert pixels(small) == [[pixel[:3] for pixel in row] for row in grid]


def test_many_colours_become_near_ones():
    """A picture of more colours keeps its size, and each pixel a colour that is near."""
    grid = [[bytes([x * 8, y * 8, 128]) for x in range(32)] for y in range(32)]
    small = small_png().shrink(png([b"".join(row) for row in grid], [0] * 32, 2))
    off = [
        max(abs(a - b) for a, b in zip(one, other, strict=True))
        for row, kept in zip(grid, pixels(small), strict=True)
        for one, other in zip(row, kept, strict=True)
    ]
    assert len(off) == 32 * 32
    assert max(off) <= 24


def test_each_picture_is_there_in_light_and_dark():
    """The pictures are those that the script takes, each twice, and small all together."""
    source = (DOCS / "make_screenshots.py").read_text()
    names = set(re.findall(r'Picture\(\s*(?:\*\()?"([\w-]+)"', source))
    files = {path.name for path in IMAGES.iterdir()}
    assert len(names) > 25
    assert files == {f"{name}-{scheme}.png" for name in names for scheme in ("light", "dark")}
    assert sum(path.stat().st_size for path in IMAGES.iterdir()) < MOST_BYTES


def test_each_picture_is_shown():
    """Each picture stands on some page, its light form in sight and its dark one linked."""
    text = "".join(path.read_text() for path in DOCS.glob("*.md"))
    names = {path.name for path in IMAGES.iterdir()}
    assert {name for name in names if f"](images/{name})" not in text} == set()
    light = {name for name in names if "-light." in name}
    assert {
        name for name in light if not re.search(rf"!\[[^\]]+\]\(images/{name}\)", text)
    } == set()


def test_pictures_have_words():
    """Each picture that a page shows says what is on it, for those who do not see it."""
    shown = [
        found
        for path in DOCS.glob("*.md")
        for found in re.findall(r"!\[([^\]]*)\]\((images/[^)]+)\)", path.read_text())
    ]
    assert len(shown) >= 10
    assert all(len(words.split()) >= 5 for words, _ in shown)
