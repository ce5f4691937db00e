"""The gateway's book: every charge it ever made, one row per idempotency key."""

import sqlite3
import threading
import uuid
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

_TABLE = """
CREATE TABLE IF NOT EXISTS charge (
    idempotency_key TEXT PRIMARY KEY,
    id TEXT NOT NULL,
    reference TEXT NOT NULL,
    amount TEXT NOT NULL,
    asked INTEGER NOT NULL DEFAULT 1
)
"""


class KeyReused(Exception):
    """The key was used before for another reference or amount: send each charge its own key."""


@dataclass(frozen=True, slots=True)
class Charge:
    """Money taken once.

    Attributes:
        id: the gateway's own name for it.
        reference: what the merchant calls it (the shop's order number).
        amount: decimal digits, as sent.
        asked: how many requests with its key have arrived, the first included.
    """

    id: str
    reference: str
    amount: str
    asked: int


class Book:
    """Charges in an SQLite file of their own. Safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.execute(_TABLE)

    def charge(self, key: str, reference: str, amount: str) -> Charge:
        """Take the money, unless this key has already taken it.

        Args:
            key: the merchant's idempotency key.
            reference: the merchant's name for the charge.
            amount: decimal digits.

        Returns:
            The one charge of this key; ``asked`` is 1 if it is new.

        Raises:
            KeyReused: the key belongs to another reference or amount.
        """
        with self._lock:
            self._db.execute(
                "INSERT INTO charge (idempotency_key, id, reference, amount) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (idempotency_key) DO UPDATE SET asked = asked + 1",
                (key, f"ch_{uuid.uuid4().hex[:16]}", reference, amount),
            )
            row = self._db.execute(
                "SELECT id, reference, amount, asked FROM charge WHERE idempotency_key = ?", (key,)
            ).fetchone()
        charge = Charge(*row)
        if (charge.reference, charge.amount) != (reference, amount):
            raise KeyReused(f"key {key!r} was used for {charge.reference!r}, {charge.amount}")
        return charge

    def charges(self) -> Counter[str]:
        """Count the charges of each reference: what a card holder would see."""
        with self._lock:
            rows = self._db.execute("SELECT reference, COUNT(*) FROM charge GROUP BY reference")
            return Counter(dict(rows.fetchall()))

    def repeats(self) -> int:
        """Count the requests that asked for a charge already made, and took nothing."""
        with self._lock:
            (total,) = self._db.execute("SELECT COALESCE(SUM(asked - 1), 0) FROM charge").fetchone()
        return int(total)

    def close(self) -> None:
        """Close the file."""
        self._db.close()
