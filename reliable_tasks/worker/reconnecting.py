"""How a worker outlives the loss of its broker, and how soon it tries to reach it again.

Celery's waits grow to 30 seconds and cannot be set, so that after a longer outage nobody listens
for half a minute although the broker is back.

Celery 5.7.0 lets go of a lost connection's transport and then closes the connection. With Redis,
where messages wait in the worker that it has not acknowledged, and more than one channel was
waiting for more, closing means to put those messages back, for which there is no transport any
more: an AttributeError, which ends the worker as unrecoverable.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from ..conf import current

logger = logging.getLogger("reliable_tasks.worker")

# kombu's own: what Celery gives up after is counted in these.
_START: Final = 2.0
_STEP: Final = 2.0
_LONGEST: Final = 30.0


def look_after(consumer: Any) -> None:
    """Let a worker's consumer lose its connection, and try again within ``RECONNECT_SECONDS``.

    It gives up when Celery would: after the same time, with more tries.

    Args:
        consumer: the worker's; it connects through ``ensure_connected`` each time.
    """
    ensure_connected = consumer.ensure_connected

    def looked_after(connection: Any) -> Any:
        ensure_connection, close = connection.ensure_connection, connection.close

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

        def close_what_is_left() -> None:
            try:
                close()
            except AttributeError:  # of the transport that is gone
                logger.debug("A lost connection was not closed in order.", exc_info=True)

        connection.ensure_connection = ensure
        connection.close = close_what_is_left
        return ensure_connected(connection)

    consumer.ensure_connected = looked_after


def patience(max_retries: int) -> float:
    """Return for how many seconds Celery would try.

    Args:
        max_retries: ``broker_connection_max_retries``.
    """
    growing = int(_LONGEST / _STEP)
    waits = [_START + _STEP * number for number in range(min(max_retries, growing))]
    return sum(waits) + _LONGEST * max(0, max_retries - growing)
