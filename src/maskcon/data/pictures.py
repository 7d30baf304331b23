"""Pictures of any size and kind, wherever they lie: files, parts of one file, arrays.

`decode` turns the bytes of one image file into RGB; the classes below know where the bytes
are. None of them keeps a picture in memory that nobody asked for.
"""

import hashlib
import os
import stat
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from maskcon.errors import InputError

MAX_PIXELS = 89_000_000  # of one picture; a little below where Pillow suspects a bomb
SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".jp2")
)
# What is decoded, whatever a file is called. Pillow knows more formats, and for some of them it
# starts another program (Ghostscript, for EPS) on what the file says.
FORMATS = frozenset(
    {
        *("AVIF", "BMP", "DIB", "GIF", "ICO", "JPEG", "JPEG2000"),
        *("MPO", "PCX", "PNG", "PPM", "TGA", "TIFF", "WEBP"),
    }
)
_ORIENTATION = 0x0112  # EXIF; 5 to 8 lie on their side
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # refused below


class Pictures(Protocol):
    """Pictures in rows. Reading one raises `InputError` where it cannot be read."""

    def __len__(self) -> int: ...

    def name(self, row: int) -> str:
        """What to call the picture in front of people: its path, or its row in a file."""
        ...

    def size(self, row: int) -> tuple[int, int]:
        """Height and width as it is seen, from its header alone."""
        ...

    def decode(self, row: int, reduce: int = 1) -> np.ndarray:
        """RGB, uint8 [H, W, 3]; perhaps smaller by up to `reduce` (1, 2, 4 or 8), if cheaper."""
        ...

    def digest(self, row: int) -> bytes:
        """Tells different contents apart, without decoding them."""
        ...

    def kind(self, row: int) -> str:
        """Format and mode for people, such as "JPEG RGB"."""
        ...


class Encoded:
    """What the pictures in image files have in common; subclasses say where the bytes are."""

    def _content(self, row: int) -> Path | bytes:
        raise NotImplementedError

    def name(self, row: int) -> str:
        """What to call the picture in front of people."""
        raise NotImplementedError

    def size(self, row: int) -> tuple[int, int]:
        """Height and width as it is seen, from its header alone."""
        with _opened(self._content(row), self.name(row)) as file:
            return _seen_size(file)

    def decode(self, row: int, reduce: int = 1) -> np.ndarray:
        """RGB, uint8 [H, W, 3]; a JPEG perhaps at 1/reduce of its size."""
        return decode(self._content(row), self.name(row), reduce)

    def digest(self, row: int) -> bytes:
        """Hash of the file's bytes."""
        content = self._content(row)
        with _reading(self.name(row)):
            data = _regular(content).read_bytes() if isinstance(content, Path) else content
        return _hash(data)

    def kind(self, row: int) -> str:
        """Format and mode, such as "JPEG RGB"."""
        with _opened(self._content(row), self.name(row)) as file:
            frames = getattr(file, "n_frames", 1)
            animated = f", first of {frames} frames" if frames > 1 else ""
            turned = ", turned by EXIF" if _orientation(file) > 1 else ""
            return f"{file.format} {file.mode}{animated}{turned}"


class Files(Encoded):
    """Image files.

    Args:
        paths: of the files, in order.
    """

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

    def _content(self, row: int) -> Path:
        return Path(self.paths[row])


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
        self.files, self.file, self.start, self.length = list(files), file, start, length
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

    def _content(self, row: int) -> bytes:
        with _reading(self.name(row)), open(self.files[self.file[row]], "rb") as file:
            return os.pread(file.fileno(), int(self.length[row]), int(self.start[row]))


class Arrays:
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
        return content_hash(self.decode(row))

    def kind(self, row: int) -> str:
        """All are arrays."""
        return "array RGB"


class Elsewhere(Protocol):
    """What pictures that other pictures hold have in common; subclasses say which and where."""

    def _at(self, row: int) -> tuple[Pictures, int]: ...

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

    def kind(self, row: int) -> str:
        """Format and mode."""
        pictures, own = self._at(row)
        return pictures.kind(own)


class Chosen(Elsewhere):
    """Some rows of other pictures, in an order of their own."""

    def __init__(self, pictures: Pictures, rows: np.ndarray):
        self.pictures, self.rows = pictures, rows

    def __len__(self) -> int:
        return len(self.rows)

    def _at(self, row: int) -> tuple[Pictures, int]:
        return self.pictures, int(self.rows[row])


