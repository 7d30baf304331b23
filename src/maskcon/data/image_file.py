"""An image file: what counts as one, and what it shows as it is seen."""

import hashlib
import math
import os
import re
import stat
import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from maskcon.config import Config
from maskcon.data.metadata import without
from maskcon.errors import InputError

# What is decoded, whatever a file is called. Pillow knows more formats, and for some of them it
# starts another program (Ghostscript, for EPS) on what the file says, or only names them.
FORMATS = frozenset(
    {
        *("AVIF", "BLP", "BMP", "CUR", "DCX", "DDS", "DIB", "FITS", "FLI", "FTEX", "GBR", "GIF"),
        *("HEIF", "ICNS", "ICO", "IM", "JPEG", "JPEG2000", "MPO", "MSP", "PCD", "PCX", "PIXAR"),
        *("PNG", "PPM", "PSD", "QOI", "SGI", "SUN", "TGA", "TIFF", "WEBP", "XBM", "XPM"),
    }
)
# What looks like a picture and is not decoded, by its suffix. A camera's raw file is often a TIFF
# whose first image is a stamp.
HEIF = frozenset((".heic", ".heif", ".hif", ".heics", ".heifs"))
UNREAD = HEIF | {
    *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".gpr", ".iiq"),
    *(".kdc", ".mef", ".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2"),
    *(".rwl", ".sr2", ".srf", ".srw", ".x3f"),
    *(".bpg", ".dcm", ".emf", ".eps", ".exr", ".hdr", ".jls", ".jxl", ".jxr", ".pct", ".pict"),
    *(".psb", ".svg", ".svgz", ".wdp", ".wmf", ".xcf"),
}
_MAGIC = re.compile(  # of files that end in nothing that is known
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|RIFF....WEBP|II\*\0|MM\0\*|\0\0\0\x0cjP  "
    rb"|\xff\x4f\xff\x51|....ftypavi[fs]|8BPS\0|qoif|BM....\0\0\0\0",
    re.DOTALL,
)
_MAGIC_HEIF = re.compile(rb"....ftyp(?:hei[cxms]|hev[cxms]|mif1|msf1)", re.DOTALL)
_MAGIC_JXL = re.compile(rb"\0\0\0\x0cJXL |\xff\x0a")
_JPEGS = ("JPEG", "MPO")  # that can be decoded at a part of their size
_ORIENTATION = 0x0112  # EXIF; 5 to 8 lie on their side
_EXIF, _TAKEN, _TAKEN_PART, _CHANGED = 0x8769, 0x9003, 0x9291, 0x0132  # local times
_TIFF_SIZE = (256, 257)
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_T = TypeVar("_T")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # refused below


@cache
def suffixes() -> frozenset[str]:
    """What files of pictures end in, in small letters, of the formats that are decoded here."""
    formats = _formats()
    return frozenset(
        suffix for suffix, form in Image.registered_extensions().items() if form in formats
    )


def is_picture(path: Path) -> bool:
    """Whether a file ends as pictures do, or begins as they do where its end tells nothing."""
    suffix = path.suffix.lower()
    return suffix in suffixes() or (suffix not in UNREAD and _begins_as_one(path))


def is_unread_picture(path: Path) -> bool:
    """Whether a file that is no `is_picture` looks like a picture all the same."""
    beginning = _beginning(path)
    unread = bool(_MAGIC_HEIF.match(beginning) or _MAGIC_JXL.match(beginning))
    return path.suffix.lower() in UNREAD or unread


def how_to_read(unread: Path) -> str:
    """What to do about a picture of `UNREAD`."""
    if unread.suffix.lower() in HEIF or _MAGIC_HEIF.match(_beginning(unread)):
        return _INSTALL_HEIF
    return "save it as JPEG or PNG"


_INSTALL_HEIF = "pip install 'maskcon[heif]' reads HEIC, or save it as JPEG"


def _begins_as_one(path: Path) -> bool:
    """Whether a file has the signature of a format that is decoded.

    Short ones, of which text and other files may have the same bytes, count where the format's
    header follows.
    """
    beginning = _beginning(path)
    if _MAGIC.match(beginning):
        return True
    for form in _formats():
        accept = Image.OPEN[form][1]
        if accept is None:
            continue
        try:
            if accept(beginning) is True:
                with _stream(path) as stream:
                    Image.OPEN[form][0](stream, "")
                return True
        except Exception:  # what is no file of that format can raise anything
            continue
    return False


