"""The one store of edits: a log that only grows, on the disk before an edit is acknowledged.

SQLite writes the file, with its own journal and flushes (`synchronous = FULL`): what `append`
has returned survives the end of the process and of the power. Nothing in the log is ever changed;
to undo an edit, to redo one and to take one back are further lines that name it.
"""

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from maskcon.errors import InputError, TrainingError
from maskcon.runtime.files import parse_json

VERSION = 1  # of the tables
UNDO, REDO = "undo", "redo"  # kinds of lines that are about another line
LEARN = "learn"  # the kind of a line that says from where on another encoder's trees count
KINDS = ("answer", "name", "move", "merge", "split", "outlier", "coarse", "granularity")
WAIT = 10.0  # seconds for another program that looks into the file
SAYS_NOTHING = sqlite3.SQLITE_ERROR  # an error that is none of the disk or of other programs
SCHEMA = """
CREATE TABLE IF NOT EXISTS edit (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    time TEXT NOT NULL,
    kind TEXT NOT NULL,
    content TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS number (
    generation INTEGER NOT NULL,
    coarse INTEGER NOT NULL,
    node INTEGER NOT NULL,
    number INTEGER NOT NULL,
    PRIMARY KEY (generation, coarse, node)
);
CREATE TABLE IF NOT EXISTS class (
    label INTEGER PRIMARY KEY,
    name TEXT NOT NULL
);
"""
# Of groups, by index of the coarse class and node of its tree, or -1 times the edit that made one.
Numbers = dict[tuple[int, int], int]


@dataclass(frozen=True)
class Edit:
    """One line of the log.

    Attributes:
        id: 1 for the first; a later line has a higher one.
        time: when it was made, UTC, as ISO 8601 has it.
        kind: one of `KINDS`, or "undo", "redo" or "learn".
        content: what `maskcon.app.state.folded` reads of this kind; of "undo" and "redo" the
            "edit" that they are about, of "learn" the "generation".
    """

    id: int
    time: str
    kind: str
    content: Mapping[str, Any]


