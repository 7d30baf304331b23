"""The store: each picture's vector by each network, computed once and found again by its content.

A vector is found by two digests: of the picture, wherever it lies, and of all else that its numbers
depend on, the network's weights, its input and what computes it. Several programs use one store at
once. It is bounded: what was not asked for longest goes first. It may be deleted at any time.
"""

import hashlib
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from sqlite3 import Connection

import numpy as np
from torch import nn

from maskcon.model.blocks import Layered
from maskcon.model.preprocessing import Preprocessing
from maskcon.runtime import cache
from maskcon.runtime.cache import Database
from maskcon.runtime.device import Precision

FILE = "vectors.1.sqlite"  # another format has another number
TOGETHER = 4096  # vectors that are found together
LOOK = 2**26  # bytes that are added before the size is looked at again
KEPT = 0.9  # share of the limit that stays when it is passed
FRESH = 3600  # seconds in which being asked for again is not noted
SCHEMA = """
CREATE TABLE IF NOT EXISTS networks (
    identity BLOB PRIMARY KEY, name TEXT NOT NULL, width INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS vectors (id INTEGER PRIMARY KEY, vector BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS pictures (
    network BLOB NOT NULL, picture BLOB NOT NULL, vector INTEGER NOT NULL, used INTEGER NOT NULL,
    PRIMARY KEY (network, picture)
) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Source:
    """What vectors come from.

    Attributes:
        identity: a digest of all that their numbers depend on besides the picture.
        name: for people.
        width: F, of a vector.
    """

    identity: bytes
    name: str
    width: int

    @classmethod
    def of(
        cls,
        network: nn.Module,
        name: str,
        width: int,
        preprocessing: Preprocessing,
        precision: Precision,
    ) -> "Source":
        """A network of some name with what is done to its input, and what computes it."""
        digest = hashlib.blake2b(digest_size=16)
        for part, value in sorted(network.state_dict().items()):
            digest.update(part.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        layered = [part for part in network.modules() if isinstance(part, Layered)]
        blocks = tuple(name for part in layered for name in part.names)  # a vector says more of
        where = precision.name, precision.device.type
        engine = () if precision.backend == "torch" else (precision.backend,)
        digest.update(repr((name, preprocessing.digested, blocks, where, *engine)).encode())
        size, by = preprocessing.image_size, "".join(f" by {one}" for one in engine)
        name = f"{name} at {size} px, {where[0]} on {where[1]}{by}"
        return cls(digest.digest(), name, width)


@dataclass(frozen=True)
class Lot:
    """The vectors of one network in a store.

    Attributes:
        source: of them.
        pictures: their number.
        used: when one was last asked for, in seconds since 1970.
    """

    source: Source
    pictures: int
    used: int

    @property
    def bytes(self) -> int:
        """Of the vectors."""
        return 4 * self.pictures * self.source.width


class Store:
    """A store of vectors, in a folder.

    Args:
        folder: where; by default `maskcon.runtime.cache.folder`, and nothing is kept where that
            says so.
        limit: bytes, about.

    Attributes:
        trouble: why nothing is kept; None where it is.
    """

    def __init__(self, folder: str | Path | None = None, limit: int | None = None):
        self.limit = cache.limit() if limit is None else limit
        place = folder or cache.folder()
        self._database = Database(Path(place, FILE) if place else None, SCHEMA)
        self._added = LOOK

    @property
    def path(self) -> Path | None:
        """Of its file; None where nothing is kept."""
        return self._database.path

    @property
    def trouble(self) -> str | None:
        """Why nothing is kept."""
        return self._database.trouble or (None if self.limit else cache.UNWANTED)

    def find(
        self, source: Source, pictures: Sequence[bytes]
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The vectors of the pictures that are known, some at a time.

        Args:
            source: of the vectors.
            pictures: digests [N].

        Yields:
            rows of the pictures, int64 [n], and float32 [n, F].
        """
        for start in range(0, len(pictures), TOGETHER):
            keys = pictures[start : start + TOGETHER]
            found = self._found(source, {*keys})
            rows = [row for row, key in enumerate(keys, start) if key in found]
            if rows:
                yield np.array(rows), np.stack([found[pictures[row]] for row in rows])

    def _found(self, source: Source, keys: set[bytes]) -> dict[bytes, np.ndarray]:
        """The vectors of some pictures that are known, and whole."""
        if self.trouble is not None:
            return {}
        these = f"network = ? AND picture IN ({','.join('?' * len(keys))})"
        values = source.identity, *keys
        rows: list[tuple[bytes, bytes, int]] = self._database.read(
            lambda connection: connection.execute(
                "SELECT picture, vectors.vector, used FROM pictures JOIN vectors "
                f"ON vectors.id = pictures.vector WHERE {these}",
                values,
            ).fetchall(),
            [],
        )
        now = int(time.time())
        if any(used < now - FRESH for _, _, used in rows):
            self._database.write(
                lambda connection: connection.execute(
                    f"UPDATE pictures SET used = ? WHERE {these}", (now, *values)
                )
            )
        length = 4 * source.width
        return {
            key: np.frombuffer(record, "<f4", source.width)
            for key, record, _ in rows
            if len(record) > length and record == _record(source, key, record[:length])
        }

    def add(self, source: Source, pictures: Sequence[bytes], vectors: np.ndarray) -> None:
        """Keep the vectors [n, F] of some pictures."""
        if self.trouble is not None:
            return
        now, values = int(time.time()), np.ascontiguousarray(vectors, "<f4")

        def insert(connection: Connection) -> None:
            connection.execute(
                "INSERT OR IGNORE INTO networks VALUES (?, ?, ?)",
                (source.identity, source.name, source.width),
            )
            for key, value in zip(pictures, values, strict=True):
                record = _record(source, key, value.tobytes())
                there = connection.execute(
                    "SELECT vector FROM pictures WHERE network = ? AND picture = ?",
                    (source.identity, key),
                ).fetchone()
                if there is not None:  # another program was first, or what is there is spoiled
                    connection.execute(
                        "UPDATE vectors SET vector = ? WHERE id = ?", (record, there[0])
                    )
                    continue
                place = connection.execute("INSERT INTO vectors (vector) VALUES (?)", (record,))
                connection.execute(
                    "INSERT INTO pictures VALUES (?, ?, ?, ?)",
                    (source.identity, key, place.lastrowid, now),
                )

        self._database.write(insert)
        self._added += values.nbytes
        if self._added >= min(LOOK, self.limit // 10):
            self._added = 0
            self.prune(self.limit)

    def lots(self) -> list[Lot]:
        """What is there, by network: what was asked for last comes first."""
        rows: list[tuple[bytes, str, int, int, int]] = self._database.read(
            lambda connection: connection.execute(
                "SELECT identity, name, width, COUNT(*), MAX(used) AS last FROM networks "
                "JOIN pictures ON network = identity GROUP BY identity ORDER BY last DESC, identity"
            ).fetchall(),
            [],
        )
        return [Lot(Source(i, name, width), count, used) for i, name, width, count, used in rows]

    def prune(self, limit: int) -> int:
        """Keep no more than some bytes; return how many vectors have gone, the oldest first."""
        size = self._database.read(_bytes, 0)
        if size <= limit:
            return 0
        gone = 0

        def delete(connection: Connection) -> None:
            nonlocal gone
            execute = connection.execute
            (count,) = execute("SELECT COUNT(*) FROM pictures").fetchone()
            gone = count - int(count * KEPT * limit / size)
            oldest = execute(
                "SELECT network, picture, vector FROM pictures ORDER BY used, vector LIMIT ?",
                (gone,),
            ).fetchall()
            for network, picture, vector in oldest:
                execute(
                    "DELETE FROM pictures WHERE network = ? AND picture = ?", (network, picture)
                )
                execute("DELETE FROM vectors WHERE id = ?", (vector,))

        self._database.write(delete)
        self._database.shrink()
        return gone

    def clear(self) -> None:
        """Delete all of it."""
        self._database.delete()

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()


def _record(source: Source, picture: bytes, vector: bytes) -> bytes:
    """A vector with a checksum of it and of whose it is."""
    checksum = zlib.crc32(vector, zlib.crc32(source.identity + picture))
    return vector + checksum.to_bytes(4, "little")


def _bytes(connection: Connection) -> int:
    """Of what is in the tables; the room of what was deleted is used again."""
    pages, free, size = (
        int(connection.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size