def _beginning(path: Path) -> bytes:
    """The first bytes of a file; none of what is no file, or cannot be opened."""
    try:
        with open(_regular(path), "rb") as file:
            return file.read(16)
    except (OSError, ValueError):
        return b""


def decode(
    content: Path | bytes, name: str, reduce: int = 1, max_pixels: int = Config.max_pixels
) -> np.ndarray:
    """An image file as it is seen, as RGB.

    Turned as EXIF says; of an animation the first frame; palettes, grey, CMYK and 16 bits
    become 8-bit RGB; what is transparent lies on white. Metadata that are damaged, or too large
    for Pillow, are left out.

    Args:
        content: of the file, or its path.
        name: what to call it in front of people.
        reduce: 1, 2, 4 or 8: a JPEG may be decoded at this part of its size, which is cheaper.
        max_pixels: that are decoded; a JPEG of more is decoded at a part of its size.

    Returns:
        uint8 [H, W, 3].

    Raises:
        InputError: it is missing, truncated, no image or too large; the message names it.
    """
    return _opened(content, name, lambda file: _decoded(file, reduce, max_pixels))


def size(content: Path | bytes, name: str) -> tuple[int, int]:
    """Height and width as it is seen, from its header alone."""
    return _opened(content, name, _seen_size)


def kind(content: Path | bytes, name: str) -> str:
    """Format and mode for people, such as "JPEG RGB"."""
    return _opened(content, name, _kind)


def digest(content: Path | bytes, name: str) -> bytes:
    """Hash of the bytes."""
    with reading(name, content):
        return _hash(_bytes(content))


