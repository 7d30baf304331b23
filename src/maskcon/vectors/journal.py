"""Vectors that are computed so far, beside a file that is not whole yet.

A line of JSON that says what they are of, then records of one length: a key that tells the picture,
its vector, and a checksum of both that depends on the first line. What a kill broke off, a loss of
power filled with zeros or another program wrote is recognised, cut away and computed again. Whoever
opens one holds the lock of the file that it is for.
"""

import contextlib
import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from maskcon.errors import InputError, TrainingError
from maskcon.runtime.files import appending, parse_json

KEY = 16  # bytes of a key
LOOK = 4096  # records that are looked at together
MARK = b'{"maskcon": "unfinished'  # how each begins, those of 0.1 too
FORMAT = "unfinished vectors, with checksums"
KEPT = "what was embedded is kept, and the same command goes on with it"


class Journal:
    """The vectors that were computed so far.

    Args:
        path: of the file; made where there is none.
        about: what they are of; a journal of something else is refused.
        width: F, of a vector.
        kind: of the numbers, such as "<f4".
        ours: the name says that the file is maskcon's, so that whatever else is there is begun
            anew, not refused.

    Attributes:
        places: where the vector of each key is.

    Raises:
        InputError: the file is of another encoder, or is no journal.
        TrainingError: it cannot be written.
    """

    def __init__(
        self, path: Path, about: dict[str, Any], width: int, kind: str = "<f4", ours: bool = False
    ):
        self.path = path
        self._record = np.dtype([("key", "u1", KEY), ("vector", kind, width), ("checksum", "<u4")])
        self.places: dict[bytes, int] = {}
        told = {"maskcon": FORMAT, "width": width, "kind": kind, **about}
        self._header = json.dumps(told).encode() + b"\n"
        self._seed = zlib.crc32(self._header)
        try:
            self._file = appending(path, size=self._whole(ours))
            if not self._file.tell():
                self._file.write(self._header)
                self._file.flush()
        except OSError as error:
            raise TrainingError(f"{path} could not be written: {error}") from error

    def _whole(self, ours: bool) -> int:
        """Bytes of the header and of the good records after it, whose keys are kept."""
        if not self.path.exists():
            return 0
        with open(self.path, "rb") as file:
            first = file.readline(2**16)
        if first != self._header:
            if not ours:
                self._refuse_others(first)
            return 0
        start = len(first)
        count = (self.path.stat().st_size - start) // self._record.itemsize
        for begin in range(0, count, LOOK):
            for place, record in enumerate(self._records(begin, min(begin + LOOK, count)), begin):
                if record["checksum"] != self._checksum(record):
                    return start + place * self._record.itemsize
                self.places[record["key"].tobytes()] = place
        return start + count * self._record.itemsize

    def _refuse_others(self, first: bytes) -> None:
        """Raise `InputError` unless the file is an earlier version's, or had no whole line yet."""
        if not first.startswith(MARK) and not MARK.startswith(first.rstrip(b"\0")):
            what = "something that is no journal of maskcon"
        elif not first.endswith(b"\n"):  # broken off before there was a vector
            return
        else:
            try:
                before, now = parse_json(first), json.loads(self._header)
            except ValueError:
                return
            if before.get("maskcon") != FORMAT:
                return
            differs = [name for name, value in now.items() if before.get(name) != value]
            what = ", ".join(f"{name} {before.get(name)}" for name in differs)
        raise InputError(
            f"{self.path} was begun with {what}; the encoder is now another: delete it to "
            "start anew, or give another --out"
        )

    def _checksum(self, record: np.void) -> int:
        return zlib.crc32(record.tobytes()[:-4], self._seed)

    def _records(self, first: int, end: int) -> np.ndarray:
        offset = len(self._header) + first * self._record.itemsize
        return np.fromfile(self.path, self._record, count=end - first, offset=offset)

    def add(self, keys: Sequence[bytes], vectors: np.ndarray) -> None:
        """Write some vectors [n, F] with their keys; they are in the system's hands afterwards.

        Raises:
            InputError: one is not finite.
            TrainingError: the disk is full.
        """
        if not np.isfinite(vectors).all():
            raise InputError("a vector is not finite: the encoder has diverged; train it anew")
        records = np.zeros(len(keys), self._record)
        records["key"] = np.frombuffer(b"".join(keys), np.uint8).reshape(-1, KEY)
        records["vector"] = vectors
        records["checksum"] = [self._checksum(record) for record in records]
        first = (self._file.tell() - len(self._header)) // self._record.itemsize
        try:
            self._file.write(records.tobytes())
            self._file.flush()
        except OSError as error:
            raise TrainingError(
                f"{self.path} could not be written: {error}; make room for it: {KEPT}"
            ) from error
        self.places.update((key, first + i) for i, key in enumerate(keys))

    def vectors(self, places: np.ndarray) -> np.ndarray:
        """The vectors at some places [n, F]; memory is that of these, not of all."""
        kind, shape = self._record["vector"].subdtype or (np.dtype("<f4"), (0,))
        if not len(places):
            return np.empty((0, *shape), kind)
        first, end = int(places.min()), int(places.max()) + 1
        if end - first <= 2 * len(places):
            return self._records(first, end)["vector"][places - first]
        records = np.memmap(self.path, self._record, "r", offset=len(self._header))
        return np.array(records["vector"][places])

    def close(self, *, delete: bool = False) -> None:
        """End it; delete the file where what it was for is written."""
        with contextlib.suppress(OSError):  # of a full disk, which `add` has told
            self._file.close()
        if delete:
            self.path.unlink(missing_ok=True)
