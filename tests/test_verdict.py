"""What becomes of an entry whose attempt did not succeed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from celery.exceptions import Reject, Retry, SoftTimeLimitExceeded
from hypothesis import given
from hypothesis import strategies as st

from reliable_tasks import verdict
from reliable_tasks.backoff import RetryPolicy
from reliable_tasks.errors import AttemptCancelled, CorruptEntry, TaskExited
from reliable_tasks.states import Outcome
from reliable_tasks.verdict import RetryAsked, judge
from tests.app import worker_tasks
from tests.entries import T0

POLICY = RetryPolicy(
    max_retries=2,
    backoff=1.0,
    backoff_max=600.0,
    jitter=False,
    delay=180.0,
    retry_for=(Exception,),
    never_for=(),
)


class GatewayDown(Exception):
    pass


ERRORS = [
    GatewayDown("503"),
    SoftTimeLimitExceeded(),
    verdict.TimeoutOfAttempt("The hard time limit of 5 s was exceeded."),
    MemoryError(),
    Reject("no", requeue=True),
    Reject("no", requeue=False),
    CorruptEntry("no JSON"),
    AttemptCancelled("by nobody"),
    TaskExited("sys.exit(3)"),
    verdict.exited(SystemExit(3)),
    Retry(when=7),
    RetryAsked(None, 7.0, None, {}),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("retries", [0, 1, 2, 3])
@pytest.mark.parametrize("limit", [0, 2, None])
def test_nothing_ends_silently(error, retries, limit):
    """Each failure either dies with a reason in words, or has a next attempt and no reason."""
    found = judge(error, replace(POLICY, max_retries=limit), retries)
    assert found.dead is bool(found.reason)
    assert found.delay >= 0
    assert found.failure.error_class


@pytest.mark.parametrize("retries", [0, 1])
def test_an_error_is_retried_within_the_limit(retries):
    """A failure with retries left is followed by another attempt after the policy's delay."""
    found = judge(GatewayDown("503"), POLICY, retries)
    assert (found.dead, found.outcome) == (False, Outcome.FAILED)
    assert (found.delay, found.due_at) == (POLICY.seconds(retries), None)


def test_the_last_failure_is_death_with_the_count():
    """A failure with no retries left is death, and the reason counts attempts and retries."""
    found = judge(GatewayDown("503"), POLICY, 2)
    assert found.reason == "Failed 3 times, the limit is 2 retries. Last: GatewayDown: 503"


def test_a_task_without_retries_dies_at_the_first_failure():
    """With a limit of none, the first failure is death."""
    found = judge(GatewayDown("503"), replace(POLICY, max_retries=0), 0)
    assert found.reason.startswith("Failed once, the limit is 0 retries.")


@given(retries=st.integers(0, 10**6))
def test_without_a_limit_a_failure_never_dies(retries):
    """With no limit each failure is followed by another attempt."""
    assert not judge(GatewayDown(), replace(POLICY, max_retries=None), retries).dead


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"never_for": (GatewayDown,)}, "GatewayDown is in dont_autoretry_for."),
        ({"retry_for": (KeyError,)}, "GatewayDown is not in autoretry_for."),
    ],
)
def test_an_error_that_is_not_retried_says_which_option_says_so(changes, words):
    """A failure that the options exclude is death at once, and the reason names the option."""
    found = judge(GatewayDown("503"), replace(POLICY, **changes), 0)
    assert found.reason == f"Not retried: {words} GatewayDown: 503"
    assert found.outcome is Outcome.FAILED


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (SoftTimeLimitExceeded(), Outcome.TIMEOUT),
        (verdict.TimeoutOfAttempt("5 s"), Outcome.TIMEOUT),
        (MemoryError(), Outcome.FAILED),
        (verdict.exited(SystemExit(3)), Outcome.FAILED),
        (Reject("later", requeue=True), Outcome.REJECTED),
    ],
)
def test_what_is_retried_like_a_failure_keeps_its_own_outcome(error, outcome):
    """A time limit, lack of memory, an exit and a Reject with requeue are retried, each by name."""
    found = judge(error, POLICY, 0)
    assert (found.dead, found.outcome) == (False, outcome)
    assert judge(error, POLICY, 2).dead


def test_reject_is_death():
    """Reject without requeue is death with the task's own words, whatever retries are left."""
    found = judge(Reject("no such order"), POLICY, 0)
    assert found.reason == "Rejected by the task: 'no such order'."
    assert found.outcome is Outcome.REJECTED


