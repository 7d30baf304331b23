"""A packed set: every picture decoded and made small once, in one file that is mapped.

The file is Arrow's IPC format, so any Arrow reader opens it: one row a picture, with its name,
split, labels, height, width, pixels (uint8, rows of RGB) and their CRC-32; class names are in
the schema's metadata. Reading a crop costs no decoding, and memory that the system can take
back at any time.
"""

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from maskcon.data.image_file import content_hash
from maskcon.data.pictures import Pictures
from maskcon.data.scan import each
from maskcon.data.table import PARTS, Found, Part
from maskcon.errors import InputError, TrainingError
from maskcon.runtime.files import parse_json, replacing
from maskcon.runtime.progress import Progress

SUFFIX = ".pack"
ROWS = 32  # of a batch
_KEY = b"maskcon"
_VERSION = 1
_COLUMNS = pa.schema(
    {
        "name": pa.string(),
        "split": pa.string(),
        "coarse": pa.int32(),
        "fine": pa.int32(),  # null where nobody labelled
        "height": pa.int32(),
        "width": pa.int32(),
        "crc32": pa.uint32(),
        "pixels": pa.large_binary(),
    }
)


class Packed(Pictures):
    """The pictures of a pack.

    Args:
        file: the pack.
        names: of the pictures [N].
        sizes: height and width [N, 2].
        start: where their pixels begin in the file [N].
        crc: checksums of their pixels [N].
    """

    def __init__(
        self, file: Path, names: list[str], sizes: np.ndarray, start: np.ndarray, crc: np.ndarray
    ):
        self.file, self.names, self.sizes, self.start, self.crc = file, names, sizes, start, crc
        # Copy-on-write, since torch wants arrays that could be written to; none is.
        self._map = np.memmap(file, np.uint8, "c")

    def __getstate__(self) -> dict[str, Any]:  # a loader's process maps the file itself
        return {key: value for key, value in self.__dict__.items() if key != "_map"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _map=np.memmap(state["file"], np.uint8, "c"))

    def __len__(self) -> int:
        return len(self.names)

    def name(self, row: int) -> str:
        """The name that the picture had, and the pack."""
        return f"{self.names[row]} in {self.file}"

    def size(self, row: int) -> tuple[int, int]:
        """Height and width in the pack."""
        height, width = self.sizes[row].tolist()
        return height, width

    def decode(self, row: int, reduce: int = 1) -> np.ndarray:
        """The pixels, mapped: uint8 [H, W, 3]."""
        height, width = self.sizes[row].tolist()
        start = int(self.start[row])
        return self._map[start : start + height * width * 3].reshape(height, width, 3)

    def digest(self, row: int) -> bytes:
        """Hash of the pixels, after a look at their checksum."""
        pixels = self.decode(row)
        if zlib.crc32(pixels.data) != self.crc[row]:
            raise InputError(f"{self.name(row)} is damaged: its checksum differs; pack again")
        return content_hash(pixels)

    def length(self, row: int) -> int:
        """Of the pixels."""
        return int(self.sizes[row].prod()) * 3

    def kind(self, row: int) -> str:
        """All are pixels."""
        return "packed RGB"


def found(path: Path) -> bool:
    """Whether the path is a pack."""
    return path.is_file() and path.suffix.lower() == SUFFIX


def write(
    found: Found,
    out: Path,
    *,
    size: int,
    workers: int,
    skip_unreadable: bool,
    progress: Progress,
) -> tuple[int, list[str]]:
    """Pack a set; its splits stay as they are.

    Args:
        found: the set.
        out: the file to make.
        size: the short side of a picture, in pixels; larger ones are resized to it, smaller
            ones kept as they are.
        workers: threads that decode.
        skip_unreadable: leave out pictures that cannot be read.
        progress: told how it goes.

    Returns:
        Pictures packed, and why others were left out.

    Raises:
        InputError: a picture cannot be read, or the file exists already.
        TrainingError: the file cannot be written.
    """
    about = {
        "version": _VERSION,
        "name": found.name,
        "size": size,
        "coarse_names": found.coarse_names,
        "fine_names": found.fine_names,
    }
    schema = _COLUMNS.with_metadata({_KEY: json.dumps(about)})
    count = sum(map(len, found.parts.values()))
    skipped: list[str] = []
    try:
        with replacing(out) as file, pa.ipc.new_file(file, schema) as writer:
            for split, part in found.parts.items():
                for batch, errors in _batches(part, split, size, workers, progress):
                    if errors and not skip_unreadable:
                        raise InputError(f"{errors[0]}: mend it, or give --skip-unreadable")
                    skipped += errors
                    writer.write_batch(pa.RecordBatch.from_pylist(batch, schema=schema))
    except TrainingError as error:
        raise TrainingError(
            f"{error}. A pack needs some {size * size * 4 / 2**20:.2f} "
            f"MiB for each of {count:,} pictures"
        ) from error
    finally:
        progress.close()
    return count - len(skipped), skipped


