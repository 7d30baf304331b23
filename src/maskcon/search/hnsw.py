"""An approximate search through a graph of neighbours (HNSW), by FAISS where it is installed."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from maskcon.errors import InputError

LINKS = 32  # of each vector to others (M)
BUILD = 100  # candidates while the graph is built (efConstruction)
VISIT = 128  # candidates while it is searched (efSearch), at least


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

        FAISS believes what it reads: whoever calls this has seen that `dump` wrote these bytes.

        Raises:
            InputError: it is of other vectors, or they are not finite.
        """
        faiss = _faiss()
        index = faiss.deserialize_index(np.ascontiguousarray(content))
        if (index.ntotal, index.d) != vectors.shape:
            raise InputError(f"its graph is not one over {vectors.shape} vectors: index anew")
        if not np.isfinite(vectors).all():
            raise InputError("its vectors are not finite: index anew")
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


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise InputError(
            "kind is hnsw, and FAISS is not installed: pip install 'maskcon[faiss]', or give "
            "--kind exact"
        ) from error
    return faiss
