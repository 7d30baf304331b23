"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009), and the CIFARtoy sets of MaskCon's paper.

They are read from the original python archives, from Parquet in the Hugging Face layout, and
from folder trees.
"""

import gzip
import tarfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from maskcon.data.pictures import Arrays
from maskcon.data.readers import arrow, folder
from maskcon.data.readers.columns import Columns
from maskcon.data.sets.download import Remote
from maskcon.data.sets.pickles import entry, small_images, unpickle
from maskcon.data.table import Found, Part, as_one_level, whole_numbers
from maskcon.errors import InputError

UNPACKED = 2**29  # bytes; CIFAR's archives unpack to 190 MB


@dataclass(frozen=True)
class _Archive:
    """An archive, or the folder that it unpacks to.

    Attributes:
        folder: its name.
        meta: the file with the names of the classes.
        names: for each level of labels, the entry with its class names.
        labels: for each level, the entry of a batch with its labels.
        batches: the files of each split.
        remote: where it can be fetched.
    """

    folder: str
    meta: str
    names: Mapping[str, str]
    labels: Mapping[str, str]
    batches: Mapping[str, Sequence[str]]
    remote: Remote

    def locate(self, path: Path) -> Path | None:
        """The folder or archive that a path is, or holds."""
        for candidate in (path, path / self.folder):
            files = (self.meta, *(name for part in self.batches.values() for name in part))
            if all((candidate / name).is_file() for name in files):
                return candidate
        for candidate in (path, path / self.remote.file):
            if candidate.is_file() and candidate.name.endswith(".tar.gz"):
                return candidate
        return None

    def read(self, source: Path, name: str) -> Found:
        """Read the archive, packed or not, without executing code from its pickles."""
        if source.is_dir():
            return self._read(source, name, lambda file: (source / file).read_bytes())
        try:
            with _Unpacked(source) as content, tarfile.open(fileobj=content) as archive:
                return self._read(
                    source, name, lambda file: _member(archive, f"{self.folder}/{file}", source)
                )
        except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
            raise InputError(
                f"{source} is damaged ({error}): delete it and fetch it again from "
                f"{self.remote.url}"
            ) from error

    def _read(self, source: Path, name: str, content: Callable[[str], bytes]) -> Found:
        meta = unpickle(content(self.meta), f"{source}: {self.meta}")
        names = {
            level: tuple(
                n.decode() if isinstance(n, bytes) else str(n)
                for n in entry(meta, key, str(source))
            )
            for level, key in self.names.items()
        }
        parts = {}
        for part, files in self.batches.items():
            images: list[np.ndarray] = []
            labels: dict[str, list[torch.Tensor]] = {level: [] for level in self.labels}
            for file in files:
                where = f"{source}: {file}"
                rows = unpickle(content(file), where)
                images.append(small_images(rows, where))
                for level, key in self.labels.items():
                    labels[level].append(whole_numbers(entry(rows, key, where), f"{where}: {key}"))
            fine = torch.cat(labels["fine"]) if "fine" in labels else None
            parts[part] = Part(
                Arrays(torch.from_numpy(np.concatenate(images)), f"{source} ({part})"),
                torch.cat(labels["coarse"]),
                fine,
            )
        return Found(name, parts, names["coarse"], names.get("fine", ()))


class _Unpacked(gzip.GzipFile):
    """A file that was packed by gzip; what unpacks to far more than CIFAR is not read on."""

    def read(self, size: int | None = -1) -> bytes:
        """Some bytes, of which there may be `UNPACKED` in all."""
        if size is None or size < 0 or self.tell() + size > UNPACKED:
            raise OSError(f"it unpacks to more than {UNPACKED:,} bytes")
        return super().read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place among them."""
        if offset > UNPACKED:
            raise OSError(f"it points to byte {offset:,} of what it unpacks to")
        return super().seek(offset, whence)


def _member(archive: tarfile.TarFile, name: str, source: Path) -> bytes:
    try:
        file = archive.extractfile(name)
    except KeyError:
        file = None
    if file is None:
        raise InputError(f"{source} has no file {name}: it is not the python version of CIFAR")
    return file.read()


