"""Code that was written for celery_once works when its import changes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from celery import Celery

from reliable_tasks import AlreadyQueued, QueueOnce, ledger
from reliable_tasks.dedup import textual_key
from reliable_tasks.errors import OptionError
from reliable_tasks.models import Key
from tests.celery_app import app
from tests.once.support import claim, deliver, entry_of, held, keys_of

pytestmark = pytest.mark.django_db


def test_it_is_on_without_any_option(queue_once):
    """The base alone makes equal calls one."""
    task = queue_once()
    assert held(task.delay(1))
    with pytest.raises(AlreadyQueued):
        task.delay(1)
    task.delay(2)


def test_the_error_has_countdown_and_message(queue_once):
    """AlreadyQueued has the attributes that it has there."""
    task = queue_once(once={"timeout": 100})
    task.delay(1)
    with pytest.raises(AlreadyQueued) as caught:
        task.delay(1)
    error = caught.value
    assert 40 < error.countdown <= 100
    assert error.message == f"Expires in {error.countdown} seconds"
    assert str(AlreadyQueued(5)) == "5"
    assert (AlreadyQueued(5).countdown, AlreadyQueued(5).entry) == (5, None)


def test_graceful_answers_with_a_rejected_result(queue_once):
    """graceful=True, of the task or of the call, gives a result without id and value."""
    task = queue_once(once={"graceful": True})
    task.delay(1)
    answer = task.delay(1)
    assert (answer.id, answer.result, answer.status) == (None, None, "REJECTED")
    other = queue_once()
    other.delay(1)
    assert other.apply_async((1,), once={"graceful": True}).result is None
    with pytest.raises(AlreadyQueued):
        task.apply_async((1,), once={"graceful": False})


@pytest.mark.parametrize("flag", ["graceful", "unlock_before_run"])
def test_flags_are_taken_for_what_they_are_worth(queue_once, flag):
    """Numbers and None pass for flags as there; a text, which is always true there, is refused."""
    for value in (1, 0, None, True, False):
        task = queue_once(once={flag: value})
        first = task.delay(1)
        if flag == "unlock_before_run":
            claim(first)
            assert bool(keys_of(first)) == (not value)
        elif value:
            assert task.delay(1).status == "REJECTED"
        else:
            with pytest.raises(AlreadyQueued):
                task.delay(1)
    with pytest.raises(OptionError, match=f"{flag} must be True or False, not 'False'"):
        queue_once(once={flag: "False"}).delay(1)


def test_a_subclass_may_wrap_the_attempt(make_task):
    """A __call__ of one's own, as for Flask's application context, is around each body."""
    within = []

    class InContext(QueueOnce):
        abstract = True

        def __call__(self, *args, **kwargs):
            within.append("in")
            try:
                return super().__call__(*args, **kwargs)
            finally:
                within.append("out")

    def body(order):
        within.append(order)

    task = make_task(body, base=InContext)
    first = task.delay(1)
    deliver(task, first.id)
    assert within == ["in", 1, "out"]
    assert entry_of(first).state == "succeeded"
    assert keys_of(first) == []


def test_a_hook_of_ones_own_is_called(make_task):
    """after_return() that calls its base's, as celery_once's users write it, does no harm."""
    returned = []

    class Tells(QueueOnce):
        abstract = True

        def after_return(self, status, retval, task_id, args, kwargs, einfo):
            returned.append((status, retval))
            super().after_return(status, retval, task_id, args, kwargs, einfo)

    task = make_task(base=Tells)
    deliver(task, task.delay(3).id)
    assert returned == [("SUCCESS", 3)]


def test_the_same_key_as_its_helper_makes(queue_once):
    """textual_key() takes what queue_once_key() takes, and gives the same text."""
    task = queue_once()
    call = {"order": {"b": [1, {"c": "d"}], "a": None}, "kind": "x"}
    text = f"qo_{task.name}_kind-x_order-{{'a': None, 'b': [1, \"{{'c': 'd'}}\"]}}"
    assert task.get_key((), call) == textual_key(task.name, call) == text
    assert textual_key(task.name, call, ["kind"]) == f"qo_{task.name}_kind-x"


def test_the_apps_once_is_read_from_djangos_settings():
    """CELERY_ONCE in Django's settings is app.conf.ONCE, as for every setting of Celery."""
    given = {"backend": "celery_once.backends.Redis", "settings": {"default_timeout": 7}}
    django = SimpleNamespace(CELERY_ONCE=given)
    with Celery("django", set_as_current=False) as there:
        there.config_from_object(django, namespace="CELERY")

        @there.task(base=QueueOnce)
        def task(order):
            """Do nothing."""

        assert task.once_config == given
        assert task.default_timeout == 7


def test_a_tasks_once_replaces_the_bases(queue_once):
    """What a task's own dict leaves out has its default, as there."""
    task = queue_once(once={"keys": ["order"]})
    assert task.unlock_before_run() is False
    assert queue_once(once={"unlock_before_run": True}).unlock_before_run() is True


def test_keys_with_defaults(queue_once):
    """A parameter of `keys` that is left to its default is no KeyError."""
    task = queue_once(once={"keys": ["kind"]})
    task.delay(1)
    with pytest.raises(AlreadyQueued):
        task.delay(2)


def test_unlock_before_run(queue_once):
    """The key is free when the first attempt begins, and a retry does not take it."""
    task = queue_once(once={"unlock_before_run": True})
    first = task.delay(1)
    claim(first)
    assert held(task.delay(1))


