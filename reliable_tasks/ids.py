"""Time-ordered identifiers, so that new entries land at the end of the primary key's index."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable
from uuid import UUID


def _uuid7() -> UUID:
    # Layout of RFC 9562, 5.7: 48 bits of milliseconds, version, 74 random bits. The first 12 random
    # bits carry the fraction of the millisecond (method 3 of 6.2): ids of one process sort by time.
    nanoseconds = time.time_ns()
    milliseconds, rest = divmod(nanoseconds, 1_000_000)
    value = (milliseconds & 0xFFFF_FFFF_FFFF) << 80
    value |= 0x7 << 76
    value |= (rest * 4096 // 1_000_000) << 64
    value |= 0b10 << 62
    value |= int.from_bytes(os.urandom(8), "big") >> 2
    return UUID(int=value)


#: A new UUIDv7; the standard library's where it has one (Python 3.14).
new_id: Callable[[], UUID] = getattr(uuid, "uuid7", _uuid7)
