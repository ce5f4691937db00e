"""Whether a failed attempt is followed by another, and after how long. Pure: no clock, no rows.

The words and their meaning are Celery's: ``autoretry_for``, ``dont_autoretry_for``,
``max_retries``, ``retry_backoff``, ``retry_backoff_max``, ``retry_jitter``,
``default_retry_delay``.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

# 2 ** 40 seconds is longer than any cap; a larger exponent would only build huge integers.
_MAX_EXPONENT = 40


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How one task is retried.

    Attributes:
        max_retries: failures that are followed by another attempt; None for no limit.
        backoff: seconds of the first delay, doubled for each further one; 0 turns it off.
        backoff_max: longest delay that backoff gives, in seconds.
        jitter: draw the delay evenly from zero to the computed one, as Celery does.
        delay: seconds between attempts when backoff is off.
        retry_for: exception classes that are retried.
        never_for: exception classes that are not, even if ``retry_for`` covers them.
    """

    max_retries: int | None
    backoff: float
    backoff_max: float
    jitter: bool
    delay: float
    retry_for: tuple[type[BaseException], ...]
    never_for: tuple[type[BaseException], ...]

    def covers(self, error: BaseException) -> bool:
        """Tell whether this kind of error is worth another attempt."""
        return isinstance(error, self.retry_for) and not isinstance(error, self.never_for)

    def exhausted(self, retries: int) -> bool:
        """Tell whether an entry with that many retries behind it may have no more."""
        return self.max_retries is not None and retries >= self.max_retries

    def seconds(self, retries: int) -> float:
        """Return the delay before the next attempt.

        Args:
            retries: retries already behind the entry (0 after the first failure).

        Returns:
            Seconds, at least zero.
        """
        if not self.backoff:
            return max(0.0, self.delay)
        delay = min(self.backoff * 2.0 ** min(retries, _MAX_EXPONENT), self.backoff_max)
        return random.uniform(0.0, delay) if self.jitter else delay  # noqa: S311 - no secret
