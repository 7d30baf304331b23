"""An approximate search through a graph of neighbours (HNSW), by FAISS where it is installed."""

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from maskcon.errors import InputError

LINKS = 32  # of each vector to others (M)
BUILD = 100  # candidates while the graph is built (efConstruction)
VISIT = 128  # candidates while it is searched (efSearch), at least
# A graph in FAISS's own form, without its vectors: kind, F, N, two unused, trained, metric; lists
# (bytes of an item), each with its length in front; five numbers, and that there are no vectors.
_HEAD, _LISTS, _TAIL = struct.Struct("<4siqqq?i"), (8, 4, 4, 8, 4), struct.Struct("<5i4s")


def installed() -> bool:
    """Whether FAISS can be imported."""
    try:
        import faiss  # noqa: F401
    except ImportError:
        return False
    return True


@dataclass(frozen=True)
class Graph:
    """A graph over vectors of unit length, so that the nearest are those of largest cosine.

    Attributes:
        index: of FAISS, with the vectors.
    """

    index: Any

    @classmethod
    def over(cls, vectors: np.ndarray) -> "Graph":
        """Build the graph of vectors [N, F].

        Raises:
            InputError: FAISS is not installed.
        """
        faiss = _faiss()
        index = faiss.IndexHNSWFlat(vectors.shape[1], LINKS)
        index.hnsw.efConstruction = BUILD
        index.add(np.ascontiguousarray(vectors, np.float32))
        return cls(index)

    @classmethod
    def loaded(cls, content: np.ndarray, vectors: np.ndarray) -> "Graph":
        """The graph that `dump` gave [bytes] over the same vectors [N, F].

        Raises:
            InputError: it is damaged, or of other vectors.
        """
        faiss = _faiss()
        _check_lengths(content.tobytes(), vectors.shape)
        try:
            index = faiss.deserialize_index(np.ascontiguousarray(content))
        except RuntimeError as error:
            raise InputError(f"its graph is damaged: {error}") from error
        if not np.isfinite(vectors).all():
            raise InputError("its vectors are not finite: index anew")
        if not _whole(index.hnsw, len(vectors)):
            raise InputError("its graph is damaged: it is_main to vectors that are not there")
        flat = faiss.IndexFlatL2(vectors.shape[1])
        flat.add(np.ascontiguousarray(vectors, np.float32))
        index.storage = flat
        flat.this.disown()  # it now belongs to the graph
        index.own_fields = True
        return cls(index)

    def dump(self) -> np.ndarray:
        """The graph as bytes, without the vectors."""
        faiss = _faiss()
        return faiss.serialize_index(self.index, faiss.IO_FLAG_SKIP_STORAGE)

    def near(self, queries: np.ndarray, k: int) -> np.ndarray:
        """Rows near to each query, int64 [Q, k]; -1 where fewer were found."""
        self.index.hnsw.efSearch = max(VISIT, 2 * k)
        return self.index.search(np.ascontiguousarray(queries, np.float32), k)[1]


def _check_lengths(content: bytes, shape: tuple[int, ...]) -> None:
    """Raise `InputError` where the lists of a graph are not as long as its bytes.

    FAISS makes room for as much as they say, and reads indices of any kind inside of one another.
    """
    try:
        kind, width, count, _, _, trained, metric = _HEAD.unpack_from(content)
        place = _HEAD.size
        for item in _LISTS:
            (length,) = struct.unpack_from("<Q", content, place)
            place += 8 + length * item
        if len(content) - place != _TAIL.size or _TAIL.unpack_from(content, place)[-1] != b"null":
            raise ValueError(f"its lists are of {place:,} bytes, and it has {len(content):,}")
    except (struct.error, ValueError) as error:
        raise InputError(f"its graph is damaged: {error}") from error
    if (kind, count, width, trained, metric) != (b"IHNf", *shape, True, 1):
        raise InputError(f"its graph is not one over {shape} vectors")


def _whole(graph: Any, count: int) -> bool:
    """Whether every link of a graph leads to one of its vectors; FAISS itself does not look."""
    import faiss

    links, offsets, levels = (
        faiss.vector_to_array(part) for part in (graph.neighbors, graph.offsets, graph.levels)
    )
    steps = faiss.vector_to_array(graph.cum_nneighbor_per_level)
    if len(levels) != count or len(offsets) != count + 1 or offsets[-1] != len(links):
        return False
    if not 0 <= graph.entry_point < count or not 0 <= graph.max_level < len(steps):
        return False
    if levels.min() < 1 or levels.max() >= len(steps) or (np.diff(steps) < 0).any():
        return False
    room = np.diff(offsets.astype(np.int64))
    return bool((room == steps[levels]).all() and links.min() >= -1 and links.max() < count)


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise InputError(
            "kind is hnsw, and FAISS is not installed: pip install 'maskcon[faiss]', or give "
            "--kind exact"
        ) from error
    return faiss
