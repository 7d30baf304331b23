"""An approximate search through inverted lists (IVF), by FAISS where it is installed."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from maskcon.errors import InputError

QUANTIZATIONS = ("int8", "half")  # numbers that a vector is kept as in the lists
LISTS = 4  # times the square root of the number of vectors: the lists that are made for them
LEAST = 39  # vectors for each list, below which FAISS warns that k-means has too few
SAMPLE = 64  # vectors for each list that k-means looks at
ROUNDS = 10  # of k-means
OUTGROWN = 2.0  # times as many lists as there are: then lists are made anew
PIECE = 65536  # vectors that are added together


def installed() -> bool:
    """Whether FAISS can be imported."""
    try:
        import faiss  # noqa: F401
    except ImportError:
        return False
    return True


def lists_for(count: int) -> int:
    """How many lists are made for so many vectors."""
    return max(1, min(round(LISTS * count**0.5), count // LEAST))


@dataclass(frozen=True)
class Lists:
    """Vectors of unit length, each in the list whose centroid is nearest; a search visits a few.

    A change gives a new record, and leaves the earlier one as it is.

    Attributes:
        index: of FAISS, an IndexIVFScalarQuantizer of inner products.
        keys: int64 [N], ascending: the number under which it knows each vector, since rows move up
            when others before them are removed, and numbers of vectors do not.
        probes: how many lists a search visits.
    """

    index: Any
    keys: np.ndarray
    probes: int = 1

    @classmethod
    def over(cls, vectors: np.ndarray, quantization: str) -> "Lists":
        """Make lists for vectors [N, F], and put these into them.

        The vectors may lie on the disk: a sample is read, and then all of them in pieces.

        Raises:
            InputError: FAISS is not installed.
        """
        faiss = _faiss()
        count, width = vectors.shape
        number = lists_for(count)
        index = faiss.IndexIVFScalarQuantizer(
            faiss.IndexFlatIP(width),
            width,
            number,
            _levels(faiss, quantization),
            faiss.METRIC_INNER_PRODUCT,
            False,  # of the vectors themselves, not of what their centroid leaves of them
        )
        index.cp.niter, index.cp.max_points_per_centroid = ROUNDS, SAMPLE
        some = np.random.default_rng(0).permutation(count)[: number * SAMPLE]
        index.train(np.ascontiguousarray(vectors[np.sort(some)], np.float32))
        return cls(index, np.empty(0, np.int64))._added(vectors)

    @classmethod
    def loaded(cls, content: np.ndarray, keys: np.ndarray, shape: tuple[int, int]) -> "Lists":
        """What `dump` gave [bytes], of vectors of a shape (N, F).

        FAISS believes what it reads: whoever calls this has seen that `dump` wrote these bytes.

        Raises:
            InputError: it is of other vectors.
        """
        faiss = _faiss()
        index = faiss.deserialize_index(np.ascontiguousarray(content))
        if (
            not isinstance(index, faiss.IndexIVFScalarQuantizer)
            or (index.ntotal, index.d) != shape
            or keys.shape != shape[:1]
            or bool((np.diff(keys) <= 0).any())
        ):
            raise InputError(f"its lists are not of its {shape} vectors: index anew")
        return cls(index, keys, index.nprobe)

    def dump(self) -> np.ndarray:
        """All but the keys as bytes, in FAISS's own form."""
        self.index.nprobe = self.probes  # where the form has it; searches are told by themselves
        return _faiss().serialize_index(self.index)

    @property
    def quantization(self) -> str:
        """What a vector is kept as, one of QUANTIZATIONS."""
        kind = self.index.sq.qtype
        return next(name for name in QUANTIZATIONS if _levels(_faiss(), name) == kind)

    def visiting(self, probes: int) -> "Lists":
        """The same vectors in the same lists, of which a search visits so many, at most all."""
        return replace(self, probes=min(probes, self.index.nlist))

    def outgrown(self, count: int) -> bool:
        """Whether so many vectors are too many for these lists: they would be long."""
        return lists_for(count) > OUTGROWN * self.index.nlist

    def changed(self, kept: np.ndarray, vectors: np.ndarray) -> "Lists":
        """With the rows that are kept [int64, ascending], and then more vectors [M, F].

        What is not kept is taken out of its list: nothing of it is left.
        """
        index = _faiss().clone_index(self.index)
        gone = np.delete(self.keys, kept)
        if len(gone):
            index.remove_ids(gone)
        return Lists(index, self.keys[kept], self.probes)._added(vectors)

    def _added(self, vectors: np.ndarray) -> "Lists":
        """With more vectors, which are put into the same record of FAISS."""
        first = int(self.keys[-1]) + 1 if len(self.keys) else 0
        new = np.arange(first, first + len(vectors), dtype=np.int64)
        for start in range(0, len(vectors), PIECE):
            some = slice(start, start + PIECE)
            piece = np.ascontiguousarray(vectors[some], np.float32)
            self.index.add_with_ids(piece, new[some])
        return replace(self, keys=np.concatenate([self.keys, new]))

    def near(self, queries: np.ndarray, k: int) -> np.ndarray:
        """Rows near to each query, int64 [Q, k]; -1 where fewer were found."""
        visit = _faiss().SearchParametersIVF(nprobe=self.probes)
        found = self.index.search(np.ascontiguousarray(queries, np.float32), k, params=visit)[1]
        rows = np.searchsorted(self.keys, found).clip(max=len(self.keys) - 1)
        return np.where(self.keys[rows] == found, rows, -1)


def _levels(faiss: Any, quantization: str) -> int:
    quantizer = faiss.ScalarQuantizer
    return {"int8": quantizer.QT_8bit, "half": quantizer.QT_fp16}[quantization]


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise InputError(
            "kind is ivf, and FAISS is not installed: pip install 'maskcon[faiss]', or give "
            "--kind exact"
        ) from error
    return faiss
