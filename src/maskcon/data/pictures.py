"""Pictures of any size and kind, wherever they lie: files, parts of one file, arrays.

None of them keeps a picture in memory that nobody asked for. `image_file` turns the bytes of an
image file into RGB; the classes below know where the bytes are.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from maskcon.config import Config
from maskcon.data import image_file
from maskcon.data.known import Fact, Known
from maskcon.errors import InputError

_T = TypeVar("_T")


class Pictures(ABC):
    """Pictures in rows. Reading one raises `InputError` where it cannot be read.

    A kind of pictures says what is abstract here; the rest follows, and is said anew where more is
    known, as of files, or of pictures that others hold.
    """

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def name(self, row: int) -> str:
        """What to call the picture in front of people: its path, or its row in a file."""

    @abstractmethod
    def size(self, row: int) -> tuple[int, int]:
        """Height and width as it is seen, from its header alone."""

    @abstractmethod
    def decode(self, row: int, reduce: int = 1) -> np.ndarray:
        """RGB, uint8 [H, W, 3]; perhaps smaller by up to `reduce` (1, 2, 4 or 8), if cheaper."""

    @abstractmethod
    def digest(self, row: int) -> bytes:
        """Tells different contents apart, without decoding them."""

    @abstractmethod
    def length(self, row: int) -> int:
        """In bytes, as `digest` reads it: equal contents are equally long. 0 if it is not there."""

    @abstractmethod
    def kind(self, row: int) -> str:
        """Format and mode for people, such as "JPEG RGB"."""

    def take(self, rows: np.ndarray) -> "Pictures":
        """Some rows, in an order of their own; memory is not copied, but for arrays of one size."""
        return Chosen(self, rows)

    def look(self, row: int) -> tuple[tuple[int, int], bytes]:
        """Height and width, and the digest, of a picture that can be decoded.

        It is decoded, as small as is cheap, unless it is known from before that it can be.
        """
        self.decode(row, reduce=8)
        return self.size(row), self.digest(row)

    def path(self, row: int) -> str | None:
        """Of a picture that is a file of its own; None elsewhere."""
        return None

    def read_from(self) -> Iterable[str]:
        """Those that the pictures are read from; arrays and packs have none of their own."""
        return ()

    def settle(self, max_pixels: int, known: Known | None = None) -> None:  # noqa: B027 - nothing
        """Say how pictures in image files are read.

        Args:
            max_pixels: that one of them may have.
            known: what is known of files from before.
        """

    def limit_told(self) -> bytes:
        """What digests of image files lack to tell pixels: the limit that they are decoded with.

        A JPEG of more pixels is decoded at a part of its size, and a vector of it is another one
        than under a larger limit. Nothing is added for the usual limit. Under another one all
        pictures count as others, also those below both: which they are their headers alone would
        tell, and whoever finds a vector by what is known of a file opens none.
        """
        return b""

    def gathered(self, what: "Gathering[_T]") -> _T | None:
        """What pictures have, from those that they are made of; None where some have none."""
        return what.own(self)


@dataclass(frozen=True)
class Gathering(Generic[_T]):
    """How something that goes with pictures follows them, as they are chosen and joined.

    Attributes:
        own: what pictures have of it that hold no others; None is nothing.
        take: some rows of it.
        join: one after the other.
    """

    own: Callable[[Pictures], _T | None]
    take: Callable[[_T, np.ndarray], _T]
    join: Callable[[list[_T]], _T]


class Encoded(Pictures):
    """What the pictures in image files have in common; subclasses say where the bytes are.

    Attributes:
        max_pixels: of a picture that is decoded.
    """

    max_pixels = Config.max_pixels

    @abstractmethod
    def _content(self, row: int) -> Path | bytes: ...

    def size(self, row: int) -> tuple[int, int]:
        """Height and width as it is seen, from its header alone."""
        return image_file.size(self._content(row), self.name(row))

    def decode(self, row: int, reduce: int = 1) -> np.ndarray:
        """RGB, uint8 [H, W, 3]; a JPEG perhaps at 1/reduce of its size."""
        return image_file.decode(self._content(row), self.name(row), reduce, self.max_pixels)

    def digest(self, row: int) -> bytes:
        """Hash of the file's bytes."""
        return image_file.digest(self._content(row), self.name(row))

    def length(self, row: int) -> int:
        """Of the file."""
        content = self._content(row)
        try:
            return content.stat().st_size if isinstance(content, Path) else len(content)
        except (OSError, ValueError):
            return 0

    def kind(self, row: int) -> str:
        """Format and mode, such as "JPEG RGB"."""
        return image_file.kind(self._content(row), self.name(row))

    def settle(self, max_pixels: int, known: Known | None = None) -> None:
        """Bound the pixels of a picture."""
        self.max_pixels = max_pixels

    def limit_told(self) -> bytes:
        """The limit, where it is not the usual one."""
        usual = self.max_pixels == Config.max_pixels
        return b"" if usual else f" of {self.max_pixels}".encode()


