"""One table of images with coarse and perhaps fine labels, however it came.

`load` is the way in: it takes the name of a set or a path, whatever layout lies there.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from maskcon.config import similar
from maskcon.data import cifar, folder, glyphs, parquet
from maskcon.data.table import DataSet, Split
from maskcon.errors import InputError

__all__ = ["DATA_SETS", "DataSet", "NamedSet", "Split", "load"]


@dataclass(frozen=True)
class NamedSet:
    """A data set that maskcon knows by name.

    Attributes:
        summary: one line for `maskcon datasets`.
        check: raises `InputError` where a loaded set is not the one of this name.
        make: makes the set, for sets that need no files.
        download: fetches the set's files into a folder, for sets that can be fetched.
        source: where a person gets the files.
    """

    summary: str
    check: Callable[[DataSet], None] = lambda data: None
    make: Callable[[], DataSet] | None = None
    download: Callable[[Path], None] | None = None
    source: str = ""


DATA_SETS: dict[str, NamedSet] = {
    "glyphs": NamedSet(
        "letters and digits in many fonts, made on the fly: 6 coarse classes, 34 fine",
        make=glyphs.make,
    ),
    "cifar100": NamedSet(
        "CIFAR-100: 20 coarse classes, 100 fine; 50,000 train and 10,000 test images of 32 px",
        check=cifar.check_cifar100,
        download=cifar.download_cifar100,
        source=cifar.CIFAR100_URL,
    ),
}


def data_home() -> Path:
    """Where named sets lie: $MASKCON_DATA, else ~/.cache/maskcon."""
    return Path(os.environ.get("MASKCON_DATA") or Path.home() / ".cache" / "maskcon")


def load(
    data: str,
    *,
    data_dir: Path | None = None,
    download: bool = False,
    image_size: int = 32,
    workers: int = 1,
) -> DataSet:
    """Read a data set into memory.

    Args:
        data: a name in `DATA_SETS`, or the path of a folder: Parquet shards in the Hugging
            Face layout, CIFAR's python archive, or a tree [train|test]/coarse/fine/image.
        data_dir: the folder of a named set; by default NAME under `data_home()`.
        download: fetch a named set that is not there. Nothing is fetched otherwise.
        image_size: side in pixels to which images of other sizes are resized (folder trees).
        workers: threads that decode image files.

    Raises:
        InputError: nothing usable there; the message says what was looked for.
    """
    if data in DATA_SETS:
        named = DATA_SETS[data]
        if named.make is not None:
            return named.make()
        path = data_dir or data_home() / data
        if not _layout(path):
            if not download or named.download is None:
                raise InputError(
                    f"{data} is not in {path}: give --data-dir with its folder, or --download "
                    f"to fetch it from {named.source}"
                )
            path.mkdir(parents=True, exist_ok=True)
            named.download(path)
        loaded = _read(path, image_size, workers)
        named.check(loaded)
        return loaded
    path = Path(data)
    if not path.exists():
        raise InputError(
            f"{data!r} is no data set that maskcon knows{similar(data, [*DATA_SETS])} and no path "
            f"that exists: give one of {', '.join(DATA_SETS)}, or a folder of images"
        )
    return _read(path, image_size, workers)


_READERS = {"parquet": parquet.read, "archive": cifar.read_archive, "tree": folder.read}


def _layout(path: Path) -> str | None:
    if parquet.found(path):
        return "parquet"
    if cifar.found_archive(path):
        return "archive"
    if folder.found(path):
        return "tree"
    return None


def _read(path: Path, image_size: int, workers: int) -> DataSet:
    layout = _layout(path)
    if layout is None:
        raise InputError(
            f"{path} holds no data set: looked for train*.parquet files, cifar-100-python or "
            "its .tar.gz, and class folders [train/]coarse/fine/image.png"
        )
    return _READERS[layout](path, image_size, workers)
