"""A table of pictures with vectors, a map and neighbours, as embedding-atlas reads it.

embedding-atlas draws columns x and y, and takes a column of {"ids": [...], "distances": [...]}
for neighbours, the ids being rows counted from zero. See https://apple.github.io/embedding-atlas.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import torch

from maskcon.data import Found
from maskcon.data.thumbnails import thumbnail as shrunk
from maskcon.encoder import joined
from maskcon.errors import InputError, unreadable
from maskcon.eval.projection import MAPS, places
from maskcon.eval.retrieval import nearest_others
from maskcon.export import Request
from maskcon.runtime import files
from maskcon.runtime.progress import Progress
from maskcon.runtime.seeds import seed_of

PROJECTIONS = ("auto", *MAPS)
TSNE_POINTS = 5000  # t-SNE of more takes minutes


def write(
    request: Request,
    *,
    projection: str = "auto",
    neighbours: int = 15,
    thumbnail: int = 64,
    vectors: bool = False,
    seed: int = 0,
) -> dict[str, Any]:
    """Embed every picture of a set and write the table.

    Args:
        request: the encoder, and the set, of which all splits are in the table.
        projection: of x and y: one of `maskcon.eval.projection.MAPS`, or "auto", which is t-SNE
            of up to 5,000 pictures and PCA of more.
        neighbours: of each picture, fewer where there are not so many.
        thumbnail: longest side of the pictures in the table in pixels; 0 leaves them out.
        vectors: a column "vector" with the embeddings themselves.
        seed: of the projection.

    Returns:
        "images", "skipped" (reasons), "projection", "neighbours", "columns", "bytes".

    Raises:
        InputError: a picture cannot be read, there is but one, or a number is out of range.
    """
    _check(projection, neighbours, thumbnail, seed)
    found, progress = request.find(), request.progress
    pictures = joined(found)
    made = request.encoder.embed_readable(pictures, progress=progress)
    rows, embedded, skipped = made.rows, made.vectors, [why for _, why in made.errors]
    if skipped and not request.skip_unreadable:
        raise unreadable(skipped, len(pictures), "mend or remove them")
    count = len(rows)
    if count < 3:
        raise InputError(f"{found.name} has {count} pictures: a map needs three or more")
    if projection == "auto":
        projection = "tsne" if count <= TSNE_POINTS else "pca"
    points = places(embedded, projection, seed_of(seed, "map"), progress)
    progress.update("looking for neighbours")
    k = min(neighbours, count - 1)
    columns = {
        "id": pa.array(range(count), pa.int64()),
        **_labels(found, rows),
        "x": pa.array(points[:, 0]),
        "y": pa.array(points[:, 1]),
        "neighbors": _neighbours(embedded, k),
    }
    if thumbnail:
        columns["image"] = _thumbnails(found, rows, thumbnail, progress)
    if vectors:
        flat = pa.array(embedded.reshape(-1))
        columns["vector"] = pa.FixedSizeListArray.from_arrays(flat, embedded.shape[1])
    with files.replacing(request.out) as file:
        pyarrow.parquet.write_table(pa.table(columns), file)
    return {
        "images": count,
        "skipped": skipped,
        "projection": projection,
        "neighbours": k,
        "columns": list(columns),
        "bytes": request.out.stat().st_size,
    }


def _check(projection: str, neighbours: int, thumbnail: int, seed: int) -> None:
    if projection not in PROJECTIONS:
        raise InputError(f"projection is {projection!r}: expected one of {', '.join(PROJECTIONS)}")
    if neighbours < 1:
        raise InputError(f"neighbours is {neighbours}: expected 1 or more")
    for name, value in (("thumbnail", thumbnail), ("seed", seed)):
        if value < 0:
            raise InputError(f"{name} is {value}: expected 0 or more")


def _labels(found: Found, rows: np.ndarray) -> dict[str, pa.Array]:
    """Path, split and labels of rows."""
    pictures = joined(found)
    columns: dict[str, Sequence[str]] = {
        "path": [pictures.name(int(row)) for row in rows],
        "split": [name for name, part in found.parts.items() for _ in range(len(part))],
    }
    for level, names in (("coarse", found.coarse_names), ("fine", found.fine_names)):
        codes = [getattr(part, level) for part in found.parts.values()]
        if all(code is not None for code in codes):
            columns[level] = [names[int(code)] for code in torch.cat(codes)]
    return {
        name: pa.array(values if name == "path" else [values[int(row)] for row in rows])
        for name, values in columns.items()
    }


def _neighbours(vectors: np.ndarray, k: int) -> pa.Array:
    """The k nearest other rows of each, and 1 - cosine of each, nearest first."""
    nearest = nearest_others(torch.from_numpy(vectors), k)
    distances = (1 - nearest.scores).clamp(min=0).flatten().numpy()
    offsets = pa.array(np.arange(0, len(vectors) * k + 1, k), pa.int32())
    lists = [
        pa.ListArray.from_arrays(offsets, pa.array(values))
        for values in (nearest.ids.flatten().numpy(), distances)
    ]
    return pa.StructArray.from_arrays(lists, ["ids", "distances"])


def _thumbnails(found: Found, rows: np.ndarray, side: int, progress: Progress) -> pa.Array:
    """Small pictures as {"bytes", "path"}, which viewers of tables show."""
    pictures = joined(found)
    cells = []
    for place, row in enumerate(rows):
        if place % 256 == 0:
            progress.update(f"making thumbnails: {place:,} of {len(rows):,}")
        small = shrunk(pictures.decode(int(row)), side)
        cells.append({"bytes": small, "path": None})
    return pa.array(cells, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
