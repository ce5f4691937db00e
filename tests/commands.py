"""Runs `manage.py reliable_tasks` in this process, as the command line would."""

from __future__ import annotations

import builtins
import contextlib
import io
import json
import sys
from dataclasses import dataclass
from typing import Any

from django.core.management.base import CommandError

from reliable_tasks.management.commands.reliable_tasks import Command


class Terminal(io.StringIO):
    """An output that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@dataclass
class Ran:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


def reliable_tasks(*arguments: object, terminal: bool = False) -> Ran:
    """Run a verb and return its exit code and output."""
    out, err = (Terminal() if terminal else io.StringIO()), io.StringIO()
    command = Command(stdout=out, stderr=err, no_color=True)
    command._called_from_command_line = True
    code = 0
    with contextlib.redirect_stderr(err):
        try:
            parser = command.create_parser("manage.py", "reliable_tasks")
            options = vars(parser.parse_args([str(each) for each in arguments]))
            command.execute(*options.pop("args", ()), **{**options, "no_color": True})
        except CommandError as error:
            err.write(str(error))
            code = error.returncode
        except SystemExit as end:
            code = int(end.code or 0)
    return Ran(code, out.getvalue(), err.getvalue())


def answer(monkeypatch: Any, text: str | None) -> None:
    """Answer the question that a command asks on a terminal; None closes the keyboard."""

    class Keyboard:
        def isatty(self) -> bool:
            return True

    def reply() -> str:
        if text is None:
            raise EOFError
        return text

    monkeypatch.setattr(sys, "stdin", Keyboard())
    monkeypatch.setattr(builtins, "input", reply)