def test_default_timeout(queue_once, settings, monkeypatch):
    """default_timeout comes from app.conf.ONCE, else from the setting ONCE_TIMEOUT."""
    task = queue_once()
    assert task.default_timeout == 3600
    settings.RELIABLE_TASKS = {"ONCE_TIMEOUT": 60}
    assert task.default_timeout == 60
    monkeypatch.setitem(app.conf, "ONCE", {"backend": "x", "settings": {"default_timeout": 7}})
    assert task.default_timeout == 7
    assert task.once_config["backend"] == "x"
    assert task.config is app.conf


def test_the_key_is_found_by_its_text(queue_once):
    """get_key() gives celery_once's text, and clear_lock() of it frees the key."""
    task = queue_once()
    task.delay(1)
    text = task.get_key((1,), {"kind": "x"})
    assert text == f"qo_{task.name}_kind-x_order-1"
    text = task.get_key((1,))
    assert text == f"qo_{task.name}_order-1"
    with pytest.raises(AlreadyQueued) as caught:
        task.once_backend.raise_or_lock(text, timeout=60)
    assert 0 < caught.value.countdown <= 60
    task.once_backend.clear_lock(text)
    task.once_backend.raise_or_lock(text, timeout=60)
    assert held(task.delay(1))


def test_texts_do_not_collide_unless_asked_for(queue_once):
    """Calls that celery_once takes for one are two here, and one with "textual"."""
    task = queue_once()
    task.delay(1)
    assert held(task.delay("1"))
    strict = queue_once(once={"textual": True})
    strict.delay(1)
    with pytest.raises(AlreadyQueued):
        strict.delay("1")


def test_an_overridden_get_key_is_the_key(make_task):
    """A subclass that makes its own text has that as its key, found by clear_lock()."""

    class ByTenant(QueueOnce):
        abstract = True

        def get_key(self, args=None, kwargs=None):
            return f"tenant-{args[0] % 2}"

    task, other = make_task(base=ByTenant), make_task(base=ByTenant)
    first = task.delay(1)
    with pytest.raises(AlreadyQueued):
        other.delay(3)
    task.once_backend.clear_lock("tenant-1")
    assert keys_of(first) == []
    assert held(other.delay(3))


@pytest.mark.parametrize("textual", [True, False], ids=["textual", "get_key"])
def test_a_calls_own_key_goes_before_a_text(make_task, textual):
    """A key that one call is given is its key, also where the task's keys are texts."""

    class Same(QueueOnce):
        abstract = True

        def get_key(self, args=None, kwargs=None):
            return "same"

    base = QueueOnce if textual else Same
    task = make_task(base=base, once={"textual": textual})
    first = task.delay(1)
    other = task.apply_async((1,), once={"key": "mine"})
    assert held(first)
    assert held(other)
    with pytest.raises(AlreadyQueued):
        task.apply_async((2,), once={"key": "mine"})


@pytest.mark.parametrize("textual", [True, False])
def test_keys_may_name_what_falls_on_other_names(queue_once, textual):
    """One of `keys` that comes through **kwargs counts, and as None where it is not passed."""
    task = queue_once(once={"keys": ["tenant"], "textual": textual})
    first, other = task.delay(1), task.delay(1, tenant=7)
    assert task.get_key((1,)) == f"qo_{task.name}_tenant-None"
    assert task.get_key((1,), {"tenant": 7}) == f"qo_{task.name}_tenant-7"
    assert held(first)
    assert held(other)
    for more in ({}, {"tenant": 7}):
        with pytest.raises(AlreadyQueued):
            task.delay(2, **more)


def test_a_wrong_name_in_keys_is_told(queue_once):
    """One of `keys` that the task cannot take is refused with the names that it can."""

    def body(order):
        pass

    with pytest.raises(OptionError, match="keys names 'oder', which is no parameter"):
        queue_once(body, once={"keys": ["oder"]}).delay(1)


def test_apply_takes_no_key_and_frees_none(queue_once):
    """task.apply() runs here and now; the key of the entry that is queued stays with it."""
    task = queue_once()
    first = task.delay(1)
    assert task.apply((1,)).get() == 1
    assert task.apply(args=(1,), once={"graceful": True}).get() == 1
    assert held(first)
    assert Key.objects.count() == 1


def test_a_plain_call_takes_no_key(queue_once):
    """task(...) is a call of the function."""
    task = queue_once()
    task.delay(1)
    assert task(1) == 1
    assert Key.objects.count() == 1


def test_the_options_of_both_worlds_go_together(queue_once):
    """Windows and other conflicts can be had on this base, too."""
    task = queue_once(once={"keys": ["order"], "window": 60, "conflict": "return"})
    first = task.delay(1)
    deliver(task, first.id)
    assert task.delay(1).id == first.id
    assert ledger.holder(Key.objects.get().digest).frees_in > 0


@pytest.fixture
def eager(monkeypatch):
    """Run what is called in this process."""
    monkeypatch.setitem(app.conf.changes, "task_always_eager", True)


def test_eager_calls_meet_conflicts(queue_once, eager):
    """In eager mode a call takes its key, ends with it, and is refused while another has it."""
    seen = []
    task = queue_once()

    def run(order):
        seen.append(Key.objects.count())
        with pytest.raises(AlreadyQueued):
            task.delay(order)
        return order

    task.run = run
    assert task.delay(1).get() == 1
    assert task.delay(1).get() == 1
    assert seen == [1, 1]
    assert Key.objects.count() == 0
