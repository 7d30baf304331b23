"""A coarse class as rows in which its groups lie apart: the spectrum of its neighbours' graph."""

import numpy as np

from maskcon.eval.graph import leading, neighbour_graph

NEIGHBOURS = 15  # that each image is joined with
REGULAR = 0.1  # share of the mean degree that is spread over all pairs
LARGEST = 20_000  # rows whose graph is made; more are placed by their neighbours among these


def spectral(x: np.ndarray, number: int, *, seed: int = 0) -> np.ndarray:
    """Rows that lie apart where the groups of x are but loosely joined.

    Each row is joined with its 15 nearest by cosine similarity, the neighbours that Recall@K
    counts. The leading eigenvectors of that graph (`maskcon.eval.graph.leading`), one for each
    group, have rows that, made of unit length, lie near to as many orthogonal directions (Ng,
    Jordan & Weiss, NIPS 2001). What is added to every pair keeps a handful of near duplicates
    from being a group. Groups need not be round.

    Args:
        x: float32 [N, F] of unit length.
        number: of groups, k; no more than there are different rows.
        seed: of the sample that is taken of more than 20,000 rows.

    Returns:
        float64 [N, k] of unit length; for one group, all ones.
    """
    if number == 1:
        return np.ones((len(x), 1))
    if len(x) <= LARGEST:
        return _embedded(x, number)
    chosen = np.sort(np.random.default_rng(seed).choice(len(x), LARGEST, replace=False))
    placed = np.empty((len(x), number))
    placed[chosen] = _embedded(x[chosen], number)
    others = np.setdiff1d(np.arange(len(x)), chosen)
    for rows in np.array_split(others, -(-len(others) // 1000)):
        similarity = x[rows] @ x[chosen].T
        nearest = np.argpartition(-similarity, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
        placed[rows] = unit(placed[chosen[nearest]].mean(1))
    return placed


def _embedded(x: np.ndarray, number: int) -> np.ndarray:
    """The leading eigenvectors of the graph of all rows, as rows of unit length [N, number]."""
    return unit(leading(neighbour_graph(x, NEIGHBOURS), number, REGULAR))


def unit(rows: np.ndarray) -> np.ndarray:
    """The rows, each of length one; zeros stay zeros."""
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)
