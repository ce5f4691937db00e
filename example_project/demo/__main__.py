"""``python -m example_project.demo [--check] [--orders 300] [--port 8000] [--keep]``."""

import argparse
import os
import signal
import sys
from typing import NoReturn

import django

from example_project.demo.children import DemoError
from example_project.demo.display import Display
from example_project.demo.place import WEB_PORT, find_place

CHECK_SECONDS = 90.0  # --check has an answer by then
_ENDING_SECONDS = 10.0  # of them are kept for counting and for ending everything
_PATIENCE_SECONDS = 240.0  # without --check


def main() -> int:
    """Run the demo.

    Returns:
        The exit code: 0 if the account is right, 1 if it is not, 2 if there is none, 130 if
        interrupted before there was one.
    """
    display = Display()
    options = _parse()
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    try:
        return 0 if _run(options, display) else 1
    except KeyboardInterrupt:
        display.write("\nInterrupted: everything has been ended.")
        return 130
    except DemoError as error:
        display.write(f"\n{display.bad('The demo failed')}: {error}")
        return 2


def _run(options: argparse.Namespace, display: Display) -> bool:
    place = find_place(options.port)
    os.environ.update(place.environment)
    django.setup()
    # Only now: these modules need Django's apps, and the apps need the environment above.
    from example_project.demo.run import Options, run

    patience = CHECK_SECONDS - _ENDING_SECONDS if options.check else _PATIENCE_SECONDS
    stay = options.keep or not options.check
    return run(place, Options(orders=options.orders, stay=stay, patience=patience), display)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m example_project.demo",
        description="A shop under load whose processes are killed, and an account of the result.",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help=f"end after the account; exit 0 only if it is right, within {CHECK_SECONDS:.0f} s",
    )
    parser.add_argument("--orders", type=_positive, default=300, help="how many (default: 300)")
    parser.add_argument(
        "--port",
        type=_positive,
        default=WEB_PORT,
        help=f"of the web server, or the next free one (default: {WEB_PORT})",
    )
    parser.add_argument(
        "--keep", action="store_true", help="stay up after the account, also with --check"
    )
    return parser.parse_args()


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
