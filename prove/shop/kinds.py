"""The kinds of orders, as producer and checker know them. No Django here: the checker has none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Kind:
    """What must have become of an order in the end.

    Attributes:
        atomic: its task runs with ``atomic=True``, so that each effect exists exactly once.
        effects: the kinds of effect that it must have.
        poison: its task kills its process each time: dead in the end, after its crash budget.
    """

    atomic: bool = True
    effects: tuple[str, ...] = ()
    poison: bool = False


KINDS: Final = {
    "atomic": Kind(effects=("atomic",)),
    "plain": Kind(atomic=False, effects=("plain",)),
    "flaky": Kind(effects=("flaky",)),
    "flaky_plain": Kind(atomic=False, effects=("flaky_plain",)),
    "long": Kind(effects=("long",)),
    "long_plain": Kind(atomic=False, effects=("long_plain",)),
    "parent": Kind(effects=("parent", "child")),
    "later": Kind(effects=("later",)),
    "hog": Kind(effects=("hog",)),
    "overrun": Kind(effects=("overrun",)),
    "poison": Kind(atomic=False, poison=True),
    # With dedup keys. Which entry stands for an order of the first two, the order says itself.
    "sole": Kind(),
    "recount": Kind(),
    "event": Kind(effects=("event",)),
}
#: Products that orders with keys are about: few, so that there are conflicts all the time.
PRODUCTS: Final = 5
#: The crash budget of a poison order's task: as often may it begin, and no more.
POISON_BUDGET: Final = 3
