"""Time-ordered identifiers, so that new entries land at the end of the primary key's index."""

from __future__ import annotations

import os
import random
import time
import uuid
from collections.abc import Callable
from uuid import UUID

# Ids must not repeat; nobody must be kept from guessing them. A generator of this process's own
# costs a hundredth of asking the operating system for each, and is seeded from it.
_random = random.Random()  # noqa: S311
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_random.seed)


def _uuid7() -> UUID:
    # Layout of RFC 9562, 5.7: 48 bits of milliseconds, version, 74 random bits. The first 12 random
    # bits carry the fraction of the millisecond (method 3 of 6.2): ids of one process sort by time.
    nanoseconds = time.time_ns()
    milliseconds, rest = divmod(nanoseconds, 1_000_000)
    value = (milliseconds & 0xFFFF_FFFF_FFFF) << 80
    value |= 0x7 << 76
    value |= (rest * 4096 // 1_000_000) << 64
    value |= 0b10 << 62
    value |= _random.getrandbits(62)
    return UUID(int=value)


# The standard library's where it has one (Python 3.14).
_make: Callable[[], UUID] = getattr(uuid, "uuid7", _uuid7)


def new_id() -> UUID:
    """Return a new UUIDv7."""
    # A function of our own: migrations name it, and must be the same under every Python.
    return _make()
