"""Sets a process's clock wrong: Python imports this before anything else where it is on the path.

Not libfaketime, under which Python's own ``time.sleep`` fails. What tells the time of day by
``time.time()``, which is all of Celery, kombu and Python code in between, is off by
``PROVE_CLOCK_SHIFT`` seconds; clocks that only count (monotonic) are right, as on a real host.
"""

import os
import time

_SHIFT = float(os.environ.get("PROVE_CLOCK_SHIFT", "0"))
_time, _time_ns = time.time, time.time_ns


def _shifted() -> float:
    return _time() + _SHIFT


def _shifted_ns() -> int:
    return _time_ns() + int(_SHIFT * 1e9)


time.time, time.time_ns = _shifted, _shifted_ns
