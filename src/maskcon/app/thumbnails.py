"""Pictures by their number, small and large; one that was deleted or changed is told as that."""

import asyncio
import contextlib
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from starlette.responses import Response

from maskcon.app.operations import Asked, Operation, Refused, Schema
from maskcon.data.image_file import content_hash
from maskcon.data.pictures import Files, Joined, Pictures
from maskcon.data.thumbnails import thumbnail
from maskcon.errors import InputError
from maskcon.search.index import Index

SIZES = (64, 128, 256)  # sides of a thumbnail in pixels
LARGEST = 2048  # of a picture
KEPT = 64 * 2**20  # bytes of JPEG that are kept in memory
THREADS = 2  # that decode
STATES = HERE, MISSING, CHANGED = "here", "missing", "changed"
ID: Schema = {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}


class Photos:
    """The photographs of an index, by their rows.

    No name that a client sends is ever opened: the files are those of the index.

    Args:
        index: of them.
        there: where those that are no files of their own are found, by their names; the others
            are shown as the index keeps them.

    Attributes:
        names: what each is called: its path below the folder that all of them are in.
    """

    def __init__(self, index: Index, there: Pictures | None = None):
        paths = index.rows["path"].to_pylist()
        self.files, self.names = Files(paths), below(paths)
        self._there = Joined([]) if there is None else there
        place = {self._there.name(row): row for row in range(len(self._there))}
        self._place = {r: place[n] for r, n in enumerate(paths) if n in place and not _is_file(n)}
        self._digests, self._small = index.rows["digest"], index.rows["thumbnail"]
        self._states: dict[tuple[int, int, int], str] = {}
        self._made: OrderedDict[tuple[int, int, int, int], bytes] = OrderedDict()
        self._bytes, self._lock = 0, threading.Lock()
        self._threads = ThreadPoolExecutor(THREADS, "thumbnails")

    def __len__(self) -> int:
        return len(self.files)

    def check(self, row: int) -> int:
        """A row that there is.

        Raises:
            Refused: there is none such.
        """
        if not 0 <= row < len(self):
            raise Refused(404, f"there is no picture {row}: expected 0 to {len(self) - 1}")
        return row

    def state(self, row: int) -> str:
        """Whether a picture is "here", "missing", or "changed" since it was put into the index.

        One that lies in a table that cannot be seen is as the index knows it. A picture of which
        it is not known yet is decoded; ask in a thread.
        """
        stamp = self._stamp(row)
        if stamp is None:
            return MISSING if _is_file(self.files.paths[row]) else HERE
        if (row, *stamp) not in self._states:
            with contextlib.suppress(InputError):
                self._look(row, stamp)
        return self._states[row, *stamp]

    async def seen(self, row: int) -> str:
        """The same in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.state, row)

    async def jpeg(self, row: int, side: int) -> tuple[bytes, str]:
        """A picture as JPEG, its longer side `side` pixels at most, and its state.

        Raises:
            Refused: it is missing, or cannot be read any more.
        """
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, self._jpeg, row, side
        )

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(cancel_futures=True)

    def _jpeg(self, row: int, side: int) -> tuple[bytes, str]:
        kept, stamp = self._small[row].as_py(), self._stamp(row)
        if stamp is None:
            if kept is None or _is_file(self.files.paths[row]):
                raise Refused(404, f"the file of picture {row}, {self.names[row]}, is not there")
            return kept, HERE
        key = (row, side, *stamp)
        with self._lock:
            if key in self._made:
                self._made.move_to_end(key)
                return self._made[key], self._states[row, *stamp]
        if side == SIZES[0] and kept is not None and self._states.get((row, *stamp)) == HERE:
            return kept, HERE
        try:
            picture = self._look(row, stamp)
        except InputError as error:
            if kept is not None and row in self._place:
                return kept, CHANGED
            raise Refused(404, f"picture {row}, {self.names[row]}: {error}") from error
        made = thumbnail(picture, side)
        self._keep(key, made)
        return made, self._states[row, *stamp]

    def _look(self, row: int, stamp: tuple[int, int]) -> np.ndarray:
        """A picture decoded, and its state noted.

        Raises:
            InputError: it cannot be read, and so has changed.
        """
        before = self._digests[row].as_py()
        try:
            place = self._place.get(row)
            picture = self.files.decode(row) if place is None else self._there.decode(place)
        except InputError:
            self._states[row, *stamp] = CHANGED
            raise
        same = before is None or content_hash(picture) == before
        self._states[row, *stamp] = HERE if same else CHANGED
        return picture

    def _keep(self, key: tuple[int, int, int, int], made: bytes) -> None:
        with self._lock:
            if key not in self._made:
                self._bytes += len(made)
            self._made[key] = made
            while self._bytes > KEPT:
                self._bytes -= len(self._made.popitem(last=False)[1])

    def _stamp(self, row: int) -> tuple[int, int] | None:
        """Size and time of a file; None where there is none; 0 of what lies in a table."""
        if row in self._place:
            return 0, 0
        try:
            now = Path(self.files.paths[row]).stat()
        except (OSError, ValueError):
            return None
        return now.st_size, now.st_mtime_ns


def _is_file(name: str) -> bool:
    """Whether the name of a picture is a path, and not a place in a table."""
    return Path(name).is_absolute()


def below(paths: Sequence[str]) -> list[str]:
    """Paths without the folder that all of them are in."""
    absolute = [path for path in paths if Path(path).is_absolute()]
    if len(absolute) < len(paths) or not paths:
        return list(paths)
    folder = os.path.commonpath([os.path.dirname(path) for path in paths])  # noqa: PTH120
    return [os.path.relpath(path, folder) for path in paths]


def operations(photos: Photos) -> list[Operation]:
    """What can be asked of photographs."""

    async def small(asked: Asked) -> Response:
        return await _shown(photos, asked.values["id"], asked.values["size"])

    async def large(asked: Asked) -> Response:
        return await _shown(photos, asked.values["id"], LARGEST)

    size: Schema = {"type": "integer", "enum": list(SIZES), "default": SIZES[1]}
    jpeg = ("image/jpeg", {"type": "string", "contentMediaType": "image/jpeg"})
    return [
        Operation(
            "GET",
            "/thumb/{id}",
            "a picture as a small JPEG",
            small,
            {"id": ID, "size": size},
            answer=jpeg,
            refusals=(404,),
        ),
        Operation(
            "GET",
            "/picture/{id}",
            f"a picture as JPEG, uncropped, at most {LARGEST} pixels wide and high",
            large,
            {"id": ID},
            answer=jpeg,
            refusals=(404,),
        ),
    ]


async def _shown(photos: Photos, row: int, side: int) -> Response:
    made, state = await photos.jpeg(photos.check(row), side)
    kept = f"private, max-age={60 if state == HERE else 0}"
    return Response(
        made, media_type="image/jpeg", headers={"Cache-Control": kept, "Photo-State": state}
    )