class Files(Encoded):
    """Image files.

    Args:
        paths: of the files, in order.

    Attributes:
        known: what is known of files from before; None is nothing.
    """

    known: Known | None = None

    def __init__(self, paths: Sequence[str | Path]):
        self.paths = [str(path) for path in paths]
        try:
            "\n".join(self.paths).encode()
        except UnicodeEncodeError:
            odd = next(
                p
                for p in self.paths
                if not p.isprintable() and p != p.encode(errors="replace").decode()
            )
            raise InputError(f"the name of {odd!r} is no UTF-8: rename it") from None

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, row: int) -> str:
        """The path."""
        return self.paths[row]

    def __getstate__(self) -> dict[str, Any]:  # a loader's process decodes, and asks nothing else
        return {**self.__dict__, "known": None}

    def _content(self, row: int) -> Path:
        return Path(self.paths[row])

    def digest(self, row: int) -> bytes:
        """Hash of the file's bytes."""
        return self._fact(row).digest

    def look(self, row: int) -> tuple[tuple[int, int], bytes]:
        """Of a file that is known from before to be a picture nothing is read."""
        fact = self._fact(row, decoded=True)
        assert fact.size is not None
        return fact.size, fact.digest

    def path(self, row: int) -> str:
        """Absolute; links stay as they are."""
        return os.path.abspath(self.paths[row])  # noqa: PTH100 - `resolve` follows them

    def read_from(self) -> Iterable[str]:
        """All of them."""
        return self.paths

    def settle(self, max_pixels: int, known: Known | None = None) -> None:
        """Bound the pixels of a picture, and take what is known of files."""
        super().settle(max_pixels, known)
        self.known = known

    def _fact(self, row: int, *, decoded: bool = False) -> Fact:
        """What is known of a file, or what is seen now; with its size where it is to be decoded."""
        path, now = self.paths[row], None
        if self.known is not None:
            with suppress(OSError, ValueError):
                now = Path(path).stat()
        found = None if self.known is None or now is None else self.known.find(path, now)
        if found is not None and not decoded:
            return found
        size = None if found is None else found.size
        if found is not None and size is not None and size[0] * size[1] <= self.max_pixels:
            return found
        if decoded:
            self.decode(row, 8)
            size = self.size(row)
        fact = Fact(super().digest(row), size)
        if self.known is not None and now is not None:
            self.known.note(path, now, fact)
        return fact


class Slices(Encoded):
    """Image files that lie inside of one or more larger files.

    Args:
        files: the larger files.
        file: index of each picture's file [N].
        start, length: where its bytes are [N].
        sources: what people know the files as, such as the paths of the shards.
        owner: something to keep alive as long as the files are needed.
    """

    def __init__(
        self,
        files: Sequence[Path],
        file: np.ndarray,
        start: np.ndarray,
        length: np.ndarray,
        sources: Sequence[str],
        owner: Any = None,
    ):
        self.files, self.file, self.start, self.lengths = list(files), file, start, length
        self.sources, self._owner = list(sources), owner
        self._first = np.searchsorted(file, np.arange(len(self.files)))  # row of each file

    def __len__(self) -> int:
        return len(self.start)

    def name(self, row: int) -> str:
        """The row, and where."""
        file = self.file[row]
        return f"row {row - self._first[file]} of {self.sources[file]}"

    def __getstate__(self) -> dict[str, Any]:  # a loader's process needs the place, not the owner
        return {**self.__dict__, "_owner": None}

    def length(self, row: int) -> int:
        """Of its bytes."""
        return int(self.lengths[row])

    def read_from(self) -> Iterable[str]:
        """The larger files, as people know them."""
        return self.sources

    def _content(self, row: int) -> bytes:
        with (
            image_file.reading(self.name(row), b""),
            open(self.files[self.file[row]], "rb") as file,
        ):
            file.seek(int(self.start[row]))
            return file.read(int(self.lengths[row]))


