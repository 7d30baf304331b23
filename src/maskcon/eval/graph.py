"""The graph of each row's nearest others, its spectrum, and how well it falls apart."""

import numpy as np
import torch
from scipy.linalg import qr
from scipy.sparse import csr_array
from scipy.sparse.linalg import LinearOperator, eigsh

from maskcon.eval.retrieval import nearest_others


def neighbour_graph(z: np.ndarray, count: int) -> csr_array:
    """The graph in which each row is joined with its nearest others; a pair of both counts double.

    Args:
        z: rows of unit length [N, F], N of two or more.
        count: neighbours of each by cosine similarity, fewer where there are fewer rows.

    Returns:
        symmetric weights [N, N], 0, 1/2 or 1.
    """
    n = len(z)
    count = min(count, n - 1)
    nearest = nearest_others(torch.from_numpy(z), count).ids.numpy()  # [N, count]
    rows = np.repeat(np.arange(n), count)
    joined = csr_array((np.full(n * count, 0.5), (rows, nearest.ravel())), shape=(n, n))
    return csr_array(joined + joined.T)


def leading(graph: csr_array, count: int, added: float = 0.0) -> np.ndarray:
    """Eigenvectors of the normalised graph with the largest eigenvalues, [N, count].

        D^-1/2 (A + r/N) D^-1/2

    with A the weights, D the degrees, and r a little that is added to every pair, so that a
    handful of rows which are joined with each other alone are no part of their own (Amini et
    al., Annals of Statistics 2013).

    Args:
        graph: symmetric weights [N, N].
        count: eigenvectors.
        added: r, as a share of the mean degree.
    """
    n = graph.shape[0]
    degree = np.asarray(graph.sum(1)).ravel()
    r = added * degree.mean()
    scale = 1 / np.sqrt(degree + r)
    if n < 4 * count + 20:
        normal = scale[:, None] * (graph.toarray() + r / n) * scale
        return np.linalg.eigh(normal)[1][:, ::-1][:, :count]

    def product(v: np.ndarray) -> np.ndarray:
        scaled = scale * v.ravel()
        return scale * (graph @ scaled + r / n * scaled.sum())

    operator = LinearOperator((n, n), matvec=product, dtype=np.float64)
    start = np.random.default_rng(0).normal(size=n)  # the same vectors every time
    values, vectors = eigsh(operator, count, which="LA", v0=start)
    return vectors[:, np.argsort(-values)]


def divisions(graph: csr_array, most: int) -> dict[int, float]:
    """Modularity of the spectral division of a graph into each number of clusters, 1 to `most`."""
    vectors = leading(graph, most)  # [N, most]
    scores = {1: 0.0}
    for k in range(2, vectors.shape[1] + 1):
        scores[k] = modularity(graph, divided(vectors[:, :k]), k)
    return scores


def divided(vectors: np.ndarray) -> np.ndarray:
    """The cluster of each row: the axis it is nearest to, after the rotation that fits best.

    Pivoted QR chooses rows that are as orthogonal as can be, one of each cluster; the rotation
    turns them onto the axes.

    Args:
        vectors: leading eigenvectors [N, k].

    Returns:
        int64 [N] in 0..k - 1.
    """
    k = vectors.shape[1]
    chosen = qr(vectors.T, mode="r", pivoting=True)[1][:k]
    left, _, right = np.linalg.svd(vectors[chosen].T)
    return np.abs(vectors @ (left @ right)).argmax(1)


def modularity(graph: csr_array, cluster: np.ndarray, k: int) -> float:
    """How much more weight lies inside clusters than chance would put there.

        sum over clusters c of  inside(c) / total - (degree(c) / total)^2

    Args:
        graph: symmetric weights [N, N].
        cluster: of each row, 0..k - 1.
        k: clusters.
    """
    member = np.zeros((len(cluster), k))
    member[np.arange(len(cluster)), cluster] = 1
    degree = np.asarray(graph.sum(1)).ravel() @ member  # [k]
    total = degree.sum()
    inside = (member * (graph @ member)).sum()
    return float(inside / total - ((degree / total) ** 2).sum())
