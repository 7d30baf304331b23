"""What is known of image files from before, where nothing says that they have changed since.

As git does, a file is taken to be what it was where its length and its times are the same. Its
digest need not be made again then, nor the file decoded to see whether it can be.
"""

import contextlib
import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path

from maskcon.runtime import cache
from maskcon.runtime.cache import Database

FILE = "files.1.sqlite"  # another format has another number
FRESH = 2.0  # seconds in which a file may change again within one tick of its times
SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    path TEXT PRIMARY KEY, length INTEGER NOT NULL, modified INTEGER NOT NULL,
    changed INTEGER NOT NULL, digest BLOB NOT NULL, height INTEGER, width INTEGER
) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Fact:
    """What is known of a file.

    Attributes:
        digest: of its bytes.
        size: height and width as the picture is seen; None where it was not decoded yet.
    """

    digest: bytes
    size: tuple[int, int] | None


class Known:
    """What commands know of files from before, beside the vectors that they keep.

    Args:
        trusted: whether length and times tell that a file is what it was; else each is read
            again.
    """

    def __init__(self, *, trusted: bool = True):
        self._trusted = trusted
        place = cache.folder()
        self._database = Database(place / FILE if place else None, SCHEMA)

    def find(self, path: str, now: os.stat_result) -> Fact | None:
        """What is known of a file, whose state is as given; None where that is another one."""
        if not self._trusted:
            return None
        row = self._database.read(
            lambda connection: connection.execute(
                "SELECT digest, height, width FROM files "
                "WHERE path = ? AND length = ? AND modified = ? AND changed = ?",
                (_name(path), *_state(now)),
            ).fetchone(),
            None,
        )
        if row is None:
            return None
        digest, height, width = row
        return Fact(digest, None if height is None else (height, width))

    def note(self, path: str, before: os.stat_result, fact: Fact) -> None:
        """Remember a fact of a file, whose state was as given before it was read."""
        if time.time() - max(before.st_mtime, before.st_ctime) < FRESH:
            return
        size = fact.size or (None, None)
        self._database.write(
            lambda connection: connection.execute(
                "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?)",
                (_name(path), *_state(before), fact.digest, *size),
            )
        )

    def clear(self) -> None:
        """Delete all of it."""
        with contextlib.suppress(FileNotFoundError):
            self._database.delete()


def _name(path: str) -> str:
    return os.path.abspath(path)  # noqa: PTH100 - links stay as they are


def stamp(path: str) -> str | None:
    """Length in bytes and time of change in ns of a file, as text; None where there is none."""
    try:
        now = Path(path).stat()
    except (OSError, ValueError):
        return None
    return f"{now.st_size} {now.st_mtime_ns}" if stat.S_ISREG(now.st_mode) else None


def _state(now: os.stat_result) -> tuple[int, int, int]:
    return now.st_size, now.st_mtime_ns, now.st_ctime_ns
