"""What a planted bug is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


class NotThere(Exception):
    """The text that a bug replaces is not in the tree exactly once."""


@dataclass(frozen=True)
class Edit:
    """One replacement of a text that a file has exactly once.

    Attributes:
        path: the file, from the project's directory.
        old: what is there.
        new: what is put in its place.
    """

    path: str
    old: str
    new: str

    def apply(self, root: Path) -> None:
        """Replace the text in a tree.

        Raises:
            NotThere: the file has the text never or more than once.
        """
        file = root / self.path
        text = file.read_text()
        if text.count(self.old) != 1:
            raise NotThere(
                f"{self.path} has this text {text.count(self.old)} times instead of once. The code "
                f"has changed: plant the bug where it belongs now.\n{self.old}"
            )
        file.write_text(text.replace(self.old, self.new))


@dataclass(frozen=True)
class Bug:
    """A mistake that somebody could make.

    Attributes:
        name: its name on the command line.
        what: what it does, in words.
        edits: how it is planted.
        caught_by: the tests that are to catch it.
        database: on which database they are run.
        quick: one of the few that every run of continuous integration plants.
    """

    name: str
    what: str
    edits: tuple[Edit, ...]
    caught_by: tuple[str, ...]
    database: str = "sqlite"
    quick: bool = False

    def plant(self, root: Path) -> None:
        """Plant it in a tree."""
        for edit in self.edits:
            edit.apply(root)
