"""A few fine labels that people have: read, and matched with the pictures."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from maskcon.data.readers.columns import USUAL
from maskcon.discover import spreadsheet
from maskcon.discover.kmeans import UNKNOWN
from maskcon.errors import InputError

SHOWN = 3  # paths that a message names


@dataclass(frozen=True)
class Known:
    """Fine labels of some of the images.

    Attributes:
        label: index into the names, `UNKNOWN` where none is given, int64 [N].
        names: of the fine classes that occur.
        unmatched: paths that are no picture of the data, or that several could be.
    """

    label: Tensor
    names: tuple[str, ...]
    unmatched: tuple[str, ...]

    @property
    def count(self) -> int:
        """Images whose label is known."""
        return int((self.label != UNKNOWN).sum())


class Finder:
    """Finds pictures by what people call them.

    A path may be absolute, relative to the table that has it or to the working directory, or
    the last parts of a picture's path, as long as these are no other's. Pictures that are no
    files go by their names in groups.csv.

    Args:
        names: of the pictures: paths, or what they are called [N].
    """

    def __init__(self, names: Sequence[str]):
        self._names = {name: row for row, name in enumerate(names)}
        self._paths = {os.path.abspath(name): row for row, name in enumerate(names)}  # noqa: PTH100
        self._last: dict[str, list[tuple[str, int]]] = {}
        for path, row in self._paths.items():
            self._last.setdefault(path.rpartition(os.sep)[2], []).append((path, row))

    def find(self, path: str, folder: Path) -> int | None:
        """The row of a picture; None where there is none, or more than one."""
        if path in self._names:
            return self._names[path]
        for place in (folder / path, Path(path)):
            row = self._paths.get(os.path.abspath(place))  # noqa: PTH100
            if row is not None:
                return row
        tail = os.path.normpath(path).lstrip(os.sep)
        same = [
            row
            for whole, row in self._last.get(tail.rpartition(os.sep)[2], [])
            if whole.endswith(os.sep + tail)
        ]
        return same[0] if len(same) == 1 else None


def read(path: Path, names: Sequence[str]) -> Known:
    """Read a table of paths and fine labels; rows without a label are passed over.

    It may be a groups.csv: the groups that somebody named are labels then, the others are not.

    Args:
        path: of the table, .csv or .tsv, with columns path and fine.
        names: what the pictures are called [N].

    Raises:
        InputError: it cannot be read, has no labels, none of its paths is a picture of the
            data, or a picture has two labels.
    """
    # "name" is what groups.csv has where pictures are no files
    columns = {"path": (*USUAL["image"], "name"), "fine": (*USUAL["fine"], "label")}
    columns["group"] = ("group",)  # which groups.csv has; nobody named one that is its own label
    given = spreadsheet.read(path, columns, ("group",))
    rows = [row for row in given if row["fine"] and row["fine"] != row["group"]]
    if not rows:
        raise InputError(f"{path} has no fine labels: write some, or leave out --known")
    finder = Finder(names)
    fine = tuple(dict.fromkeys(row["fine"] for row in rows))
    code_of = {name: code for code, name in enumerate(fine)}
    label = torch.full((len(names),), UNKNOWN)
    unmatched = []
    for row in rows:
        place = finder.find(row["path"], path.parent)
        code = code_of[row["fine"]]
        if place is None:
            unmatched.append(row["path"])
        elif label[place] not in (UNKNOWN, code):
            raise InputError(
                f"{path} has two labels for {row['path']}, {fine[int(label[place])]} and "
                f"{row['fine']}: keep one"
            )
        else:
            label[place] = code
    if len(unmatched) == len(rows):
        raise InputError(
            f"none of the {len(rows):,} paths in {path} is a picture of the data, such as "
            f"{unmatched[0]!r}; the data have {names[0]!r}: write paths as groups.csv has them"
        )
    return Known(label, fine, tuple(unmatched))