def _decoded(file: Image.Image, reduce: int, max_pixels: int) -> np.ndarray:
    width, height = file.size
    # Of a progressive JPEG all coefficients are in memory, however small it is decoded.
    if width * height > max_pixels and file.format in _JPEGS and "progressive" not in file.info:
        while reduce < 8 and width * height > max_pixels * reduce**2:
            reduce *= 2
        file.draft(None, (width // reduce, height // reduce))
    elif reduce > 1:
        file.draft(None, (-(-width // reduce), -(-height // reduce)))
    if (width * height if "progressive" in file.info else file.width * file.height) > max_pixels:
        raise ValueError(
            f"it has {width:,} x {height:,} pixels, and {max_pixels:,} are the limit: make it "
            f"smaller, or allow it with --max-pixels {width * height}"
        )
    return rgb(upright(file))


def upright(image: Image.Image) -> Image.Image:
    """A Pillow image turned as its EXIF says; itself where that says nothing that is known."""
    image.load()  # which turns a TIFF
    turn = _UPRIGHT.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


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
    # `convert` copies what is RGB already
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _grey(levels: np.ndarray) -> np.ndarray:
    return np.repeat(levels[:, :, None], 3, axis=2)


def _opened(content: Path | bytes, name: str, work: Callable[[Image.Image], _T]) -> _T:
    """What some work finds in an image file; in what is left of it, if its metadata hinder it."""
    with reading(name, content):
        try:
            with _stream(content) as stream:
                return work(_identified(stream))
        except Exception as error:  # a damaged file can raise anything
            rest = None if isinstance(error, FileNotFoundError) else without(_bytes(content))
            if rest is None:
                raise
            try:
                return work(_identified(BytesIO(rest)))
            except Exception:
                raise error from None


def _identified(stream: BinaryIO) -> Image.Image:
    """As Pillow's `open`, but for its limit of pixels, which is one for all of a process."""
    beginning = stream.read(16)
    for form in _formats():
        factory, accept = Image.OPEN[form]
        try:
            if accept is None or accept(beginning) is True:
                stream.seek(0)
                return factory(stream, "")
        except (SyntaxError, IndexError, TypeError, struct.error):
            continue  # of another format, as Pillow's own loop has it
    raise Image.UnidentifiedImageError


def _stream(content: Path | bytes) -> BinaryIO:
    return BytesIO(content) if isinstance(content, bytes) else open(_regular(content), "rb")


def _bytes(content: Path | bytes) -> bytes:
    return content if isinstance(content, bytes) else _regular(content).read_bytes()


def _regular(file: Path) -> Path:
    """A file, that is no pipe, which would be waited for, and no device, which may never end."""
    if not stat.S_ISREG(file.stat().st_mode):
        raise ValueError("it is no file, but a folder, pipe or device")
    return file


@cache
def _formats() -> tuple[str, ...]:
    """Those of `FORMATS` that this Pillow was built with, the ones without a signature last."""
    Image.init()
    with suppress(ImportError):  # an extra
        from pillow_heif import register_heif_opener

        register_heif_opener()
    there = FORMATS & Image.OPEN.keys()
    return tuple(sorted(there, key=lambda form: (Image.OPEN[form][1] is None, form)))


@contextmanager
def reading(name: str, content: Path | bytes) -> Iterator[None]:
    """Whatever goes wrong with an image file is an `InputError` that names it."""
    try:
        yield
    except Exception as error:  # a damaged file can raise anything
        reason = str(error) or type(error).__name__
        if isinstance(error, FileNotFoundError):
            reason = f"there is no such file{_mistaken(name)}"
        elif isinstance(error, Image.UnidentifiedImageError):
            reason = _unidentified(content)
        raise InputError(f"{name} cannot be read as an image: {reason}") from error


def _unidentified(content: Path | bytes) -> str:
    beginning = content[:16] if isinstance(content, bytes) else _beginning(content)
    if not beginning:
        return "it is empty"
    if _MAGIC_HEIF.match(beginning) and "HEIF" not in _formats():
        return f"it is HEIC: {_INSTALL_HEIF}"
    if isinstance(content, Path) and content.suffix.lower() in UNREAD - HEIF:
        return f"its format is not decoded: {how_to_read(content)}"
    return "it is no image of a known format"


def _mistaken(name: str) -> str:
    """Why a name may not be that of a file."""
    if re.search(r"\b(?:https?|s3|gs|ftp|file):/", name):
        return ": it is an address, and nothing is fetched; download it and give its path"
    if "\\" in name and os.sep == "/":
        return ": write its folders with / in place of \\"
    return ""


def taken(path: str | Path) -> float:
    """When a photograph was taken, in seconds from any beginning, as its EXIF says; NaN elsewhere.

    Of a file that cannot be read, too: whoever decodes it tells that.
    """
    try:
        return _opened(Path(path), str(path), _taken)
    except InputError:
        return math.nan


def _taken(file: Image.Image) -> float:
    with suppress(Exception):  # what a camera wrote, or whoever wrote it after that
        exif = _exif(file)
        inside = exif.get_ifd(_EXIF)
        text = inside.get(_TAKEN) or exif.get(_CHANGED)
        at = datetime.strptime(str(text).strip("\0 "), "%Y:%m:%d %H:%M:%S").replace(tzinfo=UTC)
        part = str(inside.get(_TAKEN_PART, "")).strip("\0 ")
        return at.timestamp() + (float(f"0.{part}") if part.isdecimal() else 0.0)
    return math.nan


def _exif(file: Image.Image) -> Image.Exif:
    # Pillow would decode a whole PNG to look for EXIF behind its pixels, where hardly any has it.
    if file.format == "GIF" or (file.format == "PNG" and "exif" not in file.info):
        return Image.Exif()
    return file.getexif()


def _orientation(file: Image.Image) -> int:
    """1 to 8, as EXIF says; 1 where it says nothing, or nothing that can be understood."""
    try:
        value = _exif(file).get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF can raise anything
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _seen_size(file: Image.Image) -> tuple[int, int]:
    width, height = file.size
    if isinstance(file, TiffImageFile):  # whose size is the seen one in some versions of Pillow
        width, height = (int(file.tag_v2[tag]) for tag in _TIFF_SIZE)
    return (width, height) if _orientation(file) in (5, 6, 7, 8) else (height, width)


def _kind(file: Image.Image) -> str:
    try:
        frames = getattr(file, "n_frames", 1)
    except Exception:  # later frames are damaged: nobody looks at them
        frames = 1
    animated = f", first of {frames} frames" if frames > 1 else ""
    turned = ", turned by EXIF" if _orientation(file) > 1 else ""
    return f"{file.format} {file.mode}{animated}{turned}"


def content_hash(pixels: np.ndarray) -> bytes:
    """Tells different pixels or shapes apart."""
    pixels = np.ascontiguousarray(pixels)
    return _hash(str(pixels.shape).encode() + pixels.tobytes())


def _hash(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()