class Arrays(Pictures):
    """Pictures that are arrays already.

    Args:
        images: uint8 [N, 3, H, W], or a sequence of uint8 [H, W, 3] of any sizes.
        source: what people know them as.
    """

    def __init__(self, images: Tensor | Sequence[np.ndarray], source: str = "the array"):
        self.images, self.source = images, source

    def __len__(self) -> int:
        return len(self.images)

    def name(self, row: int) -> str:
        """The row, and where."""
        return f"image {row} of {self.source}"

    def size(self, row: int) -> tuple[int, int]:
        """Height and width."""
        shape = self.images[row].shape
        height, width = shape[1:] if isinstance(self.images, Tensor) else shape[:2]
        return int(height), int(width)

    def decode(self, row: int, reduce: int = 1) -> np.ndarray:
        """The array, uint8 [H, W, 3], in full size."""
        image = self.images[row]
        if isinstance(image, Tensor):
            return image.permute(1, 2, 0).contiguous().numpy()
        return np.ascontiguousarray(image)

    def digest(self, row: int) -> bytes:
        """Hash of the pixels."""
        return image_file.content_hash(self.decode(row))

    def length(self, row: int) -> int:
        """Of the pixels."""
        height, width = self.size(row)
        return height * width * 3

    def kind(self, row: int) -> str:
        """All are arrays."""
        return "array RGB"

    def take(self, rows: np.ndarray) -> Pictures:
        """Some rows; of arrays of one size a copy."""
        if not isinstance(self.images, Tensor):
            return super().take(rows)
        return Arrays(self.images[torch.from_numpy(rows)], self.source)


class Elsewhere(Pictures):
    """What pictures that other pictures hold have in common; subclasses say which and where."""

    @abstractmethod
    def _parts(self) -> Sequence[Pictures]:
        """Those that hold them."""

    @abstractmethod
    def _at(self, row: int) -> tuple[Pictures, int]:
        """The one of these that holds a row, and its row there."""

    def name(self, row: int) -> str:
        """The name among the others."""
        pictures, own = self._at(row)
        return pictures.name(own)

    def size(self, row: int) -> tuple[int, int]:
        """Height and width."""
        pictures, own = self._at(row)
        return pictures.size(own)

    def decode(self, row: int, reduce: int = 1) -> np.ndarray:
        """RGB, uint8 [H, W, 3]."""
        pictures, own = self._at(row)
        return pictures.decode(own, reduce)

    def digest(self, row: int) -> bytes:
        """Tells different contents apart."""
        pictures, own = self._at(row)
        return pictures.digest(own)

    def length(self, row: int) -> int:
        """In bytes."""
        pictures, own = self._at(row)
        return pictures.length(own)

    def kind(self, row: int) -> str:
        """Format and mode."""
        pictures, own = self._at(row)
        return pictures.kind(own)

    def look(self, row: int) -> tuple[tuple[int, int], bytes]:
        """Height and width, and the digest."""
        pictures, own = self._at(row)
        return pictures.look(own)

    def path(self, row: int) -> str | None:
        """Of a picture that is a file."""
        pictures, own = self._at(row)
        return pictures.path(own)

    def read_from(self) -> Iterable[str]:
        """Those of all that hold them."""
        return chain.from_iterable(part.read_from() for part in self._parts())

    def settle(self, max_pixels: int, known: Known | None = None) -> None:
        """Say it to all that hold them."""
        for part in self._parts():
            part.settle(max_pixels, known)

    def limit_told(self) -> bytes:
        """That of the first, since all are settled together."""
        return self._at(0)[0].limit_told() if len(self) else b""


class Chosen(Elsewhere):
    """Some rows of other pictures, in an order of their own."""

    def __init__(self, pictures: Pictures, rows: np.ndarray):
        self.pictures, self.rows = pictures, rows

    def __len__(self) -> int:
        return len(self.rows)

    def _parts(self) -> Sequence[Pictures]:
        return [self.pictures]

    def _at(self, row: int) -> tuple[Pictures, int]:
        return self.pictures, int(self.rows[row])

    def take(self, rows: np.ndarray) -> Pictures:
        """Some of the rows."""
        return Chosen(self.pictures, self.rows[rows])

    def gathered(self, what: "Gathering[_T]") -> _T | None:
        """The rows of what the others have."""
        whole = self.pictures.gathered(what)
        return None if whole is None else what.take(whole, self.rows)


class Joined(Elsewhere):
    """Several lots of pictures, one after the other."""

    def __init__(self, lots: Sequence[Pictures]):
        self.lots = lots
        self.starts = np.cumsum([0, *map(len, lots)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def _parts(self) -> Sequence[Pictures]:
        return self.lots

    def _at(self, row: int) -> tuple[Pictures, int]:
        lot = int(np.searchsorted(self.starts, row, side="right")) - 1
        return self.lots[lot], row - int(self.starts[lot])

    def gathered(self, what: "Gathering[_T]") -> _T | None:
        """What all lots have."""
        lots = [lot.gathered(what) for lot in self.lots]
        there = [lot for lot in lots if lot is not None]
        return what.join(there) if there and len(there) == len(lots) else None
