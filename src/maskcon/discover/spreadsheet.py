"""Small tables that people write: a few fine labels, names of groups."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from maskcon.data.readers.columns import usual
from maskcon.data.readers.tables import delimiter_of
from maskcon.errors import InputError


class Table(NamedTuple):
    """A table as somebody wrote it.

    Attributes:
        content: the bytes of its file.
        delimiter: between the cells of a line.
        rows: cells of all lines that are not blank, of the column names first.
        last: how many bytes the last of these takes, with all that follows it.
    """

    content: bytes
    delimiter: str
    rows: list[list[str]]
    last: int

    @property
    def end(self) -> str:
        """What its lines end with."""
        return "\r\n" if b"\r\n" in self.content else "\n"


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
    lines = _parsed(path, columns).rows
    places = _places(lines[0], path, columns, optional)
    longest = max(places.values())
    for number, line in enumerate(lines[1:], 1):
        if len(line) <= longest:
            raise InputError(
                f"row {number} of {path} has {len(line)} cells, and the first line has "
                f"{len(lines[0])} ({', '.join(lines[0])}): mend it, or quote cells that hold a "
                "delimiter"
            )
    return [
        {role: line[places[role]].strip() if role in places else "" for role in columns}
        for line in lines[1:]
    ]


def _parsed(path: Path, columns: Iterable[str]) -> Table:
    """The cells of a file, the names of columns in small letters."""
    try:
        content = path.read_bytes()
        text = content.decode("utf-8-sig")  # names may hold any end of line
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as a table in UTF-8: {error}") from error
    delimiter = delimiter_of(text)
    physical = list(io.StringIO(text, newline=""))  # several where a cell holds an end of line
    reader = csv.reader(physical, delimiter=delimiter, strict=True)
    lines, begins, before = list[list[str]](), 0, 0
    try:
        for line in reader:
            if any(cell.strip() for cell in line):
                lines.append(line)
                begins = before
            before = reader.line_num
    except csv.Error as error:
        raise InputError(f"{path} cannot be read as a table: {error}") from error
    if not lines:
        raise InputError(f"{path} is empty: expected a table with columns {', '.join(columns)}")
    lines[0] = [name.strip().lower() for name in lines[0]]
    return Table(content, delimiter, lines, len("".join(physical[begins:]).encode()))


def _places(
    head: Sequence[str], path: Path, columns: Mapping[str, Sequence[str]], optional: Sequence[str]
) -> dict[str, int]:
    """The place of each column among those of a file."""
    places = {role: head.index(name) for role, name in usual(head, columns).items()}
    for role, names in columns.items():
        if role not in places and role not in optional:
            raise InputError(
                f"{path} has columns {', '.join(head)}: expected one of {', '.join(names)}; the "
                "first line names the columns"
            )
    return places


def longer(path: Path, columns: Mapping[str, Sequence[str]], row: Mapping[str, object]) -> bytes:
    """A table with one more row, in its own columns; what is there stays to the byte.

    Args:
        path: of the table.
        columns: as `read` takes them.
        row: the cells of these; other columns of the table get none.

    Raises:
        InputError: it cannot be read, or lacks a column.
    """
    table = _parsed(path, columns)
    cells: list[object] = [""] * len(table.rows[0])
    for role, place in _places(table.rows[0], path, columns, ()).items():
        cells[place] = row[role]
    end = b"" if table.content.endswith(b"\n") else table.end.encode()
    return table.content + end + rows([cells], table.delimiter, table.end)


def shorter(path: Path, columns: Mapping[str, Sequence[str]]) -> bytes:
    """A table without its last row; the others stay to the byte.

    Raises:
        InputError: it cannot be read, or has no row.
    """
    table = _parsed(path, columns)
    if len(table.rows) < 2:
        raise InputError(f"{path} has no row that could be taken back")
    return table.content[: len(table.content) - table.last]


def write(head: Sequence[str], lines: Iterable[Sequence[object]]) -> bytes:
    """A table as the bytes of a .csv."""
    return rows([head, *lines])


def rows(lines: Iterable[Sequence[object]], delimiter: str = ",", end: str = "\n") -> bytes:
    """Lines of a table as bytes."""
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator=end).writerows(lines)
    return text.getvalue().encode()
