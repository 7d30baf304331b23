"""What groups are called: cats 1 and so on, or as people name them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from maskcon.discover import spreadsheet
from maskcon.discover.groups import Division
from maskcon.discover.kmeans import UNKNOWN
from maskcon.discover.known import Finder
from maskcon.errors import InputError


@dataclass(frozen=True)
class Group:
    """One group of one coarse class.

    Attributes:
        division: index of its coarse class among the divisions.
        place: its index there.
        id: coarse class and number, such as cats 1; the largest group is 1.
        name: as people call it, or its id.
    """

    division: int
    place: int
    id: str
    name: str


def groups_of(
    divisions: Sequence[Division],
    coarse: Sequence[str],
    fine: Sequence[str] = (),
    numbers: Sequence[Sequence[int]] | None = None,
) -> list[Group]:
    """The groups of all coarse classes; known fine classes name theirs.

    Args:
        divisions: of the coarse classes.
        coarse: names of coarse labels.
        fine: names of known fine labels.
        numbers: of the groups of each division; by default 1 for the largest, 2, and so on.
    """
    found = []
    for d, division in enumerate(divisions):
        for place, known in enumerate(division.names):
            number = place + 1 if numbers is None else numbers[d][place]
            name = f"{coarse[division.label]} {number}"
            found.append(Group(d, place, name, name if known == UNKNOWN else fine[known]))
    return found


COLUMNS = {"group": ("group",), "name": ("name", "fine"), "typical": ("typical", "path")}


def beside(path: Path, names: Sequence[str]) -> dict[int, str]:
    """The name that stands beside each typical picture of a table of names, by its row.

    Args:
        path: of the table, as the page of groups writes it.
        names: what the pictures are called [N].

    Raises:
        InputError: it cannot be read.
    """
    finder, found = Finder(names), dict[int, str]()
    for row in spreadsheet.read(path, COLUMNS, ("typical",)):
        if row["name"] and row["typical"]:
            place = finder.find(row["typical"], path.parent)
            if place is not None:
                found[place] = row["name"]
    return found


def coded(names: Mapping[int, str], count: int, known: Sequence[str] = ()) -> np.ndarray:
    """A number for the name of each row, `UNKNOWN` where it has none, int64 [count].

    Names that are known already have the numbers of their places.
    """
    label, codes = np.full(count, UNKNOWN), {name: code for code, name in enumerate(known)}
    for row, name in names.items():
        label[row] = codes.setdefault(name, len(codes))
    return label


def read(
    path: Path, groups: Sequence[Group], divisions: Sequence[Division], names: Sequence[str]
) -> dict[str, str]:
    """Read names of groups: a table with columns group and name, and perhaps typical.

    Where a row has a typical picture, the name goes to the group that this picture is in, so
    that names stay with what people saw when numbers change.

    Args:
        path: of the table, as the page of groups writes it.
        groups: that there are.
        divisions: of the coarse classes, whose `rows` belong to the names.
        names: what the pictures are called.

    Returns:
        {id of a group: its name}.

    Raises:
        InputError: it cannot be read, there is no such group, or one gets two names.
    """
    rows = [row for row in spreadsheet.read(path, COLUMNS, ("typical",)) if row["name"]]
    if not rows:
        raise InputError(f"{path} names no group: write names, or leave out --names")
    by_id = {group.id: group for group in groups}
    by_place = {(group.division, group.place): group for group in groups}
    finder = Finder(names)
    where = {
        int(row): (d, int(place))
        for d, division in enumerate(divisions)
        for row, place in zip(division.rows, division.group, strict=True)
    }
    found: dict[str, str] = {}
    for row in rows:
        group = by_id.get(row["group"])
        picture = finder.find(row["typical"], path.parent) if row["typical"] else None
        if picture is not None:
            group = by_place[where[picture]]
        if group is None:
            raise InputError(
                f"{path} names a group {row['group']!r}, and there is none: there are "
                f"{', '.join(list(by_id)[:5])}{', ...' if len(by_id) > 5 else ''}; were the "
                "names given to groups of other data or another number?"
            )
        if found.setdefault(group.id, row["name"]) != row["name"]:
            raise InputError(
                f"{path} gives {group.id} two names, {found[group.id]} and {row['name']}: they "
                "were two groups when they were named; use the same --groups and --seed, or keep "
                "one of the names"
            )
    return found


def renamed(groups: Sequence[Group], names: Mapping[str, str]) -> list[Group]:
    """The groups under their new names.

    Groups of one coarse class may share a name: they are one fine class then. A name that two
    coarse classes share stands for two fine classes, so the coarse class is put before it.

    Args:
        groups: under their old names.
        names: new ones, by id.
    """
    # After the slash stands what pictures and reports show, as in the classes of a folder tree.
    called = {group.id: names.get(group.id, group.name) for group in groups}
    owners: dict[str, set[int]] = {}
    for group in groups:
        owners.setdefault(called[group.id], set()).add(group.division)
    found = []
    for group in groups:
        name = called[group.id]
        if len(owners[name]) > 1:
            name = f"{group.id.rpartition(' ')[0]}/{name}"
        found.append(replace(group, name=name))
    return found
