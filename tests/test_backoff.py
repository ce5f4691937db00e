"""How long until the next attempt, and whether there is one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reliable_tasks.backoff import RetryPolicy

POLICY = RetryPolicy(
    max_retries=3,
    backoff=2.0,
    backoff_max=600.0,
    jitter=False,
    delay=180.0,
    retry_for=(Exception,),
    never_for=(),
)
SECONDS = st.floats(0.0, 1e9, allow_nan=False)
RETRIES = st.integers(0, 10_000)


def test_the_delay_doubles_from_the_first():
    """Without jitter the delays are the factor doubled each time, up to the longest."""
    policy = replace(POLICY, backoff_max=20.0)
    assert [policy.seconds(n) for n in range(6)] == [2.0, 4.0, 8.0, 16.0, 20.0, 20.0]


@given(backoff=SECONDS, longest=SECONDS, retries=RETRIES, jitter=st.booleans())
def test_a_delay_is_never_negative_nor_over_the_longest(backoff, longest, retries, jitter):
    """Whatever the numbers, a delay lies between zero and the longest that is allowed."""
    policy = replace(POLICY, backoff=backoff, backoff_max=longest, jitter=jitter, delay=0.0)
    assert 0.0 <= policy.seconds(retries) <= longest


@given(backoff=SECONDS, longest=SECONDS, retries=RETRIES)
def test_without_jitter_a_later_delay_is_no_shorter(backoff, longest, retries):
    """Delays never shrink as failures add up."""
    policy = replace(POLICY, backoff=backoff, backoff_max=longest, delay=0.0)
    assert policy.seconds(retries) <= policy.seconds(retries + 1)


@given(backoff=st.floats(0.001, 1e6), retries=RETRIES)
def test_jitter_draws_at_most_the_full_delay(backoff, retries):
    """A drawn delay is never longer than the one without jitter."""
    plain = replace(POLICY, backoff=backoff)
    assert replace(plain, jitter=True).seconds(retries) <= plain.seconds(retries)


def test_jitter_spreads_evenly():
    """Entries that fail together do not come back together: draws fill the whole span."""
    policy = replace(POLICY, backoff=100.0, jitter=True)
    draws = [policy.seconds(0) for _ in range(2_000)]
    for low in range(0, 100, 10):
        assert 100 < sum(low <= draw < low + 10 for draw in draws) < 320


@given(delay=st.floats(-1e6, 1e6), retries=RETRIES, jitter=st.booleans())
def test_without_backoff_the_delay_is_fixed(delay, retries, jitter):
    """Without backoff each delay is the fixed one, never negative and never drawn."""
    policy = replace(POLICY, backoff=0.0, delay=delay, jitter=jitter)
    assert policy.seconds(retries) == max(0.0, delay)


@given(limit=st.integers(0, 100), retries=st.integers(0, 200))
def test_exhausted_after_as_many_retries_as_allowed(limit, retries):
    """An entry gets exactly as many retries as its limit says."""
    assert replace(POLICY, max_retries=limit).exhausted(retries) == (retries >= limit)


@given(retries=st.integers(0, 10**9))
def test_none_is_no_limit(retries):
    """With no limit an entry is retried for ever."""
    assert not replace(POLICY, max_retries=None).exhausted(retries)


@pytest.mark.parametrize(
    ("retry_for", "never_for", "error", "covered"),
    [
        ((Exception,), (), ValueError(), True),
        ((Exception,), (ValueError,), ValueError(), False),
        ((Exception,), (ValueError,), UnicodeError(), False),
        ((Exception,), (UnicodeError,), ValueError(), True),
        ((OSError, KeyError), (), ConnectionError(), True),
        ((OSError, KeyError), (), ValueError(), False),
        ((Exception,), (), SystemExit(), False),
    ],
)
def test_dont_autoretry_for_wins(retry_for, never_for, error, covered):
    """An error is retried if a class covers it and none that must not be retried does."""
    assert replace(POLICY, retry_for=retry_for, never_for=never_for).covers(error) is covered
