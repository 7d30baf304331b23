"""What the edits of a project are made to, kept in a file: trees are grown once."""

import io
import json
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
from maskcon.eval.projection import beside, places
from maskcon.runtime import files
from maskcon.runtime.progress import Progress
from maskcon.search.index import Index

TREE = ("merges", "order", "start", "stop", "once", "features", "typical")
GROWN = ("rows", "leaf", "images")
ABOUT = "about"  # names of coarse labels and moves, as JSON
FEW = 8  # pictures: a map of no more is made anew


def ground_of(
    index: Index,
    generation: int,
    path: Path,
    progress: Progress,
    known: Sequence[str] = (),
    *,
    read_only: bool = False,
) -> Ground:
    """The trees of an index: those in the file, or grown now and perhaps kept there.

    Args:
        index: of the pictures.
        generation: of the trees.
        path: of the file; what is there and cannot be read is made anew. It may be of fewer
            pictures than the index has, the first ones (`maskcon.app.arrivals`).
        progress: told what is done.
        known: names of coarse labels whose numbers stay, since edits have these.
        read_only: what is grown is not kept.
    """
    there = _read(path, index, generation)
    if there is not None:
        return there
    names, label = labels_of(index.rows["coarse"].to_pylist(), known)
    x, coarse = torch.from_numpy(np.array(index.vectors)), torch.from_numpy(label)
    when = taken(photos_of(index), Config().readers, progress)
    grown = grow(x, coarse, taken=when, progress=progress)
    progress.update("looking at the neighbours of each picture")
    vectors = np.asarray(index.vectors)
    ground = Ground(vectors, label, names, grown, generation, votes(vectors, label, 0))
    if not read_only:
        keep(path, written(ground), progress)
    return ground


def photos_of(index: Index) -> Files:
    """The pictures of an index as files; those that are none cannot be read."""
    return Files(index.rows["path"].to_pylist())


def labels_of(
    coarse: Sequence[str | None], known: Sequence[str] = ()
) -> tuple[tuple[str, ...], np.ndarray]:
    """Names of coarse labels, and each picture's, int64 [N]; one for those without labels.

    Args:
        coarse: labels in words [N].
        known: names that come first, in their order; others follow in that of the alphabet.
    """
    given = [name or ALL for name in coarse]
    names = [*known, *sorted(set(given) - set(known))]
    place = {name: at for at, name in enumerate(names)}
    return tuple(names), np.array([place[name] for name in given], np.int64)


def keep(path: Path, content: bytes, progress: Progress) -> None:
    """Write a file that can be made again; say so where it cannot be written."""
    try:
        files.write(path, content)
    except TrainingError as error:
        progress.note(f"{path.name} is made again the next time: {error}")


def written(ground: Ground) -> bytes:
    """Trees as a file has them."""
    about = json.dumps({"names": ground.names, "moves": [*ground.moves]}).encode()
    content = {"labels": np.array([g.label for g in ground.grown])}
    content |= {"votes": ground.votes[0], "count": ground.votes[1]}
    content |= {ABOUT: np.frombuffer(about, np.uint8)}
    for c, g in enumerate(ground.grown):
        content |= {f"{c}/{name}": getattr(g, name) for name in GROWN}
        content |= {f"{c}/tree/{name}": getattr(g.tree, name) for name in TREE}
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **content)
    return file.getvalue()


def _read(path: Path, index: Index, generation: int) -> Ground | None:
    """The trees in a file; None where it has none of the first pictures of an index."""
    try:
        with np.load(path, allow_pickle=False) as file:
            content: Mapping[str, np.ndarray] = dict(file)
        grown = []
        for c, label in enumerate(content["labels"].tolist()):
            tree = Tree(*(content[f"{c}/tree/{name}"] for name in TREE))
            rows, leaf, images = (content[f"{c}/{name}"] for name in GROWN)
            grown.append(Grown(label, rows, leaf, tree, images))
        most = content["votes"], content["count"]
        about = json.loads(content[ABOUT].tobytes()) if ABOUT in content else {}
    except Exception:  # a damaged file can raise anything
        return None
    rows, count = np.concatenate([g.rows for g in grown]), len(most[0])
    whole = np.array_equal(np.sort(rows), np.arange(count)) and len(most[1]) == count
    if not whole or count > len(index):
        return None
    # what an earlier version wrote is of all pictures, and has no names
    names = about.get("names") or labels_of(index.rows["coarse"].to_pylist()[:count])[0]
    coarse = np.empty(count, np.int64)
    for g in grown:
        coarse[g.rows] = g.label
    x = np.asarray(index.vectors)[:count]
    return Ground(x, coarse, tuple(names), grown, generation, most, about.get("moves", ()))


def map_of(index: Index, path: Path, progress: Progress, *, read_only: bool = False) -> bytes:
    """Where each picture lies on the map, as float32 [N, 2] in little-endian bytes, 0..1.

    Pictures that came later lie beside those that were there, which stay. What is made is kept in
    the file, unless nothing may be written.
    """
    known = path.read_bytes() if path.is_file() else b""
    count, rest = divmod(len(known), 8)
    if count == len(index) and not rest:
        return known
    x = np.asarray(index.vectors)
    if rest or not FEW < count < len(index):
        spots = places(x, "tsne", 0, progress)
    else:
        there = np.frombuffer(known, "<f4").reshape(-1, 2)
        late = beside(x[count:], x[:count], there, np.random.default_rng(count))
        spots = np.concatenate([there, np.clip(late, 0, 1)])
    made = spots.astype("<f4").tobytes()
    if not read_only:
        keep(path, made, progress)
    return made
