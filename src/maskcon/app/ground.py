"""What the edits of a project are made to, kept in a file: trees are grown once."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from maskcon.app.state import Ground
from maskcon.config import Config
from maskcon.data.pictures import Files
from maskcon.data.table import ALL
from maskcon.discover.outliers import votes
from maskcon.discover.place import taken
from maskcon.discover.tree import Grown, Tree, grow
from maskcon.errors import TrainingError
from maskcon.eval.projection import places
from maskcon.runtime import files
from maskcon.runtime.progress import Progress
from maskcon.search.index import Index

TREE = ("merges", "order", "start", "stop", "once", "features", "typical")
GROWN = ("rows", "leaf", "images")


def ground_of(index: Index, generation: int, path: Path, progress: Progress) -> Ground:
    """The trees of an index: those in the file, or grown now and perhaps kept there.

    Args:
        index: of the pictures.
        generation: of the trees.
        path: of the file; what is there and cannot be read is made anew.
        progress: told what is done.
    """
    names, label = labels_of(index)
    known = _read(path, len(index))
    if known is None:
        x, coarse = torch.from_numpy(np.array(index.vectors)), torch.from_numpy(label)
        photos = Files(index.rows["path"].to_pylist())
        when = taken(photos, Config().readers, progress)
        grown = grow(x, coarse, taken=when, progress=progress)
        progress.update("looking at the neighbours of each picture")
        known = grown, votes(np.asarray(index.vectors), label, 0)
        keep(path, _written(*known), progress)
    return Ground(np.asarray(index.vectors), label, names, known[0], generation, known[1])


def labels_of(index: Index) -> tuple[tuple[str, ...], np.ndarray]:
    """Names of the coarse labels of an index, and each picture's, int64 [N]; one without labels."""
    given = [name or ALL for name in index.rows["coarse"].to_pylist()]
    names = sorted(set(given))
    place = {name: at for at, name in enumerate(names)}
    return tuple(names), np.array([place[name] for name in given], np.int64)


def keep(path: Path, content: bytes, progress: Progress) -> None:
    """Write a file that can be made again; say so where it cannot be written."""
    try:
        files.write(path, content)
    except TrainingError as error:
        progress.note(f"{path.name} is made again the next time: {error}")


def _written(grown: Sequence[Grown], most: tuple[np.ndarray, np.ndarray]) -> bytes:
    content = {"labels": np.array([g.label for g in grown]), "votes": most[0], "count": most[1]}
    for c, g in enumerate(grown):
        content |= {f"{c}/{name}": getattr(g, name) for name in GROWN}
        content |= {f"{c}/tree/{name}": getattr(g.tree, name) for name in TREE}
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **content)
    return file.getvalue()


def _read(path: Path, count: int) -> tuple[list[Grown], tuple[np.ndarray, np.ndarray]] | None:
    """The trees in a file; None where it has none of so many pictures."""
    try:
        with np.load(path, allow_pickle=False) as file:
            content: Mapping[str, np.ndarray] = dict(file)
        grown = []
        for c, label in enumerate(content["labels"].tolist()):
            tree = Tree(*(content[f"{c}/tree/{name}"] for name in TREE))
            rows, leaf, images = (content[f"{c}/{name}"] for name in GROWN)
            grown.append(Grown(label, rows, leaf, tree, images))
        most = content["votes"], content["count"]
    except Exception:  # a damaged file can raise anything
        return None
    rows = np.concatenate([g.rows for g in grown])
    whole = len(most[0]) == len(most[1]) == count and np.array_equal(
        np.sort(rows), np.arange(count)
    )
    return (grown, most) if whole else None


def map_of(index: Index, path: Path, progress: Progress) -> bytes:
    """Where each picture lies on the map, as float32 [N, 2] in little-endian bytes, 0..1."""
    if path.is_file() and path.stat().st_size == 8 * len(index):
        return path.read_bytes()
    spots = places(np.asarray(index.vectors), "tsne", 0, progress).astype("<f4").tobytes()
    keep(path, spots, progress)
    return spots
