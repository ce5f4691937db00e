"""The account: is the result of all orders right? Pure; the facts come from ``evidence``.

It must be able to say no. Every finding compares two independent records of the same thing.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

_SHOWN = 5  # order numbers that a finding names when something is wrong


@dataclass(frozen=True, slots=True)
class DeadEntry:
    """An entry that gave up."""

    id: str
    task: str
    order: int | None
    crashes: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the shop's tables, the ledger, the outbox and the gateway say.

    Attributes:
        orders: orders that have to be carried out.
        poisoned: orders that cannot be: they kill the process that tries.
        payments: number of payments by order; the next three are alike.
        invoices: written invoices.
        confirmations: confirmations on record.
        letters: e-mails in the outbox.
        charges: charges in the gateway's book, None if it does not answer.
        wrong_amounts: payments and invoices whose amount is not the order's total.
        unfinished: entries of orders that have not ended.
        dead: entries that gave up.
        retried: entries with at least one failed attempt.
        failures: failed attempts of all entries.
        rescued: entries (the poisoned aside) that lost an attempt with its process.
        released: attempts that a stopping worker gave back.
    """

    orders: frozenset[int]
    poisoned: frozenset[int] = frozenset()
    payments: Counter[int] = field(default_factory=Counter)
    invoices: Counter[int] = field(default_factory=Counter)
    confirmations: Counter[int] = field(default_factory=Counter)
    letters: Counter[int] = field(default_factory=Counter)
    charges: Counter[int] | None = None
    wrong_amounts: int = 0
    unfinished: int = 0
    dead: tuple[DeadEntry, ...] = ()
    retried: int = 0
    failures: int = 0
    rescued: int = 0
    released: int = 0


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the account.

    Attributes:
        subject: what was counted.
        count: how many there are.
        promise: what must be true of them.
        right: whether it is.
        detail: what is wrong, or worth knowing.
    """

    subject: str
    count: int
    promise: str
    right: bool
    detail: str = ""


def audit(evidence: Evidence) -> list[Finding]:
    """Compare the records with each other.

    Args:
        evidence: the records.

    Returns:
        The findings, in the order in which a person wants to read them.
    """
    orders = evidence.orders
    findings = [
        Finding("orders", len(orders), "at least one", bool(orders)),
        _exactly_once("charges at the gateway", orders, evidence.charges),
        _exactly_once("payments", orders, evidence.payments),
        _exactly_once("invoices", orders, evidence.invoices),
        _exactly_once("confirmations", orders, evidence.confirmations),
        _at_least_once("e-mails", orders, evidence.letters),
        _none("wrong amounts", evidence.wrong_amounts, "every sum is the order's total"),
        _none("unfinished entries", evidence.unfinished, "every entry has ended"),
        _others_dead(evidence),
    ]
    if evidence.poisoned:
        findings.append(_poison(evidence))
    return findings


def is_right(findings: Iterable[Finding]) -> bool:
    """Tell whether every line of an account is right."""
    return all(finding.right for finding in findings)


def _exactly_once(subject: str, orders: frozenset[int], seen: Counter[int] | None) -> Finding:
    promise = "exactly one for each order"
    if seen is None:
        return Finding(subject, 0, promise, right=False, detail="no answer: cannot be compared")
    faults = [
        _named("none for", sorted(orders - seen.keys())),
        _named("several for", sorted(n for n in orders if seen[n] > 1)),
        _named("one that must not be for", sorted(seen.keys() - orders)),
    ]
    detail = "; ".join(filter(None, faults))
    return Finding(subject, seen.total(), promise, not detail, detail)


def _at_least_once(subject: str, orders: frozenset[int], seen: Counter[int]) -> Finding:
    faults = [
        _named("none for", sorted(orders - seen.keys())),
        _named("one that must not be for", sorted(seen.keys() - orders)),
    ]
    wrong = "; ".join(filter(None, faults))
    again = seen.total() - len(seen)
    repeated = f"{again} sent again after a crash, with the same Message-ID" if again else ""
    return Finding(
        subject, seen.total(), "at least one for each order", not wrong, wrong or repeated
    )


def _none(subject: str, count: int, promise: str) -> Finding:
    return Finding(subject, count, promise, count == 0)


def _others_dead(evidence: Evidence) -> Finding:
    dead = [entry for entry in evidence.dead if entry.order not in evidence.poisoned]
    detail = "; ".join(f"{entry.task}[{entry.id}]: {entry.reason}" for entry in dead[:_SHOWN])
    return Finding("other dead entries", len(dead), "none but the poison's", not dead, detail)


def _poison(evidence: Evidence) -> Finding:
    """Each poison order has one dead entry, with a reason; its money is checked above."""
    dead = [entry for entry in evidence.dead if entry.order in evidence.poisoned]
    by_order = Counter(entry.order for entry in dead)
    explained = all(entry.reason and entry.crashes for entry in dead)
    right = explained and all(by_order[order] == 1 for order in evidence.poisoned)
    detail = "; ".join(f"#{entry.order}: {entry.reason or 'no reason given'}" for entry in dead)
    promise = "dead, with the reason"
    return Finding("poison orders", len(evidence.poisoned), promise, right, detail or "not dead")


def _named(words: str, orders: list[int]) -> str:
    if not orders:
        return ""
    more = f" and {len(orders) - _SHOWN} more" if len(orders) > _SHOWN else ""
    return f"{words} {', '.join(f'#{number}' for number in orders[:_SHOWN])}{more}"
