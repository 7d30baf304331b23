"""Groups that keep their numbers and names when pictures are added and they are found again."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

from maskcon.discover import spreadsheet
from maskcon.discover.groups import Division
from maskcon.discover.known import Finder
from maskcon.errors import InputError

COLUMNS = {
    "picture": ("path", "name"),
    "coarse": ("coarse",),
    "fine": ("fine",),
    "group": ("group",),
    "typical": ("typical",),
}


@dataclass(frozen=True)
class Earlier:
    """Groups that were found before, of the pictures that are still there.

    Attributes:
        number: of each picture's group in its coarse class, 0 where it had none, int64 [N].
        coarse: name of its coarse class then, "" where it had none [N].
        names: what people called groups, by (coarse class, number).
        typical: row of the most typical picture of each named group that is still there.
        numbers: the largest number of each coarse class.
    """

    number: np.ndarray
    coarse: list[str]
    names: dict[tuple[str, int], str]
    typical: dict[tuple[str, int], int]
    numbers: dict[str, int]

    @property
    def beside(self) -> dict[int, str]:
        """The name of each picture that is typical of a named group."""
        return {row: self.names[group] for group, row in self.typical.items()}


def read(path: Path, called: Sequence[str]) -> Earlier:
    """Read groups.csv of an earlier discovery.

    Args:
        path: of the table.
        called: what the pictures are called now [N].

    Raises:
        InputError: it cannot be read, or was not written by a discovery.
    """
    finder = Finder(called)
    number, coarse = np.zeros(len(called), np.int64), [""] * len(called)
    names: dict[tuple[str, int], str] = {}
    typical: dict[tuple[str, int], int] = {}
    numbers: dict[str, int] = {}
    for line, row in enumerate(spreadsheet.read(path, COLUMNS), 1):
        match = re.fullmatch(r"(.+) (\d+)", row["group"], re.DOTALL)
        if match is None or match[1] != row["coarse"]:
            raise InputError(
                f"row {line} of {path} has the group {row['group']!r}: expected "
                f"{row['coarse']} and a number, as discover writes it"
            )
        group = row["coarse"], int(match[2])
        numbers[group[0]] = max(numbers.get(group[0], 0), group[1])
        if row["fine"] != row["group"]:
            names[group] = row["fine"]
        place = finder.find(row["picture"], path.parent)
        if place is None:
            continue
        number[place], coarse[place] = group[1], group[0]
        if row["typical"] == "1" and group in names:
            typical[group] = place
    return Earlier(number, coarse, names, typical, numbers)


def kept(divisions: Sequence[Division], names: Sequence[str], earlier: Earlier) -> list[list[int]]:
    """The number of each group: that of the earlier one with which it shares most pictures.

    Groups are matched one to one so that the most pictures stay under their number; a pair is
    one group where it shares at least half of the old pictures of the smaller of the two. A
    group that is new gets a number that no earlier one had.

    Args:
        divisions: of the coarse classes.
        names: of coarse labels.
        earlier: groups.

    Returns:
        numbers of the groups of each division, from 1.
    """
    found = []
    for division in divisions:
        name = names[division.label]
        before = np.array([earlier.number[r] * (earlier.coarse[r] == name) for r in division.rows])
        most = earlier.numbers.get(name, 0)
        table = np.zeros((most + 1, division.number), np.int64)
        np.add.at(table, (before, division.group), 1)
        table = table[1:]
        old, new = linear_sum_assignment(table, maximize=True)
        numbers = [0] * division.number
        for o, n in zip(old.tolist(), new.tolist(), strict=True):
            if 2 * table[o, n] >= max(1, min(table[o].sum(), table[:, n].sum())):
                numbers[n] = o + 1
        for n, given in enumerate(numbers):
            if not given:
                most += 1
                numbers[n] = most
        found.append(numbers)
    return found
