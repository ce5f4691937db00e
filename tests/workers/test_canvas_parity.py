"""Whatever plain Celery makes of a canvas is made of it here: the same shapes, side by side."""

from __future__ import annotations

import celery
import pytest
from celery import chain, chord, exceptions, group

from tests.app import worker_tasks as tasks
from tests.app.tasks import add

# Celery's Redis backend, with newer versions of redis-py.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")

PLAIN = (tasks.plain_add, tasks.plain_combine, tasks.plain_fail)
RELIABLE = (add, tasks.combine, tasks.fail)


@pytest.fixture(scope="module", autouse=True)
def process(backend, start_shared):
    """Run the module's tests with each result backend."""
    process = start_shared(concurrency=3, celery={"CELERY_RESULT_BACKEND": backend})
    yield process
    process.close()


SHAPES = {
    "a group of one": lambda plus, total, fail: group(plus.s(1, 1)),
    "a chord of one": lambda plus, total, fail: chord([plus.s(1, 1)], total.s()),
    "a group in a group": lambda plus, total, fail: group(
        plus.s(1, 1), group(plus.s(2, 2), plus.s(3, 3))
    ),
    "a group after a group": lambda plus, total, fail: chain(
        group(plus.s(1, 1), plus.s(2, 2)), total.s(), group(plus.s(1), plus.s(2))
    ),
    "a chord in a chord's body": lambda plus, total, fail: chord(
        [plus.s(1, 1), plus.s(2, 2)], chain(total.s(), group(plus.s(1), plus.s(2)), total.s())
    ),
    "chords of chords of chords": lambda plus, total, fail: chord(
        [chord([chord([plus.s(1, 1)] * 2, total.s()), plus.s(3, 3)], total.s()), plus.s(4, 4)],
        total.s(),
    ),
    "a chain in a chord": lambda plus, total, fail: chord(
        [chain(plus.s(1, 1), plus.s(2)), chain(plus.s(3, 3), plus.s(4))], total.s()
    ),
    "a chord followed by a task": lambda plus, total, fail: chain(
        chord([plus.s(1, 1), plus.s(2, 2)], total.s()), plus.s(10)
    ),
    "a countdown within a chain": lambda plus, total, fail: chain(
        plus.s(1, 1), plus.s(2).set(countdown=0.5), plus.s(3)
    ),
    "chunks as a group": lambda plus, total, fail: plus.chunks(
        [(n, n) for n in range(5)], 2
    ).group(),
    "a partial that is called with the rest": lambda plus, total, fail: plus.s(1).clone((5,)),
    "a chain that breaks": lambda plus, total, fail: chain(plus.s(1, 1), fail.si(), plus.s(1)),
    "a group of which one fails": lambda plus, total, fail: group(plus.s(1, 1), fail.si()),
    "a chord of which one fails": lambda plus, total, fail: chord(
        [plus.s(1, 1), fail.si()], total.s()
    ),
    "a chord whose body fails": lambda plus, total, fail: chord([plus.s(1, 1)], fail.si()),
    "a chord in a chord of which one fails": lambda plus, total, fail: chord(
        [chord([plus.s(1, 1), fail.si()], total.s()), plus.s(2, 2)], total.s()
    ),
    "a chain whose group fails": lambda plus, total, fail: chain(
        plus.s(1, 1), group(plus.s(1), fail.si()), total.s()
    ),
}


def outcome(signature):
    """Run a canvas; return its value, or that it fails.

    Whether a chord's own error or that of a member is met first is a matter of milliseconds.
    """
    result = signature.apply_async()
    try:
        return result.get(timeout=30, interval=0.05)
    except exceptions.TimeoutError:
        raise
    except (ValueError, exceptions.ChordError):
        return "fails"


@pytest.mark.parametrize("shape", SHAPES)
def test_a_canvas_comes_to_the_same_as_on_plain_celery(shape):
    """Value or failure, each shape ends as plain Celery's does."""
    make = SHAPES[shape]
    assert outcome(make(*RELIABLE)) == outcome(make(*PLAIN))


@pytest.mark.skipif(
    celery.VERSION < (5, 6), reason="plain Celery 5.5 waits for ever for what it restored, on Redis"
)
@pytest.mark.parametrize("kind", [PLAIN, RELIABLE], ids=["plain", "reliable"])
def test_a_group_can_be_saved_and_restored(kind):
    """A group's result is found again by its id."""
    plus, _, _ = kind
    result = group(plus.s(1, 1), plus.s(2, 2)).apply_async()
    result.save()
    again = type(result).restore(result.id, app=plus.app)
    assert again.get(timeout=20, interval=0.05) == [2, 4]
