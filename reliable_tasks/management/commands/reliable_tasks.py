"""``manage.py reliable_tasks <verb>``: the ledger from the command line."""

from __future__ import annotations

import os
import sys
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError

from ...errors import ReliableTasksError
from ...ledger.guard import explained
from ..console.output import Output
from ..console.parsing import repeat_django_options
from ..verbs import VERBS

_INTERRUPTED: Final = 130


class Command(BaseCommand):
    """Hands the command line to one of the verbs."""

    help = "Look at the ledger of reliable tasks, and act on it."
    # `doctor` runs them and says what they mean; the other verbs must work when they fail.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Add a parser for each verb."""
        verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
        for verb in VERBS:
            own = verbs.add_parser(
                verb.NAME, help=verb.HELP, description=f"{verb.HELP}.".capitalize()
            )
            verb.arguments(own)
            own.add_argument("--json", action="store_true", help="print JSON, for programs")
            repeat_django_options(own)

    def handle(self, *_: Any, verb: str, **options: Any) -> None:
        """Run the verb.

        Raises:
            CommandError: the command line cannot be meant, or the ledger cannot be read.
            SystemExit: with 1 if nothing matched or all is not well.
        """
        (chosen,) = (each for each in VERBS if verb == each.NAME)
        out = Output(self.stdout, self.stderr, self.style, as_json=options["json"])
        try:
            with explained():
                code = chosen.run(options, out)
            self.stdout.flush()
        except ReliableTasksError as error:
            raise CommandError(str(error)) from error
        except DatabaseError as error:
            raise CommandError(f"The ledger's database says: {str(error).strip()}") from error
        except KeyboardInterrupt:
            code = _INTERRUPTED
        except BrokenPipeError:  # `| head` has read enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 0
        if code:
            sys.exit(code)
