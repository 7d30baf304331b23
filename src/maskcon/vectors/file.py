"""Embeddings in a file: vectors with paths and labels, and the encoder that made them.

Three formats say the same: Parquet (columns), npz (fields) and csv (columns, with a .json beside
it). `read` also takes vectors that another program made.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maskcon import __version__
from maskcon.data.table import numbered
from maskcon.errors import InputError, brief
from maskcon.runtime.files import together
from maskcon.vectors.reading import LEVELS, READERS, about_of, described
from maskcon.vectors.writing import TEXT, WRITERS

SUFFIXES = tuple(READERS)
BLOCK = 2**22  # numbers of vectors that are written together: 16 MiB


@dataclass(frozen=True)
class Embeddings:
    """Vectors of pictures, and what is known of the pictures.

    Attributes:
        vectors: float32 [N, F]; of unit length where maskcon made them.
        paths: of the pictures, as text [N]; absolute where they are files, "row 3 of shard.parquet"
            elsewhere. None where the file has none. So with the next three.
        coarse, fine: names of the classes [N]; None for a row without one.
        split: "train" or "test" [N].
        identity: of the encoder (`Encoder.identity`); None where another program made the vectors.
        image_size: side of the encoder's input in pixels.
        version: of maskcon.
        run: the folder that the encoder lay in.
        data: what was embedded.
        stamps: length in bytes and time of change in ns of the files that the vectors were made of,
            as `maskcon.data.known.stamp` has them [N]; None for what is no file.
    """

    vectors: np.ndarray
    paths: np.ndarray | None = None
    coarse: np.ndarray | None = None
    fine: np.ndarray | None = None
    split: np.ndarray | None = None
    identity: str | None = None
    image_size: int | None = None
    version: str | None = None
    run: str | None = None
    data: str | None = None
    stamps: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def width(self) -> int:
        """F, of a vector."""
        return int(self.vectors.shape[1])

    def labels(self, level: str) -> tuple[Tensor, tuple[str, ...]]:
        """Classes as numbers.

        Args:
            level: "coarse" or "fine" (or "split").

        Returns:
            int64 [N], -1 where a row has none; and the names.

        Raises:
            InputError: the file has no such labels.
        """
        values = getattr(self, level, None) if level in LEVELS else None
        if values is None:
            has = [name for name in LEVELS if getattr(self, name) is not None]
            raise InputError(
                f"the embeddings have no {level} labels, but {', '.join(has) or 'none at all'}: "
                f"embed data with {level} labels, or add a column {level!r}"
            )
        known = np.array([value is not None for value in values], bool)
        codes, names = numbered([str(value) for value in values[known]])
        every = torch.full((len(values),), -1, dtype=torch.long)
        every[torch.from_numpy(known)] = codes
        return every, names

    def take(self, rows: np.ndarray) -> "Embeddings":
        """Some of the rows: their numbers in an order of their own, or a mask [N]."""
        chosen = {
            name: None if (column := getattr(self, name)) is None else column[rows] for name in TEXT
        }
        return replace(self, vectors=self.vectors[rows], **chosen)

    def unit(self) -> np.ndarray:
        """The vectors at unit length, float32 [N, F], so that dot products are cosines.

        Raises:
            InputError: a vector is zero.
        """
        norm = np.linalg.norm(self.vectors, axis=1, keepdims=True)
        if (norm == 0).any():
            raise InputError(f"the vector of row {int(norm.argmin())} is zero: it has no direction")
        return self.vectors / norm

    @property
    def about(self) -> dict[str, Any]:
        """What the file says of the encoder, for `write`."""
        return {
            "identity": self.identity,
            "width": self.width,
            "image_size": self.image_size,
            "maskcon": self.version or __version__,
            "run": self.run,
            "data": self.data,
            "rows": len(self),
        }


def read(path: str | Path) -> Embeddings:
    """Read a file of `maskcon embed`, or vectors that another program made.

    Parquet: a column `vector` or `embedding` of lists of numbers, all of one length; npz: a field
    of that name, [N, F]; csv: columns v0, v1, ... Optional beside it, as text or numbers: path,
    coarse (label), fine, split. Nothing in the file is executed.

    Raises:
        InputError: it is missing, damaged, or lacks vectors; the message names row and column.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(
            f"{path} is {'a folder' if path.is_dir() else 'not there'}: expected a file of "
            f"embeddings ({', '.join(SUFFIXES)}), as `maskcon embed` writes it"
        )
    columns, about = READERS[_suffix(path)](path)
    vectors = columns.pop("vector")
    for name, column in columns.items():
        if len(column) != len(vectors):
            raise InputError(
                f"{path} has {len(vectors):,} vectors and {len(column):,} {name}: expected as many"
            )
    if not vectors.size:
        raise InputError(f"{path} has no vectors: its table is {list(vectors.shape)}")
    wrong = ~np.isfinite(vectors).all(1)
    if wrong.any():
        raise InputError(
            f"{path}: the vector of row {int(wrong.argmax())} is not finite, one of "
            f"{int(wrong.sum()):,} such: the model that made them has diverged"
        )
    if about and (about.get("width"), about.get("rows")) != vectors.shape[::-1]:
        rows, width = brief(about.get("rows")), brief(about.get("width"))
        raise InputError(
            f"{path} has {len(vectors):,} vectors of {vectors.shape[1]}, and its description is of "
            f"{rows} of {width}: it was changed since; embed again, or "
            "remove the description to read it as vectors of an unknown model"
        )
    about = {name: about.get(name) for name in ("identity", "image_size", "maskcon", "run", "data")}
    return Embeddings(vectors, **columns, version=about.pop("maskcon"), **about)  # type: ignore[arg-type]


def identity(path: str | Path) -> str | None:
    """The encoder that a file's vectors were made with; None where it is no file of embeddings."""
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES or not path.is_file():
        return None
    return about_of(path).get("identity")


def write(path: str | Path, embeddings: Embeddings) -> None:
    """Write embeddings in the format of the suffix: .parquet, .npz or .csv.

    Raises:
        InputError: another suffix.
        TrainingError: the disk is full or read-only; an earlier file is untouched.
    """
    columns = {name: getattr(embeddings, name) for name in TEXT}
    stream(Path(path), columns, embeddings.about, lambda a, b: embeddings.vectors[a:b])


def stream(
    path: Path,
    columns: dict[str, np.ndarray | None],
    about: dict[str, Any],
    vectors: Callable[[int, int], np.ndarray],
) -> None:
    """Write embeddings whose vectors are never all in memory.

    Args:
        path: the file; its suffix is the format.
        columns: paths, coarse, fine, split, stamps: text [N], or None where there are none.
        about: `Embeddings.about`; "rows" and "width" are N and F.
        vectors: gives rows a to b, float32 [b - a, F]; asked for in order.

    Raises:
        InputError: another suffix.
        TrainingError: the disk is full or read-only; an earlier file is untouched.
    """
    writer = WRITERS[_suffix(path)]
    step = max(1, BLOCK // max(1, about["width"]))
    bounds = [(a, min(a + step, about["rows"])) for a in range(0, about["rows"], step)]
    with together(told_by_last=True) as new:
        writer(new.open(path), columns, about, ((a, b, vectors(a, b)) for a, b in bounds))
        if path.suffix.lower() == ".csv":  # whose description is a file of its own
            new.write_json(described(path), about)


def written(path: Path) -> list[Path]:
    """The files that `write` writes."""
    return [path, described(path)] if path.suffix.lower() == ".csv" else [path]


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{path} ends in {suffix!r}: embeddings are {', '.join(SUFFIXES)} files")
    return suffix
