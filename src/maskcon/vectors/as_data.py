"""A data set of vectors in a file, which any model may have made."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from maskcon.data import Features, Found
from maskcon.data.readers.columns import Labels, assemble
from maskcon.data.readers.vectors import FeatureRows
from maskcon.errors import InputError
from maskcon.vectors import file as embeddings
from maskcon.vectors.file import Embeddings


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
