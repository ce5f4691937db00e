"""How a call's arguments fall on a task's parameters."""

import pytest
from celery import Celery

from reliable_tasks import ReliableTask
from reliable_tasks.signature import bind, signature_of

app = Celery("signatures", set_as_current=False)


@app.task(base=ReliableTask)
def plain(a, b=2, *rest, c=3, **more):
    """Take one of each kind."""


@app.task(base=ReliableTask, bind=True, autoretry_for=(ValueError,))
def bound(self, a, b=2):
    """Take the task first."""


@app.task(base=ReliableTask, bind=True)
def takes_all(*args):
    """Take the task among the others."""


class Written(ReliableTask):
    """A task that is a class."""

    name = "signatures.written"

    def run(self, a, *, b=2):
        """Take the task as a method does."""


written = app.register_task(Written())


@pytest.mark.parametrize(
    ("task", "names"),
    [
        (plain, ["a", "b", "rest", "c", "more"]),
        (bound, ["a", "b"]),
        (takes_all, ["args"]),
        (written, ["a", "b"]),
    ],
)
def test_the_task_itself_is_no_parameter(task, names):
    """The parameters are what a caller passes, whichever way the task was written."""
    assert list(signature_of(task).parameters) == names


@pytest.mark.parametrize(("args", "kwargs"), [((1,), {}), ((1, 2), {}), ((), {"b": 2, "a": 1})])
def test_equal_calls_are_bound_equally(args, kwargs):
    """Position, name and default are three ways to say the same."""
    assert bind(bound, args, kwargs).arguments == {"a": 1, "b": 2}


def test_what_does_not_fit_is_refused():
    """A call that Python itself would refuse is refused."""
    with pytest.raises(TypeError, match="missing a required argument: 'a'"):
        bind(plain, (), {})
