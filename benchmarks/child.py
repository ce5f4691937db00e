"""Entry point of a producing process: sets Django up, runs one case, prints one JSON object.

The driver starts it as ``python -m benchmarks.child CASE ...``, the side in the environment.
"""

from __future__ import annotations

import json
import sys

import django

from benchmarks.celery_app import app


def main() -> None:
    """Run the case that the command line names."""
    app.set_default()
    django.setup()
    from benchmarks import producer  # models load only when Django is set up

    name, *arguments = sys.argv[1:]
    print(json.dumps(producer.CASES[name](*arguments)))


if __name__ == "__main__":
    main()
