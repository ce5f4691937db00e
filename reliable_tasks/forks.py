"""A fork waits, though not for long, until other threads do nothing that would harm the child.

Note [Half a module]: a thread that is importing a module while another one forks leaves the child
with half of it, for good. The first delivery to the broker imports the transport and, deep in
getaddrinfo, a codec. So a fork waits until no delivery is under way.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Sequence
from typing import Final, Protocol

# A broker may be hanging; seconds.
_PATIENCE: Final = 0.5


class Holdable(Protocol):
    """What a thread may be using while another one forks."""

    def hold(self, seconds: float) -> bool:
        """Keep every thread from using it; False if that takes longer."""

    def let_go(self) -> None:
        """Let threads use it again."""

    def forget(self) -> None:
        """Begin anew in a child, whatever the parent was doing."""


class _Held(threading.local):
    found: Sequence[Holdable] = ()


_known: Final[list[weakref.ref[Holdable]]] = []
_held: Final = _Held()


def wait_for(each: Holdable) -> None:
    """Make every fork of this process wait for something from now on, as long as it exists.

    Args:
        each: what is held while the process forks.
    """
    _known.append(weakref.ref(each, _known.remove))


def _living() -> list[Holdable]:
    return [each for known in tuple(_known) if (each := known()) is not None]


def _before() -> None:
    until = time.monotonic() + _PATIENCE
    _held.found = [each for each in _living() if each.hold(max(0.0, until - time.monotonic()))]


def _after_in_parent() -> None:
    for each in _held.found:
        each.let_go()
    _held.found = ()


def _after_in_child() -> None:
    _held.found = ()
    for each in _living():
        each.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
    )
