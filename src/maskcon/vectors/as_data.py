"""A data set of a file of vectors: these in place of pictures, or beside those they are of."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from maskcon.data import Features, Found
from maskcon.data.known import stamp
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
    """The pictures of a file of `maskcon embed`, with their vectors; nothing of them is read.

    Raises:
        InputError: it lacks paths, was changed, or is of pictures that have changed since.
    """
    if given.paths is None or given.identity is None:
        raise InputError(f"{path} has no column of paths: embed the pictures again")
    length = np.linalg.norm(given.vectors, axis=1)
    if (wrong := abs(length - 1) > UNIT).any():
        row = int(wrong.argmax())
        raise InputError(
            f"{path} was changed: the vector of row {row} is {length[row]:.4f} long, and those of "
            "`maskcon embed` are 1: embed the pictures again"
        )
    check_unchanged(given, path)
    return Embedded(list(given.paths), Computed(given.vectors, given.identity, str(path)))


def check_unchanged(given: Embeddings, path: Path) -> None:
    """Raise `InputError` where files have another length or time of change than when embedded.

    A file that is not there any more is told by whoever needs its pixels.
    """
    if given.stamps is None or given.paths is None:
        return
    changed = []
    for picture, before in zip(given.paths, given.stamps, strict=True):
        now = None if before is None else stamp(picture)
        if now is not None and now != before:
            changed.append((picture, before, now))
    if changed:
        picture, before, now = changed[0]
        (length, _, at), (new_length, _, new_at) = before.partition(" "), now.partition(" ")
        what = f"had {length} bytes and has {new_length}"
        if length == new_length:
            what = (
                f"was changed at {_time(new_at)}, and the vector is of what it was at {_time(at)}"
            )
        raise InputError(
            f"{path} is of other pictures: {len(changed):,} of {len(given):,} have changed since, "
            f"such as {picture}, which {what}: embed them again (maskcon embed RUN DATA -o {path} "
            "--overwrite), which computes those alone whose content is another one"
        )


def _time(nanoseconds: str) -> str:
    """A time of change for people, as UTC; what was written, where that is none."""
    try:
        at = datetime.fromtimestamp(int(nanoseconds) / 1e9, UTC)
    except (ValueError, OverflowError, OSError):
        return repr(nanoseconds)
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


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
