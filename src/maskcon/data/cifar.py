"""CIFAR-100 (Krizhevsky, 2009): the original python archive."""

import io
import pickle
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from maskcon.data.table import DataSet, Split, whole_numbers
from maskcon.errors import InputError

CIFAR100_URL = "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"
CIFAR100_MD5 = "eb9058c3a382ffc7106e4002c42a8d85"
_FOLDER = "cifar-100-python"


def check_cifar100(data: DataSet) -> None:
    """Raise `InputError` unless the counts are those of CIFAR-100."""
    found = (len(data.train), len(data.test), len(data.coarse_names), len(data.fine_names))
    expected = (50_000, 10_000, 20, 100)
    if found != expected:
        raise InputError(
            "this is not the whole of CIFAR-100: {} train and {} test images, {} coarse and {} "
            "fine classes, where it has 50,000, 10,000, 20 and 100".format(*found)
        )


def download_cifar100(path: Path) -> None:
    """Fetch the archive into a folder and verify its checksum."""
    from torchvision.datasets.utils import download_url

    part = path / f"{_FOLDER}.tar.gz.part"  # what is not verified has no name that is read
    try:
        download_url(CIFAR100_URL, str(path), part.name, CIFAR100_MD5)
        part.replace(path / f"{_FOLDER}.tar.gz")
    except (OSError, RuntimeError) as error:
        part.unlink(missing_ok=True)
        raise InputError(
            f"{CIFAR100_URL} could not be fetched into {path}: {error}. Fetch it by hand, or "
            "give --data-dir with a folder that has it"
        ) from error


def found_archive(path: Path) -> bool:
    """Whether a path is, or holds, the archive or the folder that it unpacks to."""
    return _locate(path) is not None


def read_archive(path: Path, image_size: int, workers: int) -> DataSet:
    """Read the archive, packed or unpacked, without executing code from its pickles."""
    source = _locate(path)
    assert source is not None
    if source.is_dir():
        return _read(path, lambda name: (source / name).read_bytes())
    try:
        with tarfile.open(source) as archive:
            return _read(path, lambda name: _member(archive, f"{_FOLDER}/{name}"))
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise InputError(
            f"{source} is damaged ({error}): delete it and fetch it again from {CIFAR100_URL}"
        ) from error


def _locate(path: Path) -> Path | None:
    for candidate in (path, path / _FOLDER):
        if all((candidate / name).is_file() for name in ("train", "test", "meta")):
            return candidate
    for candidate in (path, path / f"{_FOLDER}.tar.gz"):
        if candidate.is_file() and candidate.name.endswith(".tar.gz"):
            return candidate
    return None


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    try:
        file = archive.extractfile(name)
    except KeyError:
        file = None
    if file is None:
        raise InputError(f"the archive has no file {name}: it is not CIFAR-100's python version")
    return file.read()


def _read(path: Path, content: Callable[[str], bytes]) -> DataSet:
    meta = _unpickle(content("meta"), f"{path}: meta")
    names = {
        level: tuple(name.decode() for name in _entry(meta, f"{level}_label_names", path))
        for level in ("coarse", "fine")
    }
    splits = []
    for part in ("train", "test"):
        rows = _unpickle(content(part), f"{path}: {part}")
        images = _entry(rows, "data", path)
        if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 2:
            raise InputError(f"{path}: data of {part} is no table of uint8 images")
        if images.shape[1] != 3 * 32 * 32:
            raise InputError(
                f"{path}: images of {part} have {images.shape[1]} values: expected 3,072"
            )
        splits.append(
            Split(
                torch.from_numpy(images.reshape(-1, 3, 32, 32).copy()),
                whole_numbers(_entry(rows, "coarse_labels", path), f"{path}: coarse_labels"),
                whole_numbers(_entry(rows, "fine_labels", path), f"{path}: fine_labels"),
            )
        )
    return DataSet("cifar100", splits[0], splits[1], names["coarse"], names["fine"])


def _entry(content: Any, key: str, path: Path) -> Any:
    if not isinstance(content, dict) or key.encode() not in content:
        raise InputError(f"{path} has no entry {key}: it is not CIFAR-100's python version")
    return content[key.encode()]


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickles plain values and NumPy arrays; every other name is refused, so no code runs."""

    ALLOWED = frozenset(
        {
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("_codecs", "encode"),  # how protocol 2 writes bytes
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no image needs")
        return super().find_class(module, name)


def _unpickle(content: bytes, name: str) -> Any:
    try:
        return _ArrayUnpickler(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # a damaged pickle can raise anything
        raise InputError(f"{name} cannot be unpickled: {error}") from error