class Unshowable:
    """Raises wherever it is to be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("why", "words"),
    [("a\x00b", "'a\\x00b'"), ("\udc80", "'\\udc80'"), (Unshowable(), "cannot be shown")],
)
def test_a_reason_can_be_stored_whatever_it_is(why, words):
    """A Reject for a reason that no database takes, or nobody can show, is death all the same."""
    found = judge(Reject(why), POLICY, 0)
    assert words in found.reason
    assert "\x00" not in found.reason
    found.reason.encode()


def test_the_words_of_a_plain_retry_can_be_stored():
    """What `raise Retry(...)` says is kept so that each database takes it, and no row bursts."""
    said = judge(Retry("a\x00b\udc80" + "x" * 100_000), POLICY, 0).failure.message
    assert said.startswith("a\\x00b\\udc80x")
    assert len(said) < 5_000


def test_what_cannot_be_read_is_death():
    """Arguments that cannot be read back are death at once: another attempt reads the same."""
    found = judge(CorruptEntry("args must be a JSON list"), POLICY, 0)
    assert found.reason == "Not run: args must be a JSON list"
    assert found.outcome is Outcome.REJECTED


def test_an_exit_says_what_was_called():
    """sys.exit() in a body reads as a failure with its code and the remedy."""
    found = judge(verdict.exited(SystemExit(3)), POLICY, 0)
    assert found.failure.error_class == "reliable_tasks.errors.TaskExited"
    assert "sys.exit(3)" in found.failure.message


def test_a_retry_that_was_asked_for_has_its_own_time_and_changes():
    """self.retry() decides when and with what, not the policy, and keeps its cause."""
    asked = RetryAsked(GatewayDown("503"), 7.0, None, {"args": "[1]"})
    found = judge(asked, POLICY, 0)
    assert (found.dead, found.outcome) == (False, Outcome.RETRY)
    assert (found.delay, found.changes) == (7.0, {"args": "[1]"})
    assert found.failure.error_class.endswith("GatewayDown")
    assert judge(RetryAsked(None, 0.0, T0, {}), POLICY, 0).due_at == T0


def test_a_retry_without_a_cause_is_kept_as_a_retry():
    """self.retry() without an exception is kept under Celery's own class."""
    assert judge(RetryAsked(None, 7.0, None, {}), POLICY, 0).failure.error_class == (
        "celery.exceptions.Retry"
    )


@pytest.mark.parametrize("told", [True, False])
def test_a_retry_keeps_the_failure_that_it_is_for(told):
    """An error of any class is kept whole, given to self.retry() or only caught before it."""
    with pytest.raises(worker_tasks.TwoWords) as caught:
        worker_tasks.ask_gateway()
    cause = caught.value
    asked = RetryAsked(cause if told else None, 7.0, None, {})
    asked.__context__ = cause
    failure = judge(asked, POLICY, 0).failure
    assert failure.error_class.endswith(".TwoWords")
    assert failure.message == "gateway: 503"
    assert 'raise TwoWords("gateway", 503)' in failure.traceback


@pytest.mark.parametrize(
    ("error", "suppressed"), [(Retry("not ready"), False), (RetryAsked(None, 7.0, None, {}), True)]
)
def test_a_retry_with_words_of_its_own_is_kept_with_them(error, suppressed):
    """What was caught is not the failure where the body says another, or that it does not count."""
    error.__context__, error.__suppress_context__ = KeyError("not in a cache"), suppressed
    failure = judge(error, POLICY, 0).failure
    assert failure.error_class == "celery.exceptions.Retry"
    assert failure.message in ("not ready", "retry asked for")


@pytest.mark.parametrize(
    ("when", "delay", "due_at"), [(7, 7.0, None), (T0, 180.0, T0), (None, 180.0, None)]
)
def test_a_plain_celery_retry_is_understood(when, delay, due_at):
    """`raise Retry(when=...)` means what it means to Celery."""
    found = judge(Retry(when=when), POLICY, 1)
    assert (found.delay, found.due_at, found.outcome) == (delay, due_at, Outcome.RETRY)
    assert not found.dead


def test_a_plain_celery_retry_has_the_limit_of_the_task():
    """`raise Retry` in every attempt ends: nothing else would count them."""
    found = judge(Retry("again"), POLICY, POLICY.max_retries)
    assert found.reason.startswith(f"Failed {POLICY.max_retries + 1} times")


def test_giving_up_beats_the_policy():
    """A body that called self.retry() beyond its own limit is dead, whatever the policy allows."""
    found = judge(GatewayDown("503"), replace(POLICY, max_retries=None), 1, gave_up=True)
    assert found.reason == "Failed 2 times, the limit is 1 retries. Last: GatewayDown: 503"
