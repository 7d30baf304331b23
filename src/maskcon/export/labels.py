"""Pictures with the names of their groups, as annotation tools take them in."""

import os
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from maskcon.discover import spreadsheet
from maskcon.discover.place import TABLE
from maskcon.errors import InputError

COLUMNS = {
    "path": ("path",),
    "name": ("name",),
    "coarse": ("coarse",),
    "fine": ("fine",),
    "confidence": ("confidence",),
}


@dataclass(frozen=True)
class Labels:
    """N pictures and what they are called.

    Attributes:
        paths: of their files, absolute [N].
        coarse: name of the coarse class of each [N].
        fine: name of the group of each [N].
        confidence: that it is this group, in 0..1, float64 [N]; None where nobody says.
    """

    paths: tuple[str, ...]
    coarse: tuple[str, ...]
    fine: tuple[str, ...]
    confidence: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.paths)

    @cached_property
    def label(self) -> tuple[str, ...]:
        """One name for each picture: its group's, after that of the coarse class where two
        coarse classes have groups of this name, as tools keep one list of names [N].
        """
        classes = defaultdict(set)
        for coarse, fine in zip(self.coarse, self.fine, strict=True):
            classes[fine].add(coarse)
        return tuple(
            f"{coarse}/{fine}" if len(classes[fine]) > 1 else fine
            for coarse, fine in zip(self.coarse, self.fine, strict=True)
        )

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The labels that occur, those of a coarse class together."""
        there = set(zip(self.coarse, self.label, strict=True))
        return tuple(label for _, label in sorted(there, key=_natural))

    def inside(self, root: Path | None = None) -> list[str]:
        """Paths from a folder on, with "/" between their parts [N].

        Args:
            root: the folder; by default the innermost that all pictures lie in.

        Raises:
            InputError: a picture lies elsewhere.
        """
        home = os.path.abspath(root) if root is not None else _common(self.paths)  # noqa: PTH100
        lead = home.rstrip(os.sep) + os.sep
        outside = next((path for path in self.paths if not path.startswith(lead)), None)
        if outside is not None:
            raise InputError(
                f"{outside} does not lie in {home}: give --root a folder that all "
                f"{len(self):,} pictures lie in, such as {_common(self.paths)}"
            )
        return [path[len(lead) :].replace(os.sep, "/") for path in self.paths]


def _common(paths: tuple[str, ...]) -> str:
    return os.path.commonpath([os.path.dirname(path) for path in paths])  # noqa: PTH120


def _natural(pair: tuple[str, str]) -> tuple[str, str, int, str]:
    """Sorts "cats 2" before "cats 10"."""
    lead, _, number = pair[1].rpartition(" ")
    plain = number.isascii() and number.isdigit() and len(number) < 10
    return (pair[0], lead, int(number), "") if plain else (pair[0], pair[1], -1, pair[1])


def read(folder: Path) -> Labels:
    """The labels of a folder of groups that `maskcon discover` wrote.

    Raises:
        InputError: it holds no such table, or one whose pictures are no files.
    """
    table = folder / TABLE
    if not table.is_file():
        raise InputError(
            f"{folder} has no {TABLE}: expected the folder of groups that `maskcon discover RUN "
            "DATA -o FOLDER` writes"
        )
    rows = spreadsheet.read(table, COLUMNS, ("path", "name", "confidence"))
    if not rows:
        raise InputError(f"{table} has no rows: there is nothing to hand over")
    if not all(row["path"] for row in rows):
        raise InputError(
            f"the pictures of {table} are no files of their own, which other programs could show: "
            "run discover again with --pictures, which writes them"
        )
    home = os.path.abspath(folder)  # noqa: PTH100 - links stay as they are
    told = [row["confidence"] for row in rows]
    try:
        sure = np.array([float(value) for value in told]) if all(told) else None
    except ValueError as error:
        raise InputError(f"{table} has a confidence that is no number: {error}") from error
    return Labels(
        tuple(os.path.normpath(os.path.join(home, row["path"])) for row in rows),  # noqa: PTH118
        tuple(row["coarse"] for row in rows),
        tuple(row["fine"] for row in rows),
        sure,
    )
