"""A data set of a file of vectors: these in place of pictures, or beside those they are of."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from maskcon.data import Features, Found
from maskcon.data.readers.columns import Columns, Labels, assemble
from maskcon.data.readers.vectors import Computed, Embedded, FeatureRows
from maskcon.errors import InputError
from maskcon.vectors import file as embeddings
from maskcon.vectors.file import Embeddings

UNIT = 1e-3  # that a vector's length may differ from 1: many times float32's rounding


def find(path: Path) -> Found:
    """The vectors of a file, with their labels.

    Rows of one path are views of one image, the first of them the one that evaluations look at.
    The file is one that `maskcon.vectors.read` takes, with coarse labels, and perhaps fine
    ones and a split.

    Raises:
        InputError: it cannot be read, or has no coarse labels.
    """
    given = embeddings.read(path)
    if given.coarse is None:
        raise InputError(
            f"{path} has no coarse labels: add a column coarse (or label), of text or whole numbers"
        )
    rows = _views(given)
    features = Features(torch.from_numpy(given.vectors)[torch.from_numpy(rows)])
    first = given.take(rows[:, 0])
    labels = {"coarse": Labels(list(first.coarse))}  # type: ignore[arg-type]
    if first.fine is not None:
        labels["fine"] = Labels(list(first.fine))
    names = [f"row {row}" for row in rows[:, 0]]
    if first.paths is not None:
        names = [name if p is None else str(p) for name, p in zip(names, first.paths, strict=True)]
    split = None if first.split is None else list(first.split)
    return assemble(path.stem, FeatureRows(features, names, str(path)), labels, split, str(path))


def is_of_pictures(path: Path) -> bool:
    """Whether a path is a file of `maskcon embed`, which says whose vectors of which pictures."""
    return embeddings.identity(path) is not None


def with_pictures(path: Path, columns: Columns, coarse_level: int) -> Found:
    """The pictures of a file of `maskcon embed`, their vectors and labels with them.

    Args:
        path: of the file, for which `is_of_pictures` holds.
        columns: as a person typed them, which have no effect here.
        coarse_level: likewise.

    Raises:
        InputError: it cannot be read, or has no coarse labels, or columns were named.
    """
    if columns != Columns() or coarse_level:
        raise InputError(
            f"{path} is a file of `maskcon embed`, whose columns have their names: leave out "
            "--image-column and the like, and --coarse-level"
        )
    given = embeddings.read(path)
    if given.coarse is None:
        raise InputError(
            f"{path} has no coarse labels, as the pictures had none when they were embedded: "
            "embed them again as a data set with labels"
        )
    named = {"coarse": given.coarse, "fine": given.fine}
    labels = {level: Labels(list(column)) for level, column in named.items() if column is not None}
    split = None if given.split is None else list(given.split)
    return assemble(path.stem, of_file(given, path), labels, split, str(path))


def of_file(given: Embeddings, path: Path) -> Embedded:
    """The pictures of a file of `maskcon embed`, with their vectors; nothing of them is read."""
    if given.paths is None or given.identity is None:
        raise InputError(f"{path} has no column of paths: embed the pictures again")
    length = np.linalg.norm(given.vectors, axis=1)
    if (wrong := abs(length - 1) > UNIT).any():
        row = int(wrong.argmax())
        raise InputError(
            f"{path} was changed: the vector of row {row} is {length[row]:.4f} long, and those of "
            "`maskcon embed` are 1: embed the pictures again"
        )
    return Embedded(list(given.paths), Computed(given.vectors, given.identity, str(path)))


def _views(given: Embeddings) -> np.ndarray:
    """The rows that are views of each image, int64 [N, V].

    An image of fewer views than others has its own again.
    """
    if given.paths is None:
        return np.arange(len(given))[:, None]
    rows_of: dict[object, list[int]] = {}
    for row, path in enumerate(given.paths):
        rows_of.setdefault(row if path is None else path, []).append(row)
    groups = list(rows_of.values())
    _check_labels(given, groups)
    most = max(map(len, groups))
    return np.array([[rows[view % len(rows)] for view in range(most)] for rows in groups])


def _check_labels(given: Embeddings, groups: Sequence[Sequence[int]]) -> None:
    for level in ("coarse", "fine", "split"):
        column = getattr(given, level)
        for rows in groups if column is not None else ():
            other = next((row for row in rows if column[row] != column[rows[0]]), None)
            if other is not None:
                assert given.paths is not None
                raise InputError(
                    f"rows {rows[0]} and {other} are views of one picture, {given.paths[other]}, "
                    f"and their {level} is {column[rows[0]]} and {column[other]}: expected the same"
                )