def _batches(
    part: Part, split: str, size: int, workers: int, progress: Progress
) -> Iterator[tuple[list[dict[str, Any]], list[str]]]:
    """What a pack has of `ROWS` pictures at a time, and why others of them cannot be read."""

    def work(row: int) -> dict[str, Any]:
        return {"split": split, **_row(part, row, size)}

    batch, errors = [], []
    for row, packed in each(work, len(part), workers, progress, f"packing {split} pictures"):
        if isinstance(packed, InputError):
            errors.append(str(packed))
        else:
            batch.append(packed)
        if (row + 1) % ROWS == 0 or row + 1 == len(part):
            yield batch, errors
            batch, errors = [], []


def _row(part: Part, row: int, size: int) -> dict[str, Any]:
    pixels = shrink(part.pictures, row, size)
    return {
        "name": part.pictures.name(row),
        "coarse": int(part.coarse[row]),
        "fine": None if part.fine is None else int(part.fine[row]),
        "height": pixels.shape[0],
        "width": pixels.shape[1],
        "crc32": zlib.crc32(pixels.data),
        "pixels": pixels.tobytes(),
    }


def shrink(pictures: Pictures, row: int, size: int) -> np.ndarray:
    """A picture whose short side is at most `size` pixels: uint8 [H, W, 3]."""
    short = min(pictures.size(row))
    pixels = pictures.decode(
        row, reduce=next(r for r in (8, 4, 2, 1) if short >= size * r or r == 1)
    )
    height, width = pixels.shape[:2]
    if min(height, width) <= size:
        return np.ascontiguousarray(pixels)
    scale = size / min(height, width)
    image = Image.fromarray(pixels)
    return np.array(
        image.resize((round(width * scale), round(height * scale)), Image.Resampling.BILINEAR)
    )


def read(path: Path) -> Found:
    """Read a pack; its pixels stay on the disk.

    Raises:
        InputError: it is damaged, or no pack of maskcon.
    """
    try:
        return _found(path)
    except InputError:
        raise
    except Exception as error:  # a damaged file can raise anything
        raise InputError(f"{path} is damaged, or no pack of maskcon: {error}") from error


def _found(path: Path) -> Found:
    mapped = pa.memory_map(str(path))
    reader = pa.ipc.open_file(mapped)
    about = parse_json((reader.schema.metadata or {})[_KEY])
    if about["version"] != _VERSION:
        raise InputError(f"{path} is a pack of version {about['version']}: pack again")
    base = _base(mapped)
    batches = [reader.get_batch(index) for index in range(reader.num_record_batches)]
    table = pa.Table.from_batches(batches, reader.schema)
    table.validate(full=True)  # its offsets are used to find pictures
    missing = [name for name in _COLUMNS.names if name != "fine" and table[name].null_count]
    if table.schema != _COLUMNS or missing:
        raise ValueError(f"its columns are {', '.join(table.schema.names)}, {missing} not whole")
    starts, lengths = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for batch in batches:
        column = batch.column("pixels")
        _, offsets, data = column.buffers()
        ends = np.frombuffer(offsets, np.int64, column.offset + len(column) + 1)[column.offset :]
        starts.append(ends[:-1] + (data.address - base if data is not None else 0))
        lengths.append(np.diff(ends))
    start, length = np.concatenate(starts), np.concatenate(lengths)
    columns = {name: table[name].to_numpy() for name in ("coarse", "height", "width", "crc32")}
    sizes = np.stack([columns["height"], columns["width"]], 1).astype(np.int64)
    wrong = (sizes < 1).any(1) | (sizes.prod(1) * 3 != length)
    wrong |= (start < 0) | (start + length > path.stat().st_size)
    if wrong.any():
        raise ValueError(f"the pixels of row {int(wrong.argmax())} are not where it says")
    pictures = Packed(path, table["name"].to_pylist(), sizes, start, columns["crc32"])
    coarse = torch.from_numpy(columns["coarse"].astype(np.int64))
    fine_labels = None
    if about["fine_names"]:
        fine_labels = torch.tensor(table["fine"].to_pylist(), dtype=torch.long)
    split = np.array(table["split"].to_pylist(), object)
    parts = {}
    for name in PARTS:
        rows = np.flatnonzero(split == name)
        if len(rows):
            chosen = torch.from_numpy(rows)
            parts[name] = Part(
                pictures.take(rows),
                coarse[chosen],
                None if fine_labels is None else fine_labels[chosen],
            )
    names = {level: tuple(map(str, about[f"{level}_names"])) for level in ("coarse", "fine")}
    return Found(str(about["name"]), parts, names["coarse"], names["fine"])


def _base(mapped: pa.MemoryMappedFile) -> int:
    """Where in memory the mapped file begins."""
    mapped.seek(0)
    return mapped.read_buffer(1).address
