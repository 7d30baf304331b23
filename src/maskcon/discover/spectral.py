"""A coarse class as rows in which its groups lie apart: the spectrum of its neighbours' graph."""

import numpy as np
import torch
from scipy.sparse import csr_array
from scipy.sparse.linalg import LinearOperator, eigsh

from maskcon.eval.retrieval import nearest_others

NEIGHBOURS = 15  # that each image is joined with
REGULAR = 0.1  # share of the mean degree that is spread over all pairs
LARGEST = 20_000  # rows whose graph is made; more are placed by their neighbours among these


def spectral(x: np.ndarray, number: int, *, seed: int = 0) -> np.ndarray:
    """Rows that lie apart where the groups of x are but loosely joined.

    Each row is joined with its 15 nearest by cosine similarity, the neighbours that Recall@K
    counts. With A the weights and D the degrees of that graph, a little added to every pair,

        D^-1/2 (A + r/N) D^-1/2

    has leading eigenvectors, one for each group, whose rows, made of unit length, lie near to
    as many orthogonal directions (Ng, Jordan & Weiss, NIPS 2001). What is added keeps a handful
    of near duplicates, which are joined with each other alone, from being a group (Amini et
    al., Annals of Statistics 2013). Groups need not be round.

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
    n = len(x)
    count = min(NEIGHBOURS, n - 1)
    nearest = nearest_others(torch.from_numpy(x), count).ids.numpy()
    rows = np.repeat(np.arange(n), count)
    joined = csr_array((np.full(n * count, 0.5), (rows, nearest.ravel())), shape=(n, n))
    graph = csr_array(joined + joined.T)
    degree = np.asarray(graph.sum(1)).ravel()
    added = REGULAR * degree.mean()
    scale = 1 / np.sqrt(degree + added)
    if n < 4 * number + 20:
        normal = scale[:, None] * (graph.toarray() + added / n) * scale
        return unit(np.linalg.eigh(normal)[1][:, ::-1][:, :number])

    def product(v: np.ndarray) -> np.ndarray:
        scaled = scale * v.ravel()
        return scale * (graph @ scaled + added / n * scaled.sum())

    operator = LinearOperator((n, n), matvec=product, dtype=np.float64)
    start = np.random.default_rng(0).normal(size=n)  # the same vectors every time
    values, vectors = eigsh(operator, number, which="LA", v0=start)
    return unit(vectors[:, np.argsort(-values)])


def unit(rows: np.ndarray) -> np.ndarray:
    """The rows, each of length one; zeros stay zeros."""
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)
