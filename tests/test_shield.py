"""Signals are held back while an outcome is written down."""

from __future__ import annotations

import contextlib
import os
import signal
import threading

import pytest

from reliable_tasks.shield import Shield

HELD = [signal.SIGUSR1, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT]


class Interrupted(BaseException):
    pass


@pytest.fixture
def raising():
    """Give the test a signal number whose handler raises, as a soft time limit's does."""
    before = {number: signal.getsignal(number) for number in HELD}

    def interrupt(number, frame):
        raise Interrupted(signal.Signals(number).name)

    for number in HELD:
        signal.signal(number, interrupt)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", HELD)
def test_a_signal_waits_until_the_end_of_the_block(raising, number):
    """A signal that arrives while the shield is up interrupts nothing inside, and is not lost."""
    done = []

    def act():
        with Shield() as shield:
            shield.up()
            os.kill(os.getpid(), number)
            done.append("written down")

    with pytest.raises(Interrupted, match=number.name):
        act()
    assert done == ["written down"]


def test_before_the_shield_is_up_a_signal_interrupts(raising):
    """The body itself can be interrupted: only what follows up() is kept whole."""
    done = []

    def act():
        with Shield() as shield:
            os.kill(os.getpid(), signal.SIGUSR1)
            done.append("body")
            shield.up()

    with pytest.raises(Interrupted):
        act()
    assert not done


def test_afterwards_signals_interrupt_again(raising):
    """The shield leaves no signal blocked behind, also when the block raises."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with contextlib.suppress(KeyError), Shield() as shield:
        shield.up()
        raise KeyError
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == blocked
    with pytest.raises(Interrupted):
        os.kill(os.getpid(), signal.SIGTERM)


def test_shields_nest(raising):
    """The end of an inner shield does not lower the outer one."""
    done = []

    def act():
        with Shield() as outer:
            outer.up()
            with Shield() as inner:
                inner.up()
                os.kill(os.getpid(), signal.SIGUSR1)
            done.append("outer")

    with pytest.raises(Interrupted):
        act()
    assert done == ["outer"]


def test_in_another_thread_it_does_nothing():
    """In a pool of threads, where no signal arrives, nothing is blocked."""
    masks = []

    def act():
        with Shield() as shield:
            before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
            shield.up()
            masks.append((before, signal.pthread_sigmask(signal.SIG_BLOCK, ())))

    thread = threading.Thread(target=act)
    thread.start()
    thread.join()
    assert masks[0][0] == masks[0][1]


def test_it_works_where_signals_cannot_be_blocked(monkeypatch):
    """On a system without signal masks the block runs as if there were no shield."""
    monkeypatch.delattr(signal, "pthread_sigmask")
    with Shield() as shield:
        shield.up()
