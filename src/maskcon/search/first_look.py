"""A first look at vectors in half precision, for one query after another among the same ones."""

import numpy as np
import torch
from torch import Tensor

LEAST = 2**22  # numbers of vectors below which an exact look takes less than a millisecond
PIECE = 2**22  # numbers that are copied together
# How far two similarities may be from their difference in half precision, twice over: a number
# rounds by 2^-11 of it, so do both unit vectors and then their similarity, which is 3 x 2^-11 for
# each of the two; what sums in float32 lose is far below.
SLACK = 2.0**-8
SHARE = 8  # of the rows, as a divisor: where more are left, the look has not been worth it


class FirstLook:
    """Which rows the nearest to a query are among, found by reading half of the bytes.

    A single query takes as long as memory takes to be read. The copy is made at the second query:
    a process that asks once does not pay for it.
    """

    def __init__(self) -> None:
        self._asked = 0
        self._half: Tensor | None = None

    def among(self, vectors: np.ndarray, query: np.ndarray, count: int) -> np.ndarray | None:
        """Rows that have the nearest among them; None where all are to be looked at.

        Args:
            vectors: float32 [N, F], unit length, always the same.
            query: float32 [F], unit length.
            count: of the nearest that must be among them.

        Returns:
            int64 [C], ascending; at least `count`.
        """
        self._asked += 1
        if self._asked < 2 or vectors.size < LEAST or count * SHARE > len(vectors):
            return None
        if self._half is None:
            self._half = _copy(vectors)
        near = (self._half @ torch.from_numpy(query).half()).float()  # [N]
        best = near.topk(count).values
        if not bool(best.isfinite().all()):  # a damaged index: an exact look tells
            return None
        rows = (near >= best[-1] - SLACK).nonzero()[:, 0].numpy()
        return rows if len(rows) * SHARE <= len(vectors) else None


def _copy(vectors: np.ndarray) -> Tensor:
    """Vectors, which may lie on the disk, in half precision: float16 [N, F]."""
    half = np.empty(vectors.shape, np.float16)
    step = max(1, PIECE // vectors.shape[1])
    for start in range(0, len(vectors), step):
        half[start : start + step] = vectors[start : start + step]
    return torch.from_numpy(half)