class Joined(Elsewhere):
    """Several lots of pictures, one after the other."""

    def __init__(self, lots: Sequence[Pictures]):
        self.lots = lots
        self.starts = np.cumsum([0, *map(len, lots)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def _at(self, row: int) -> tuple[Pictures, int]:
        lot = int(np.searchsorted(self.starts, row, side="right")) - 1
        return self.lots[lot], row - int(self.starts[lot])


def choose(pictures: Pictures, rows: np.ndarray) -> Pictures:
    """Some rows of pictures; memory is not copied, but for arrays of one size."""
    if isinstance(pictures, Arrays) and isinstance(pictures.images, Tensor):
        return Arrays(pictures.images[torch.from_numpy(rows)], pictures.source)
    if isinstance(pictures, Chosen):
        return Chosen(pictures.pictures, pictures.rows[rows])
    return Chosen(pictures, rows)


def decode(content: Path | bytes, name: str, reduce: int = 1) -> np.ndarray:
    """An image file as it is seen, as RGB.

    Turned as EXIF says; of an animation the first frame; palettes, grey, CMYK and 16 bits
    become 8-bit RGB; what is transparent lies on white.

    Args:
        content: of the file, or its path.
        name: what to call it in front of people.
        reduce: 1, 2, 4 or 8: a JPEG may be decoded at this part of its size, which is cheaper.

    Returns:
        uint8 [H, W, 3].

    Raises:
        InputError: it is missing, truncated, no image or too large; the message names it.
    """
    with _opened(content, name) as file:
        if reduce > 1:
            file.draft(None, (-(-file.width // reduce), -(-file.height // reduce)))
        image: Image.Image = file
        if _orientation(file) > 1:
            image = ImageOps.exif_transpose(file)
        return rgb(image)


def rgb(image: Image.Image) -> np.ndarray:
    """A Pillow image of any mode as uint8 [H, W, 3]."""
    if image.mode.startswith("I;16"):
        return _grey((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        levels = np.asarray(image, np.float64)
        low, high = float(levels.min()), float(levels.max())
        if not (np.isfinite(levels).all() and low >= 0 and high <= 65535):
            raise ValueError(f"its levels go from {low:g} to {high:g}: expected 0 to 65,535")
        if high > 255:  # 16 bits, as above
            levels = levels // 256
        elif image.mode == "F" and high <= 1:
            levels = (levels * 255).round()
        return _grey(levels.astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        picture = image.convert("RGBA")
        white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, picture)
    return np.array(image.convert("RGB"))


def _grey(levels: np.ndarray) -> np.ndarray:
    return np.repeat(levels[:, :, None], 3, axis=2)


@contextmanager
def _opened(content: Path | bytes, name: str) -> Iterator[Image.Image]:
    with (
        _reading(name),
        Image.open(_source(content), formats=_formats()) as file,
    ):
        if file.width * file.height > MAX_PIXELS:
            raise ValueError(
                f"it has {file.width:,} x {file.height:,} pixels, and {MAX_PIXELS:,} are the "
                "limit: make it smaller"
            )
        yield file


def _source(content: Path | bytes) -> Path | BytesIO:
    return BytesIO(content) if isinstance(content, bytes) else _regular(content)


def _regular(file: Path) -> Path:
    """A file, that is no pipe, which would be waited for, and no device, which may never end."""
    if not stat.S_ISREG(file.stat().st_mode):
        raise ValueError("it is no file, but a folder, pipe or device")
    return file


@cache
def _formats() -> tuple[str, ...]:
    """Those of `FORMATS` that this Pillow was built with."""
    Image.init()
    return tuple(sorted(FORMATS & Image.OPEN.keys()))


@contextmanager
def _reading(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # a damaged file can raise anything
        reason = str(error) or type(error).__name__
        if isinstance(error, FileNotFoundError):
            reason = "there is no such file"
        elif isinstance(error, Image.DecompressionBombError):
            reason = f"it has more than {MAX_PIXELS:,} pixels, the limit: make it smaller"
        elif isinstance(error, Image.UnidentifiedImageError):
            reason = "it is empty" if _empty(name) else "it is no image of a known format"
        raise InputError(f"{name} cannot be read as an image: {reason}") from error


def _empty(name: str) -> bool:
    try:
        return Path(name).stat().st_size == 0
    except (OSError, ValueError):
        return False


def _orientation(file: Image.Image) -> int:
    # Pillow would decode a whole PNG to look for EXIF behind its pixels, where hardly any has it.
    if file.format == "GIF" or (file.format == "PNG" and "exif" not in file.info):
        return 1
    return cast(int, file.getexif().get(_ORIENTATION, 1))


def _seen_size(file: Image.Image) -> tuple[int, int]:
    if _orientation(file) in (5, 6, 7, 8):
        return file.width, file.height
    return file.height, file.width


def content_hash(pixels: np.ndarray) -> bytes:
    """Tells different pixels or shapes apart."""
    pixels = np.ascontiguousarray(pixels)
    return _hash(str(pixels.shape).encode() + pixels.tobytes())


def _hash(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()
