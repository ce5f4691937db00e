"""Signals are held back while an outcome is written down."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
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


@pytest.mark.parametrize("number", HELD[1:])
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


def test_a_soft_limit_that_comes_too_late_is_dropped(raising):
    """A soft time limit that runs out while the outcome is written down has nothing to limit."""
    with Shield() as shield:
        shield.up()
        os.kill(os.getpid(), signal.SIGUSR1)


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
    handlers = [signal.getsignal(number) for number in HELD]
    with contextlib.suppress(KeyError), Shield() as shield:
        shield.up()
        raise KeyError
    assert [signal.getsignal(number) for number in HELD] == handlers
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
                os.kill(os.getpid(), signal.SIGTERM)
            done.append("outer")

    with pytest.raises(Interrupted):
        act()
    assert done == ["outer"]


def test_in_another_thread_it_does_nothing():
    """In a pool of threads, where no signal arrives, nothing is held back."""
    handlers = []

    def act():
        with Shield() as shield:
            before = signal.getsignal(signal.SIGTERM)
            shield.up()
            handlers.append((before, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=act)
    thread.start()
    thread.join()
    assert handlers[0][0] == handlers[0][1]


def test_other_threads_take_no_signal_past_it(raising):
    """A thread that blocks no signals, as the publisher's, does not let them through."""
    done, over = [], threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()

    def act():
        with Shield() as shield:
            shield.up()
            os.kill(os.getpid(), signal.SIGTERM)
            done.append("written down")

    with pytest.raises(Interrupted, match="SIGTERM"):
        act()
    over.set()
    thread.join()
    assert done == ["written down"]


def test_a_signal_without_a_handler_does_what_it_does_by_default():
    """Where nobody handles SIGTERM, the process ends after the block, not within it."""
    code = (
        "import os, signal\n"
        "from reliable_tasks.shield import Shield\n"
        "with Shield() as shield:\n"
        "    shield.up()\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    print('written down', flush=True)\n"
        "print('not reached', flush=True)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (-signal.SIGTERM, "written down\n")
