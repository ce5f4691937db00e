"""How long a worker waits between two tries to reach a broker that is away.

Celery's waits grow to 30 seconds and cannot be set, so that after a longer outage nobody listens
for half a minute although the broker is back.
"""

from __future__ import annotations

from typing import Any, Final

from ..conf import current

# kombu's own: what Celery gives up after is counted in these.
_START: Final = 2.0
_STEP: Final = 2.0
_LONGEST: Final = 30.0


def hasten(consumer: Any) -> None:
    """Let a worker's consumer try again after ``RECONNECT_SECONDS`` at the latest.

    It gives up when Celery would: after the same time, with more tries.

    Args:
        consumer: the worker's; it connects through ``ensure_connected`` each time.
    """
    ensure_connected = consumer.ensure_connected

    def hastened(connection: Any) -> Any:
        ensure_connection = connection.ensure_connection

        def ensure(errback: Any = None, max_retries: int | None = None, **options: Any) -> Any:
            longest = current().RECONNECT_SECONDS
            options |= {
                "interval_start": min(1.0, longest),
                "interval_step": min(1.0, longest),
                "interval_max": longest,
            }
            if max_retries:
                options["timeout"] = patience(max_retries)
                max_retries = None
            return ensure_connection(errback, max_retries, **options)

        connection.ensure_connection = ensure
        return ensure_connected(connection)

    consumer.ensure_connected = hastened


def patience(max_retries: int) -> float:
    """Return for how many seconds Celery would try.

    Args:
        max_retries: ``broker_connection_max_retries``.
    """
    growing = int(_LONGEST / _STEP)
    waits = [_START + _STEP * number for number in range(min(max_retries, growing))]
    return sum(waits) + _LONGEST * max(0, max_retries - growing)