CIFAR100 = _Archive(
    "cifar-100-python",
    "meta",
    {"coarse": "coarse_label_names", "fine": "fine_label_names"},
    {"coarse": "coarse_labels", "fine": "fine_labels"},
    {"train": ("train",), "test": ("test",)},
    Remote(
        "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
        "eb9058c3a382ffc7106e4002c42a8d85",
    ),
)
CIFAR10 = _Archive(
    "cifar-10-batches-py",
    "batches.meta",
    {"coarse": "label_names"},  # the ten classes, which become the fine ones
    {"coarse": "labels"},
    {"train": tuple(f"data_batch_{n}" for n in range(1, 6)), "test": ("test_batch",)},
    Remote(
        "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        "c58f30108f718f92721af3b95e74349a",
    ),
)

# CIFAR-10 without deer and frog, in two coarse classes of four: Section 4.1 of MaskCon's paper.
# In the good split the classes of a group look alike, in the bad one they do not.
GOOD = {
    "vehicle": ("airplane", "automobile", "ship", "truck"),
    "animal": ("bird", "cat", "dog", "horse"),
}
BAD = {
    "first": ("airplane", "automobile", "dog", "cat"),
    "second": ("ship", "truck", "bird", "horse"),
}


def read_cifar100(path: Path) -> Found | None:
    """CIFAR-100 in any of its layouts; None where there is none."""
    archive = CIFAR100.locate(path)
    if archive is not None:
        return CIFAR100.read(archive, "cifar100")
    found = _shards_or_tree(path, Columns(coarse="coarse_label", fine="fine_label"))
    return None if found is None else replace(found, name="cifar100")


def read_cifar10(path: Path) -> Found | None:
    """CIFAR-10 in any of its layouts, its labels those of one level; None where there is none."""
    whole = _ten_classes(path)
    return None if whole is None else replace(as_one_level(whole), name="cifar10")


def read_toy(path: Path, name: str, groups: Mapping[str, Sequence[str]]) -> Found | None:
    """CIFAR-10 in any of its layouts, as one of the toy sets; None where there is none."""
    whole = _ten_classes(path)
    return None if whole is None else toy(whole, name, groups)


def _ten_classes(path: Path) -> Found | None:
    """CIFAR-10 with its classes as coarse ones."""
    archive = CIFAR10.locate(path)
    if archive is not None:
        return CIFAR10.read(archive, "cifar10")
    return _shards_or_tree(path, Columns(coarse="label", fine="none"))


def _shards_or_tree(path: Path, columns: Columns) -> Found | None:
    if arrow.found(path):
        return arrow.read(path, columns)
    return folder.read(path) if folder.found(path) else None


def toy(whole: Found, name: str, groups: Mapping[str, Sequence[str]]) -> Found:
    """The classes of the groups alone: their groups as coarse classes, themselves as fine ones."""
    fine_names = tuple(sorted(name for group in groups.values() for name in group))
    missing = [name for name in fine_names if name not in whole.coarse_names]
    if missing:
        raise InputError(
            f"{whole.name} has no class {missing[0]!r}: it has {', '.join(whole.coarse_names)}, "
            "and is not CIFAR-10"
        )
    group_of = {name: g for g, group in enumerate(groups.values()) for name in group}
    fine_of = torch.full((len(whole.coarse_names),), -1)
    for index, class_name in enumerate(whole.coarse_names):
        if class_name in group_of:
            fine_of[index] = fine_names.index(class_name)
    coarse_of = torch.tensor([group_of[name] for name in fine_names])
    parts = {}
    for part, rows in whole.parts.items():
        fine = fine_of[rows.coarse]
        kept = (fine >= 0).nonzero()[:, 0]
        taken = rows.take(kept.numpy())
        parts[part] = Part(taken.pictures, coarse_of[fine[kept]], fine[kept])
    return Found(name, parts, tuple(groups), fine_names)
