"""A table of paths and labels: .csv, .tsv or .jsonl."""

import csv
import io
from collections import Counter
from pathlib import Path

from maskcon.data.pictures import Files
from maskcon.data.readers.columns import Columns, Labels, assemble
from maskcon.data.table import Found
from maskcon.errors import InputError
from maskcon.runtime.files import parse_json

SUFFIXES = (".csv", ".tsv", ".jsonl")


def read(path: Path, columns: Columns) -> Found:
    """Read a table; paths in it are relative to its folder, or absolute.

    Raises:
        InputError: it cannot be read, or lacks a column, or a row lacks a cell.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")  # names may hold any end of line
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} cannot be read as UTF-8 text ({error}): save it as UTF-8"
        ) from error
    rows = _json_lines(text, path) if path.suffix.lower() == ".jsonl" else _cells(text, path)
    if not rows:
        raise InputError(f"{path} has no rows")
    picked = columns.pick(list(dict.fromkeys(name for row in rows for name in row)), str(path))

    def column(role: str) -> list:
        name = picked[role]
        missing = next((i for i, row in enumerate(rows) if name not in row), None)
        if missing is not None:
            raise InputError(f"row {missing} of {path} has no {name}")
        return [row[name] for row in rows]

    files = []
    for row, value in enumerate(column("image")):
        if not isinstance(value, str) or not value:
            raise InputError(f"row {row} of {path} has {value!r} for a path: expected text")
        files.append(path.parent / value)
    labels: dict[str, Labels] = {
        level: Labels(column(level)) for level in ("coarse", "fine") if level in picked
    }
    split = column("split") if "split" in picked else None
    return assemble(path.stem, Files(files), labels, split, str(path))


def _cells(text: str, path: Path) -> list[dict[str, str]]:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        source = io.StringIO(text, newline="")
        lines = list(csv.reader(source, delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise InputError(f"{path} cannot be read as a table: {error}") from error
    lines = [line for line in lines if line]
    if not lines:
        return []
    head = [name.strip() for name in lines[0]]
    if len(head) == 1 and ";" in head[0]:
        raise InputError(f"{path} separates its cells by semicolons: save it with commas")
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
