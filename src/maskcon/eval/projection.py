"""Features of many dimensions on a plane: where each picture lies on a map."""

from collections.abc import Callable
from importlib import import_module

import numpy as np

from maskcon.errors import InputError
from maskcon.runtime.progress import Progress, Silent

LANDMARKS = 5000  # points that t-SNE places itself; 5,000 take about a minute on one core
COMPONENTS = 50  # that t-SNE looks at
NEIGHBOURS = 5  # landmarks that place another point
CLOSE = 0.03  # of the map: landmarks farther from the nearest one have no say


def places(
    features: np.ndarray, how: str, seed: int, progress: Progress | None = None
) -> np.ndarray:
    """Positions on the map.

    Args:
        features: float32 [n, F], unit length.
        how: "tsne", "umap" or "pca".
        seed: of what is drawn.
        progress: told what goes on.

    Returns:
        float32 [n, 2], each in [0, 1]; the longer side of the map is filled.

    Raises:
        InputError: an unknown kind of map, or umap-learn is not installed.
    """
    if how not in MAPS:
        raise InputError(f"map is {how!r}: expected one of {', '.join(MAPS)}")
    (progress or Silent()).update(f"placing {len(features):,} pictures on the map ({how})")
    random = np.random.default_rng(seed)
    spots = MAPS[how](features, seed, random).astype(np.float64)
    spots -= spots.min(0)
    spots /= max(float(spots.max()), 1e-12)
    return (spots + (1 - spots.max(0)) / 2).astype(np.float32)  # the shorter side in the middle


def _pca(x: np.ndarray, seed: int, random: np.random.Generator) -> np.ndarray:
    return components(x, 2)


def _tsne(x: np.ndarray, seed: int, random: np.random.Generator) -> np.ndarray:
    if len(x) < 8:  # too few to have neighbourhoods
        return components(x, 2)
    from sklearn.manifold import TSNE

    order = random.permutation(len(x)) if len(x) > LANDMARKS else np.arange(len(x))
    chosen, others = order[:LANDMARKS], order[LANDMARKS:]
    landmarks = components(x, COMPONENTS)[chosen]
    start = landmarks[:, :2] / max(float(landmarks[:, 0].std()), 1e-12) * 1e-4
    start = start + random.normal(scale=1e-7, size=start.shape)  # equal pictures, too, may part
    perplexity = min(30.0, (len(landmarks) - 1) / 3)
    tsne = TSNE(perplexity=perplexity, init=start.astype(np.float32), random_state=seed)
    spots = tsne.fit_transform(landmarks.astype(np.float32))
    placed = np.empty((len(x), 2))
    placed[chosen] = spots
    placed[others] = beside(x[others], x[chosen], spots, random)
    return placed


def _umap(x: np.ndarray, seed: int, random: np.random.Generator) -> np.ndarray:
    try:
        umap = import_module("umap")
    except ImportError as error:
        raise InputError(
            "map is 'umap', which needs umap-learn: pip install umap-learn, or take tsne or pca"
        ) from error
    if len(x) < 8:
        return components(x, 2)
    return umap.UMAP(n_neighbors=min(15, len(x) - 1), random_state=seed, n_jobs=1).fit_transform(x)


MAPS: dict[str, Callable[[np.ndarray, int, np.random.Generator], np.ndarray]] = {
    "tsne": _tsne,
    "umap": _umap,
    "pca": _pca,
}


def components(x: np.ndarray, count: int) -> np.ndarray:
    """Principal components of rows, float64 [n, count]; 0 where there are fewer.

    The sign of each is such that its largest entry is positive.
    """
    centred = x.astype(np.float64) - x.mean(0, dtype=np.float64)
    axes = np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, :count]
    found = centred @ axes
    largest = found[np.abs(found).argmax(0), np.arange(found.shape[1])]
    found *= np.where(largest < 0, -1, 1)
    return np.pad(found, ((0, 0), (0, count - found.shape[1])))


def beside(
    x: np.ndarray, landmarks: np.ndarray, spots: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """Places of other rows, among the landmarks that they are most similar to.

    The mean of the nearest five, but only of those that lie near the nearest one: a mean over
    two islands would be in the sea. A little scatter keeps points from lying on each other.

    Args:
        x: float32 [n, F] of unit length.
        landmarks: likewise [m, F], more than `NEIGHBOURS`.
        spots: where they lie [m, 2].
        random: draws the scatter.
    """
    from sklearn.neighbors import NearestNeighbors

    extent = float(np.ptp(spots, 0).max())
    gap = np.median(NearestNeighbors(n_neighbors=2).fit(spots).kneighbors(spots)[0][:, 1])
    found = np.empty((len(x), 2))
    for start in range(0, len(x), 2048):
        similarity = x[start : start + 2048] @ landmarks.T
        near = np.argpartition(-similarity, NEIGHBOURS, 1)[:, :NEIGHBOURS]
        score = np.take_along_axis(similarity, near, 1)
        nearest = np.take_along_axis(near, score.argmax(1)[:, None], 1)
        away = np.linalg.norm(spots[near] - spots[nearest], axis=2)
        weight = (away < CLOSE * extent)[:, :, None]
        found[start : start + 2048] = (spots[near] * weight).sum(1) / weight.sum(1)
    return found + random.normal(scale=gap / 2, size=found.shape)
