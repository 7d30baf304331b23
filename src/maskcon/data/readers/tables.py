"""A table of paths and labels: .csv, .tsv or .jsonl."""

import csv
import io
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from maskcon.data.pictures import Files
from maskcon.data.readers import arrow
from maskcon.data.readers.columns import USUAL, Columns, Labels, assemble, usual
from maskcon.data.table import SPLITS, Found
from maskcon.errors import InputError
from maskcon.runtime.files import parse_json

SUFFIXES = (".csv", ".tsv", ".jsonl")


METADATA = (
    "metadata.csv",
    "metadata.jsonl",
    "metadata.parquet",
)  # Hugging Face's name of a table beside pictures


def read(path: Path, columns: Columns) -> Found:
    """Read a table; paths in it are relative to its folder, or absolute.

    Raises:
        InputError: it cannot be read, or lacks a column, or a row lacks a cell.
    """
    return _assembled(path.stem, [(None, path)], columns, str(path))


def beside(path: Path) -> bool:
    """Whether a folder, or a folder of a split in it, has Hugging Face's table of its pictures."""
    return bool(_metadata(path))


def labelled(path: Path) -> bool:
    """Whether those tables have a column of labels under one of its usual names."""
    return all("coarse" in usual(_head(_rows(file)), USUAL) for _, file in _metadata(path))


def read_beside(path: Path, columns: Columns) -> Found:
    """Read Hugging Face's tables of pictures: one in each folder of a split, or one for all.

    One table for all, without a column of splits, has the splits that its paths begin with.
    """
    return _assembled(path.name, _metadata(path), columns, str(path))


def _metadata(path: Path) -> list[tuple[str | None, Path]]:
    """(split, table) of a folder; none where neither it nor a folder of a split has one."""
    if not path.is_dir():
        return []
    folders = [(SPLITS.get(f.name.lower()), f) for f in sorted(path.iterdir()) if f.is_dir()]
    places = [(None, path), *((part, f) for part, f in folders if part is not None)]
    tables = [(part, f / name) for part, f in places for name in METADATA if (f / name).is_file()]
    return sorted(tables, key=lambda table: table[0] != "train")


def _assembled(
    name: str, tables: Sequence[tuple[str | None, Path]], columns: Columns, where: str
) -> Found:
    """Tables of splits, one after the other; the columns are those of the first."""
    files: list[str] = []
    values: dict[str, list] = {}
    splits: list[str | None] = []
    picked: dict[str, str] = {}
    for part, path in tables:
        rows = _rows(path)
        if not rows:
            raise InputError(f"{path} has no rows")
        picked = picked or columns.pick(_head(rows), str(path))
        paths = _column(rows, picked["image"], path)
        folder = os.path.dirname(path)  # noqa: PTH120 - of a bare name it is nothing
        files += [_file(folder, value, path, row) for row, value in enumerate(paths)]
        for role in picked:
            values.setdefault(role, []).extend(_column(rows, picked[role], path))
        splits += [
            part or (_first_folder(value) if path.name in METADATA else None) for value in paths
        ]
    labels: dict[str, Labels] = {
        level: Labels(values[level]) for level in ("coarse", "fine") if level in values
    }
    split = values.get("split") or (splits if None not in splits else None)
    return assemble(name, Files(files), labels, split, where)


def _head(rows: Sequence[dict]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _column(rows: Sequence[dict], name: str, path: Path) -> list:
    missing = next((i for i, row in enumerate(rows) if name not in row), None)
    if missing is not None:
        raise InputError(f"row {missing} of {path} has no {name}")
    return [row[name] for row in rows]


def _file(folder: str, value: object, path: Path, row: int) -> str:
    """Where a picture lies; a cell's blanks are taken literally where a file has them."""
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"row {row} of {path} has {value!r} for a path: expected text")
    bare = value.strip()
    if bare != value and os.path.lexists(os.path.join(folder, value)):  # noqa: PTH118
        bare = value
    place = os.path.join(folder, bare)  # noqa: PTH118 - a Path of each of millions takes a minute
    return str(Path(place)) if "./" in bare or "//" in bare else place


def _first_folder(value: str) -> str | None:
    """The split whose folder a path begins with."""
    return SPLITS.get(value.replace("\\", "/").removeprefix("./").partition("/")[0].lower())


def _rows(path: Path) -> list[dict]:
    if path.suffix.lower() == ".parquet":
        return arrow.rows(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")  # names may hold any end of line
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} cannot be read as UTF-8 text ({error}): save it as UTF-8"
        ) from error
    return _json_lines(text, path) if path.suffix.lower() == ".jsonl" else _cells(text, path)


def delimiter_of(text: str) -> str:
    """What separates the cells of a table, by its head: a tab, a comma or a semicolon."""
    head = next((line for line in text.splitlines() if line.strip()), "")
    return next((mark for mark in "\t,;" if mark in head), ",")


def _cells(text: str, path: Path) -> list[dict[str, str]]:
    try:
        source = io.StringIO(text, newline="")
        lines = list(csv.reader(source, delimiter=delimiter_of(text), strict=True))
    except csv.Error as error:
        raise InputError(f"{path} cannot be read as a table: {error}") from error
    lines = [line for line in lines if line]
    if not lines:
        return []
    head = [name.strip() for name in lines[0]]
    twice = next((name for name, count in Counter(head).items() if count > 1), None)
    if twice is not None:
        raise InputError(f"{path} has two columns {twice!r}: rename one")
    for number, line in enumerate(lines[1:]):
        if len(line) != len(head):
            raise InputError(
                f"row {number} of {path} has {len(line)} cells, and the head has {len(head)} "
                f"({', '.join(head)}): mend it, or quote cells that hold a delimiter"
            )
    return [dict(zip(head, line, strict=True)) for line in lines[1:]]


def _json_lines(text: str, path: Path) -> list[dict]:
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except ValueError as error:
            raise InputError(f"line {number} of {path} is no JSON: {error}") from error
        if not isinstance(row, dict):
            raise InputError(f"line {number} of {path} is no JSON object: {line[:60]}")
        rows.append(row)
    return rows
