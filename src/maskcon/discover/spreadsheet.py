"""Small tables that people write: a few fine labels, names of groups."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from maskcon.data.readers.columns import usual
from maskcon.errors import InputError


def read(
    path: Path, columns: Mapping[str, Sequence[str]], optional: Sequence[str] = ()
) -> list[dict]:
    """Rows of a .csv or .tsv, with the columns that are asked for.

    Args:
        path: of the table; its first line names the columns.
        columns: what the rows should have, and under which names it is looked for.
        optional: of these, what may be missing; it is "" then.

    Returns:
        a dict for each row, its values stripped of blanks around them.

    Raises:
        InputError: it cannot be read, or lacks a column.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")  # names may hold any end of line
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as a table in UTF-8: {error}") from error
    head_line = text.partition("\n")[0]
    delimiter = "\t" if "\t" in head_line else ";" if "," not in head_line else ","
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise InputError(f"{path} cannot be read as a table: {error}") from error
    lines = [line for line in lines if any(cell.strip() for cell in line)]
    if not lines:
        raise InputError(f"{path} is empty: expected a table with columns {', '.join(columns)}")
    head = [name.strip().lower() for name in lines[0]]
    places = {role: head.index(name) for role, name in usual(head, columns).items()}
    for role, names in columns.items():
        if role not in places and role not in optional:
            raise InputError(
                f"{path} has columns {', '.join(head)}: expected one of {', '.join(names)}; the "
                "first line names the columns"
            )
    longest = max(places.values())
    for number, line in enumerate(lines[1:], 1):
        if len(line) <= longest:
            raise InputError(
                f"row {number} of {path} has {len(line)} cells, and the first line has "
                f"{len(head)} ({', '.join(head)}): mend it, or quote cells that hold a delimiter"
            )
    return [
        {role: line[places[role]].strip() if role in places else "" for role in columns}
        for line in lines[1:]
    ]


def write(head: Sequence[str], lines: Iterable[Sequence[object]]) -> bytes:
    """A table as the bytes of a .csv."""
    return rows([head, *lines])


def rows(lines: Iterable[Sequence[object]]) -> bytes:
    """Lines of a .csv as bytes."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue().encode()
