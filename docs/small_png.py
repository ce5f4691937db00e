"""Makes a screenshot's PNG small: at most 256 colours, one byte a pixel. Standard library only."""

# ruff: noqa: INP001 - a script beside the pages, in no package

from __future__ import annotations

import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from typing import Final

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_COLOURS: Final = 256


def shrink(png: bytes) -> bytes:
    """Return a PNG with the same size in pixels and the 256 colours that serve it best.

    Args:
        png: with eight bits a channel, RGB or RGBA, not interlaced, as a browser writes it. What is
            transparent becomes opaque.
    """
    chunks = list(_chunks(png))
    width, height, depth, kind, _, _, interlaced = struct.unpack(">IIBBBBB", chunks[0][1])
    channels = {2: 3, 6: 4}[kind]
    assert (depth, interlaced) == (8, 0), "no PNG of a browser's"
    packed = b"".join(data for name, data in chunks if name == b"IDAT")
    rows = list(_rows(zlib.decompress(packed), width * channels, channels))
    pixels = [[row[at : at + 3] for at in range(0, len(row), channels)] for row in map(bytes, rows)]
    counts: Counter[bytes] = Counter()
    for line in pixels:
        counts.update(line)
    palette, places = _palette(counts)
    raw = b"".join(b"\0" + bytes(places[pixel] for pixel in line) for line in pixels)
    return _SIGNATURE + b"".join(
        _chunk(name, data)
        for name, data in (
            (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
            (b"PLTE", b"".join(palette)),
            (b"IDAT", zlib.compress(raw, 9)),
            (b"IEND", b""),
        )
    )


def _palette(counts: Counter[bytes]) -> tuple[list[bytes], dict[bytes, int]]:
    """Choose the colours: those used most, and of the rest those farthest from all chosen."""
    colours = [colour for colour, _ in counts.most_common()]
    chosen = colours[: _COLOURS // 2]
    rest = colours[_COLOURS // 2 :]
    far = {colour: min(_distance(colour, each) for each in chosen) for colour in rest}
    while rest and len(chosen) < _COLOURS:
        # A colour that is used twice as much may be off by half as much.
        worst = max(far, key=lambda colour: far[colour] * counts[colour] ** 0.5)
        chosen.append(worst)
        del far[worst]
        for colour, distance in far.items():
            far[colour] = min(distance, _distance(colour, worst))
        rest = rest[1:]
    places = {colour: number for number, colour in enumerate(chosen)}
    for colour in far:
        nearest = min(chosen, key=lambda each: _distance(colour, each))
        places[colour] = places[nearest]
    return chosen, places


def _distance(one: bytes, other: bytes) -> int:
    return sum((a - b) ** 2 for a, b in zip(one, other, strict=True))


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(_SIGNATURE)
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        yield png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        at += length + 12


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _rows(raw: bytes, width: int, step: int) -> Iterator[bytearray]:
    """Undo the filters of the rows: PNG, third edition, 9.2."""
    above = bytearray(width)
    for begin in range(0, len(raw), width + 1):
        kind, row = raw[begin], bytearray(raw[begin + 1 : begin + 1 + width])
        if kind == 1:
            for n in range(step, width):
                row[n] = (row[n] + row[n - step]) & 255
        elif kind == 2:
            row = bytearray((a + b) & 255 for a, b in zip(row, above, strict=True))
        elif kind == 3:
            for n in range(width):
                left = row[n - step] if n >= step else 0
                row[n] = (row[n] + (left + above[n]) // 2) & 255
        elif kind == 4:
            for n in range(width):
                left, corner = (row[n - step], above[n - step]) if n >= step else (0, 0)
                row[n] = (row[n] + _nearest(left, above[n], corner)) & 255
        yield row
        above = row


def _nearest(left: int, up: int, corner: int) -> int:
    guess = left + up - corner
    a, b, c = abs(guess - left), abs(guess - up), abs(guess - corner)
    if a <= b and a <= c:
        return left
    return up if b <= c else corner
