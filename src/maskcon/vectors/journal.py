"""What is embedded so far, beside a file of embeddings that is not whole yet.

A line of JSON that says which encoder, then records of one length: a key that tells the picture,
and its vector. A record that was broken off is cut away, so that killing a command costs no more
than the batch it was at.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from maskcon.data.pictures import Pictures
from maskcon.errors import InputError, TrainingError
from maskcon.runtime.files import appending, parse_json

KEY = 16  # bytes of a key
LOOK = 4096  # records that are looked at together


def key_of(pictures: Pictures, row: int) -> bytes:
    """Tells a picture from others: its name, and its file's size and time, or its content.

    Files are not read, so that going on with many costs little. A picture that cannot be read has
    a key, too.
    """
    name = pictures.name(row)
    try:
        there = Path(name).stat()
        mark = f"{there.st_size} {there.st_mtime_ns}".encode()
    except (OSError, ValueError):
        try:
            mark = pictures.digest(row)
        except InputError:
            mark = b""
    return hashlib.blake2b(name.encode() + b"\0" + mark, digest_size=KEY).digest()


class Journal:
    """The vectors that were embedded so far.

    Args:
        path: of the file; made where there is none.
        encoder: what tells the encoder from others; one that differs is refused.
        width: F, of a vector.

    Attributes:
        places: where the vector of each key is.

    Raises:
        InputError: the file is of another encoder, or is no journal.
        TrainingError: it cannot be written.
    """

    def __init__(self, path: Path, encoder: dict[str, Any], width: int):
        self.path = path
        self._record = np.dtype([("key", "u1", KEY), ("vector", "<f4", width)])
        self.places: dict[bytes, int] = {}
        header = json.dumps({"maskcon": "unfinished embeddings", "width": width, **encoder}) + "\n"
        self._start = len(header.encode())
        try:
            if path.exists():
                self._check(header)
            self._file = appending(path, size=self._whole(), buffering=0)
            if not self._file.tell():
                self._file.write(header.encode())
        except OSError as error:
            raise TrainingError(f"{path} could not be written: {error}") from error

    def _check(self, header: str) -> None:
        with open(self.path, "rb") as file:
            first = file.readline(2**16)
        if not first.endswith(b"\n"):  # broken off before there was a vector
            appending(self.path, size=0).close()
        elif first != header.encode():
            try:
                before = parse_json(first)
                differs = [n for n, v in json.loads(header).items() if before.get(n) != v]
                what = ", ".join(f"{n} {before.get(n)}" for n in differs)
            except (ValueError, AttributeError):
                what = "something that is no journal of maskcon"
            raise InputError(
                f"{self.path} was begun with {what}; the encoder is now another: delete it to "
                "start anew, or give another --out"
            )

    def _whole(self) -> int:
        """Bytes of whole records, the header's with them; their keys are kept.

        After a loss of power the end of a file may be zeros: vectors of no length are cut away.
        """
        size = self.path.stat().st_size if self.path.exists() else 0
        count = max(0, size - self._start) // self._record.itemsize
        for first in range(0, count, LOOK):
            records = self._records(first, min(first + LOOK, count))
            unit = np.abs(np.linalg.norm(records["vector"], axis=1) - 1) < 0.01
            good = len(records) if unit.all() else int(unit.argmin())
            keys = records["key"][:good].tobytes()
            for place in range(good):
                self.places[keys[place * KEY : (place + 1) * KEY]] = first + place
            if good < len(records):
                count = first + good
                break
        return self._start + count * self._record.itemsize if size >= self._start else 0

    def _records(self, first: int, end: int) -> np.ndarray:
        offset = self._start + first * self._record.itemsize
        return np.fromfile(self.path, self._record, count=end - first, offset=offset)

    def add(self, keys: Sequence[bytes], vectors: np.ndarray) -> None:
        """Write some vectors [n, F] with their keys; they are in the system's hands afterwards.

        Raises:
            InputError: one is not finite.
            TrainingError: the disk is full.
        """
        if not np.isfinite(vectors).all():
            raise InputError("a vector is not finite: the encoder has diverged; train it anew")
        records = np.empty(len(keys), self._record)
        records["key"] = np.frombuffer(b"".join(keys), np.uint8).reshape(-1, KEY)
        records["vector"] = vectors
        first = (self._file.tell() - self._start) // self._record.itemsize
        try:
            self._file.write(records.tobytes())
        except OSError as error:
            raise TrainingError(
                f"{self.path} could not be written: {error}; type the command again to go on"
            ) from error
        self.places.update((key, first + i) for i, key in enumerate(keys))

    def vectors(self, places: np.ndarray) -> np.ndarray:
        """The vectors at some places, float32 [n, F]; memory is that of these, not of all."""
        if not len(places):
            return np.empty((0, self._record["vector"].shape[0]), np.float32)
        first, end = int(places.min()), int(places.max()) + 1
        if end - first <= 2 * len(places):
            return self._records(first, end)["vector"][places - first]
        records = np.memmap(self.path, self._record, "r", offset=self._start)
        return np.array(records["vector"][places])

    def close(self, *, delete: bool = False) -> None:
        """End it; delete the file where what it was for is written."""
        self._file.close()
        if delete:
            self.path.unlink(missing_ok=True)
