"""What all acts on entries share: batches, words, and the record of each batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final
from uuid import UUID

from django.db import transaction

from .. import ledger
from ..oversight import Act, OperatorAct

#: Most entries that one transaction of an operator's act touches.
BATCH: Final = 500


def batched(entry_ids: Iterable[UUID], size: int = BATCH) -> Iterator[list[UUID]]:
    """Cut ids into lists of at most ``size``, each id once."""
    unique = iter(dict.fromkeys(entry_ids))
    while batch := list(islice(unique, size)):
        yield batch


def in_words(verb: str, reason: str, by: str) -> str:
    """Return what an entry keeps as its reason."""
    if not by:
        return reason
    return f"{verb} by {by}: {reason}" if reason else f"{verb} by {by}."


def recorded(
    verb: Act,
    entry_ids: Iterable[UUID],
    write: Callable[[list[UUID]], dict[str, list[UUID]]],
    *,
    reason: str,
    by: str,
    act: OperatorAct | None,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Do an act batch by batch, and put each on record in the transaction that does it.

    Args:
        verb: the act.
        entry_ids: to which entries.
        write: does it to a batch, and returns whom it touched by what became of them.
        reason: why, in words.
        by: who, in words.
        act: the act that this is part of, which is on record already.
        details: parameters, as JSON values.
    """
    for batch in batched(entry_ids):
        with transaction.atomic(using=ledger.ledger_connection().alias):
            touched = write(batch)
            done = sum(map(len, touched.values()))
            of = act or ledger.record(
                verb,
                by=by,
                reason=reason,
                target=_target(batch),
                details={name: value for name, value in (details or {}).items() if value},
                done=done,
                skipped=len(batch) - done,
            )
            for result, ids in touched.items():
                ledger.touch(of.pk, ids, result)


def _target(batch: list[UUID]) -> str:
    return f"entry {batch[0]}" if len(batch) == 1 else f"{len(batch)} entries"
