"""What can be computed again: where it is kept, in databases that several programs share.

SQLite writes these files itself, with its own journal, locks and flushes, which are made for many
small changes by several programs; so they are the ones that `files` does not write. Nothing that
goes wrong with one is an error: what it knew is computed again, and this process does without it.
"""

import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from maskcon.errors import InputError
from maskcon.runtime import files

FOLDER, LIMIT = "MASKCON_VECTORS", "MASKCON_VECTORS_GB"  # names of environment variables
NOWHERE = "none"
UNWANTED = f"{FOLDER} is {NOWHERE}, or {LIMIT} is 0"  # a trouble that nobody need be told of
GIGABYTES = 10.0  # by default
WAIT = 60.0  # seconds for another program's change, each of which takes milliseconds
PAGE = 16384  # bytes; several thousand numbers of a row lie side by side
SPOILED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_T = TypeVar("_T")


def folder() -> Path | None:
    """Where: $MASKCON_VECTORS, or ~/.cache/maskcon/vectors; None where that is "none"."""
    given = os.environ.get(FOLDER, "")
    if given == NOWHERE:
        return None
    return Path(given).expanduser() if given else Path.home() / ".cache" / "maskcon" / "vectors"


def limit() -> int:
    """Bytes that are kept, about: $MASKCON_VECTORS_GB, in gigabytes.

    Raises:
        InputError: it is no number.
    """
    given = os.environ.get(LIMIT, "")
    try:
        gigabytes = float(given) if given else GIGABYTES
        if not 0 <= gigabytes < 1e9:
            raise ValueError
    except ValueError:
        raise InputError(
            f"{LIMIT} is {given!r}: expected gigabytes, such as 20; 0 keeps nothing"
        ) from None
    return int(gigabytes * 1e9)


class Database:
    """A SQLite file, whose connection the threads of a process share.

    Args:
        path: of the file; made, with its folder, where there is none. None where nothing is to be
            kept.
        schema: the statements that make its tables.

    Attributes:
        path: of the file, or None.
        trouble: why it is not used any more; None while it is.
    """

    def __init__(self, path: Path | None, schema: str):
        self.path, self.trouble = path, UNWANTED if path is None else None
        self._schema, self._lock = schema, threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._process = 0

    def read(self, work: Callable[[sqlite3.Connection], _T], otherwise: _T) -> _T:
        """What some reading returns; something else where the database cannot be used."""
        return self._tried(work, otherwise, "DEFERRED")

    def write(self, work: Callable[[sqlite3.Connection], object]) -> None:
        """Make a change, whole or not at all."""
        self._tried(work, None, "IMMEDIATE")

    def _tried(self, work: Callable[[sqlite3.Connection], _T], otherwise: _T, how: str) -> _T:
        with self._lock:
            if self.trouble is not None:
                return otherwise
            try:
                connection = self._opened()
                connection.execute(f"BEGIN {how}")
                try:
                    result = work(connection)
                    connection.execute("COMMIT")
                except BaseException:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    raise
                return result
            except (sqlite3.Error, OSError) as error:
                self._failed(error)
                return otherwise

    def _opened(self) -> sqlite3.Connection:
        """The connection; a process that was forked has one of its own."""
        assert self.path is not None
        if self._connection is None or self._process != os.getpid():
            files.make_folder(self.path.parent)
            connection = sqlite3.connect(
                self.path, timeout=WAIT, isolation_level=None, check_same_thread=False
            )
            connection.execute(f"PRAGMA page_size = {PAGE}")
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("PRAGMA journal_mode = WAL")  # or what its file system can
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.executescript(self._schema)
            self._connection, self._process = connection, os.getpid()
        return self._connection

    def _failed(self, error: Exception) -> None:
        """Begin anew where the file is spoiled; else do without it."""
        self.close()
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in SPOILED:
            with contextlib.suppress(Exception):
                self.delete()
                return
        self.trouble = f"{self.path} cannot be used: {error}"

    def delete(self) -> None:
        """Delete the file, and what SQLite keeps beside it."""
        if self.path is None:
            return
        with self._lock:
            self.close()
            with files.locked(self.path, wait=WAIT):
                for path in (self.path, *(Path(f"{self.path}-{end}") for end in ("wal", "shm"))):
                    path.unlink(missing_ok=True)

    def shrink(self) -> None:
        """Give the room of what was deleted back to the disk."""
        with self._lock, contextlib.suppress(sqlite3.Error, OSError):
            if self.trouble is None:
                connection = self._opened()
                connection.executescript("PRAGMA incremental_vacuum")  # `execute` takes one step
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next use opens one."""
        with self._lock:
            if self._connection is not None and self._process == os.getpid():
                with contextlib.suppress(sqlite3.Error):
                    self._connection.close()
            self._connection = None
