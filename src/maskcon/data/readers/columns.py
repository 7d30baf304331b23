"""Which columns of a table hold the image and its labels, and what the labels mean."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from maskcon.data.pictures import Pictures
from maskcon.data.table import SPLITS, Found, Part, numbered, settle
from maskcon.errors import InputError

_FILES = ("path", "paths", "image_path", "file", "filename", "file_name")
# What columns are called where nobody says it; the first that is there counts.
USUAL = {
    "image": ("image", "img", *_FILES),  # a picture, or where it lies
    "paths": (*_FILES, "image", "id"),  # what a vector is of
    "vector": ("vector", "vectors", "embedding", "embeddings"),
    "coarse": ("coarse", "coarse_label", "label", "labels", "class", "category"),
    "fine": ("fine", "fine_label"),
    "split": ("split", "set", "partition"),
    "stamps": ("picture_state",),  # of the files that vectors are of
}
ROLES = ("image", "coarse", "fine", "split")  # of a table of pictures
NONE = "none"  # a column's name that says: there is none


def usual(there: Sequence[str], names: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The column of each role that a table has, whatever its capitals: {"image": "Img", ...}.

    Args:
        there: the columns of the table.
        names: what the column of each role may be called, in small letters, the likeliest first.
    """
    known = {name.strip().lower(): name for name in reversed(there)}
    found = {role: next((n for n in wanted if n in known), None) for role, wanted in names.items()}
    return {role: known[name] for role, name in found.items() if name is not None}


@dataclass(frozen=True)
class Columns:
    """Names of columns; None is looked for among `USUAL`, "none" is not there."""

    image: str | None = None
    coarse: str | None = None
    fine: str | None = None
    split: str | None = None

    def pick(self, there: Sequence[str], where: str) -> dict[str, str]:
        """The column of each role that the table has: {"image": "img", ...}.

        Raises:
            InputError: a column that was named is not there, or none for image or coarse.
        """
        named = {role: getattr(self, role) for role in ROLES}
        for role, name in named.items():
            if name not in (None, NONE, *there):
                raise InputError(
                    f"{where} has no column {name!r}: it has {', '.join(there)}; "
                    f"give --{role}-column one of them"
                )
        looked_for = {role: USUAL[role] for role, name in named.items() if name is None}
        given = {role: name for role, name in named.items() if name not in (None, NONE)}
        picked = {**usual(there, looked_for), **given}
        for role in ("image", "coarse"):
            if role not in picked:
                raise InputError(
                    f"{where} has columns {', '.join(there)}: expected one for "
                    f"{'the image' if role == 'image' else 'the coarse label'}; name it with "
                    f"--{role}-column"
                )
        return picked


@dataclass(frozen=True)
class Labels:
    """A column of labels as it was read.

    Attributes:
        values: text, or numbers, of each row.
        names: of the classes, where the numbers are indices into a list of names.
    """

    values: Sequence
    names: tuple[str, ...] | None = None


def assemble(
    name: str,
    pictures: Pictures,
    labels: Mapping[str, Labels],
    split: Sequence[object] | None,
    where: str,
) -> Found:
    """Pictures and columns to a `Found`, the train rows and the test rows in their order.

    Args:
        name: of the set.
        pictures: of all rows.
        labels: "coarse", and perhaps "fine".
        split: of each row, as a name in `SPLITS`; None where the set is not split.
        where: what people know the table as.
    """
    if not len(pictures):
        raise InputError(f"{where} has no rows")
    labels = {
        level: replace(column, values=_stripped(column.values)) for level, column in labels.items()
    }
    codes: dict[str, Tensor] = {}
    names: dict[str, tuple[str, ...]] = {"fine": ()}
    notes: tuple[str, ...] = ()
    for level, column in labels.items():
        if level != "coarse" and _blank(column.values):
            notes += (f"{where}: the column of {level} labels is empty, as if there were none",)
        else:
            codes[level], names[level] = _coded(column, level, where)
    rows = {"train": list(range(len(pictures)))}
    if split is not None and _blank(split):
        notes += (f"{where}: the column of splits is empty, as if there were none",)
    elif split is not None:
        rows, of_splits = settle(_rows(split, where))
        notes += of_splits
    whole = Part(pictures, codes["coarse"], codes.get("fine"))
    parts = {
        part: whole if len(chosen) == len(pictures) else whole.take(torch.tensor(chosen).numpy())
        for part, chosen in rows.items()
    }
    return Found(name, parts, names["coarse"], names["fine"], notes)


def _coded(column: Labels, level: str, where: str) -> tuple[Tensor, tuple[str, ...]]:
    empty = [row for row, value in enumerate(column.values) if value is None or value == ""]
    if empty:
        advice = " (or leave the column out: --fine-column none)" if level == "fine" else ""
        raise InputError(
            f"{len(empty):,} of {len(column.values):,} rows of {where} have no {level} label, "
            f"row {empty[0]} the first: label them or drop them{advice}"
        )
    if column.names is None:
        return numbered([_text(value, row, where) for row, value in enumerate(column.values)])
    for row, value in enumerate(column.values):
        if isinstance(value, bool) or not isinstance(value, int):
            raise InputError(f"{level} label {value!r} of row {row} of {where} is no whole number")
        if not 0 <= value < len(column.names):
            raise InputError(
                f"{level} label {value} of row {row} of {where} is outside "
                f"0..{len(column.names) - 1}: there are {len(column.names)} {level} names"
            )
    return torch.tensor(list(column.values), dtype=torch.long), column.names


def _stripped(values: Sequence) -> list:
    """Cells without the blanks around them; NaN, as pandas has it, is an empty one."""
    return [
        value.strip() if isinstance(value, str) else None if value != value else value
        for value in values
    ]


def _blank(values: Sequence[object]) -> bool:
    """Whether a column says nothing, as `maskcon embed` leaves those that a set has not."""
    return all(value is None or value == "" for value in values)


def _text(value: object, row: int, where: str) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise InputError(
            f"label {value!r} of row {row} of {where} is no class: expected text or a whole number"
        )
    return str(value)


def _rows(split: Iterable[object], where: str) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = {}
    for row, value in enumerate(split):
        part = SPLITS.get(str(value).strip().lower())
        if part is None:
            raise InputError(
                f"row {row} of {where} is of split {value!r}: expected "
                f"{', '.join(SPLITS)}; or leave the column out: --split-column none"
            )
        rows.setdefault(part, []).append(row)
    return rows