class Edits:
    """The log in a file, and the numbers that groups and coarse classes have.

    Args:
        path: of the file; made where there is none.
        read_only: nothing is written, and the file must be there.

    Raises:
        InputError: it is no such file, or a later version wrote it.
        TrainingError: it cannot be opened now, or not be written.
    """

    def __init__(self, path: Path, *, read_only: bool = False):
        self.path = path
        if read_only and not path.is_file():
            raise InputError(
                f"{path} cannot be used: it is not there, and is not made where nothing is written"
            )
        # a disk that cannot be written has no room for the files that readers share
        how = "?mode=ro&immutable=1" if read_only else ""
        if read_only and Path(f"{path}-wal").exists():
            how = "?mode=ro"  # lines that a killed process wrote are in the journal still
        try:
            self._connection = sqlite3.connect(
                f"file:{quote(str(path.absolute()))}{how}",
                uri=True,
                timeout=WAIT,
                isolation_level=None,
                check_same_thread=False,
            )
            version = self._connection.execute("PRAGMA user_version").fetchone()[0]
            self._check(version)
            if not read_only:
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._connection.execute("PRAGMA synchronous = FULL")
                self._connection.executescript(SCHEMA)
                self._connection.execute(f"PRAGMA user_version = {VERSION}")
            self._lines = [self._read(*row) for row in self._rows("edit", "id")]
        except sqlite3.DatabaseError as error:
            for_now = isinstance(error, sqlite3.OperationalError)
            if for_now and getattr(error, "sqlite_errorcode", SAYS_NOTHING) != SAYS_NOTHING:
                raise TrainingError(
                    f"{path} cannot be opened now: {error}; close other programs that use it, or "
                    "make room on its disk"
                ) from error
            raise InputError(
                f"{path} cannot be used: {error}; it holds the edits of a project, so bring it "
                "back from a copy"
            ) from error

    def _check(self, version: int) -> None:
        if version > VERSION:
            raise InputError(
                f"{self.path} was written by a later version of maskcon (its format is {version}, "
                f"known is {VERSION}): upgrade maskcon"
            )

    def _rows(self, table: str, by: str) -> list[tuple[Any, ...]]:
        return self._connection.execute(f"SELECT * FROM {table} ORDER BY {by}").fetchall()

    def _read(self, number: int, time: str, kind: str, content: str) -> Edit:
        try:
            return Edit(number, time, kind, parse_json(content))
        except ValueError as error:
            raise InputError(f"{self.path} is damaged: line {number} is no JSON") from error

    @property
    def lines(self) -> Sequence[Edit]:
        """All lines, in order."""
        return tuple(self._lines)

    @property
    def revision(self) -> int:
        """The id of the last line, 0 where there is none; it grows with each change."""
        return self._lines[-1].id if self._lines else 0

    def numbers(self, generation: int) -> Numbers:
        """The numbers that groups of a generation of trees were given."""
        rows = self._connection.execute(
            "SELECT coarse, node, number FROM number WHERE generation = ?", (generation,)
        )
        return {(coarse, node): number for coarse, node, number in rows}

    def classes(self) -> tuple[str, ...]:
        """The names of coarse labels by their numbers, which edits have in their place."""
        made = "SELECT 1 FROM sqlite_master WHERE name = 'class'"  # not by an earlier version
        if self._connection.execute(made).fetchone() is None:
            return ()
        return tuple(name for _, name in self._rows("class", "label"))

    def append(self, edit: Edit, generation: int, numbers: Mapping[tuple[int, int], int]) -> None:
        """Write one more line, and the numbers of groups that it brought; it is on the disk then.

        Args:
            edit: `planned` gave it its id and time.
            generation: of the trees that the numbers are of.
            numbers: of groups that had none.

        Raises:
            TrainingError: it could not be written, and there is no such edit.
        """
        text = json.dumps(edit.content, ensure_ascii=False, separators=(",", ":"))
        try:
            with self._transaction():
                self._connection.execute(
                    "INSERT INTO edit VALUES (?, ?, ?, ?)", (edit.id, edit.time, edit.kind, text)
                )
                self._put_numbers(generation, numbers)
        except sqlite3.Error as error:
            raise TrainingError(
                f"{self.path} cannot be written: {error}; nothing was changed"
            ) from error
        self._lines.append(edit)

    def number(
        self, generation: int, numbers: Mapping[tuple[int, int], int], classes: Sequence[str]
    ) -> None:
        """Keep the numbers of groups and of coarse classes.

        Args:
            generation: of the trees that the numbers are of.
            numbers: of all groups, in place of those that a process which was ended may have left.
            classes: names of coarse labels, in their order; those that are known come first.

        Raises:
            TrainingError: they could not be written.
        """
        try:
            with self._transaction():
                self._connection.execute("DELETE FROM number WHERE generation = ?", (generation,))
                self._put_numbers(generation, numbers)
                self._connection.executemany(
                    "INSERT OR IGNORE INTO class VALUES (?, ?)", enumerate(classes)
                )
        except sqlite3.Error as error:
            raise TrainingError(f"{self.path} cannot be written: {error}") from error

    def _put_numbers(self, generation: int, numbers: Mapping[tuple[int, int], int]) -> None:
        self._connection.executemany(
            "INSERT OR IGNORE INTO number VALUES (?, ?, ?, ?)",
            [(generation, coarse, node, number) for (coarse, node), number in numbers.items()],
        )

    def _transaction(self) -> "_Transaction":
        return _Transaction(self._connection)

    def planned(self, kind: str, content: Mapping[str, Any]) -> Edit:
        """The line that would be next; nothing is written."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        return Edit(self.revision + 1, now, kind, content)

    def close(self) -> None:
        """Close the file; SQLite folds its journal into it."""
        self._connection.close()


class _Transaction:
    """Whole or not at all, and flushed at the end."""

    def __init__(self, connection: sqlite3.Connection):
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self._connection.execute("COMMIT")
        finally:
            if self._connection.in_transaction:  # a full disk, too, ends a commit
                self._connection.execute("ROLLBACK")


def undone(lines: Iterable[Edit]) -> set[int]:
    """The ids of edits that do not count."""
    gone: set[int] = set()
    for line in lines:
        if line.kind == UNDO:
            gone.add(line.content["edit"])
        elif line.kind == REDO:
            gone.discard(line.content["edit"])
    return gone


def effective(lines: Sequence[Edit]) -> list[Edit]:
    """The edits that count, in order."""
    gone = undone(lines)
    return [line for line in lines if line.kind in KINDS and line.id not in gone]


def to_undo(lines: Sequence[Edit]) -> Edit | None:
    """The last edit that counts; None where there is none."""
    found = effective(lines)
    return found[-1] if found else None


def to_redo(lines: Sequence[Edit]) -> Edit | None:
    """The edit that was undone last, with none made or redone since; None where there is none."""
    back: list[int] = []
    for line in lines:
        if line.kind == UNDO:
            back.append(line.content["edit"])
        elif line.kind == REDO:
            back.remove(line.content["edit"])
        elif line.kind in KINDS:
            back.clear()
    return next((line for line in lines if back and line.id == back[-1]), None)
