"""k-means on the sphere, some of whose rows may have a group already."""

from dataclasses import dataclass

import numpy as np

from maskcon.discover.spectral import unit

RESTARTS = 10
ROUNDS = 100  # at most; it usually stands still after ten
TEMPERATURE = 0.3  # of the confidence
UNKNOWN = -1


@dataclass(frozen=True)
class Grouped:
    """Rows in groups.

    Attributes:
        group: int64 [N] in 0..k - 1; groups that were known come first.
        confidence: share in (0, 1] of the own group [N], as `confidence` has it.
        fit: mean cosine similarity of rows and their groups' centres.
    """

    group: np.ndarray
    confidence: np.ndarray
    fit: float


def grouped(
    z: np.ndarray, number: int, *, known: np.ndarray | None = None, seed: int = 0
) -> Grouped:
    """The best of ten k-means by cosine similarity.

    Rows whose group is known stay in it, and their means are the first centres (Basu, Banerjee
    & Mooney, Semi-supervised Clustering by Seeding, ICML 2002, constrained); the other centres
    are drawn far from these (k-means++).

    Args:
        z: [N, D] of unit length.
        number: of groups, k, no fewer than are known.
        known: group of each row, int64 [N], `UNKNOWN` where it is not known; those that occur
            are 0, 1, ... without a gap.
        seed: of the centres that are drawn.
    """
    if known is None:
        known = np.full(len(z), UNKNOWN)
    random = np.random.default_rng(seed)
    return max((_once(z, number, known, random) for _ in range(RESTARTS)), key=lambda g: g.fit)


def _once(z: np.ndarray, number: int, known: np.ndarray, random: np.random.Generator) -> Grouped:
    centres = _first_centres(z, number, known, random)
    clamped = known != UNKNOWN
    group = np.full(len(z), UNKNOWN)
    for _ in range(ROUNDS):
        before, group = group, np.where(clamped, known, (z @ centres.T).argmax(1))
        if (before == group).all():
            break
        sums = np.zeros_like(centres)
        np.add.at(sums, group, z)
        filled = np.bincount(group, minlength=number) > 0
        centres[filled] = unit(sums[filled])  # an empty group keeps its centre
    similarity = z @ centres.T
    fit = float(similarity[np.arange(len(z)), group].mean())
    return Grouped(group, confidence(similarity, group), fit)


def _first_centres(
    z: np.ndarray, number: int, known: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """Means of the known rows, then rows drawn by their distance to the centres before."""
    centres = [unit(z[known == name].mean(0)) for name in range(known.max(initial=UNKNOWN) + 1)]
    while len(centres) < number:
        if centres:
            far = np.maximum(1 - (z @ np.stack(centres).T).max(1), 0)
            chances = far / far.sum() if far.sum() > 1e-9 else None
        else:
            chances = None
        centres.append(z[random.choice(len(z), p=chances)])
    return np.stack(centres)


def confidence(similarity: np.ndarray, group: np.ndarray) -> np.ndarray:
    """How much nearer a row is to its own group's centre than to the others'.

        exp(s_own / 0.3) / sum over groups j of exp(s_j / 0.3)

    with s the cosine similarities: 1 / k where all are alike, 0.88 at the centre of one of five
    groups that lie apart, 1 where there is one group. It is no probability of being right,
    which nobody can know without labels, but it ranks images by it.

    Args:
        similarity: of rows and centres [N, k].
        group: of each row, int64 [N].
    """
    scores = similarity / TEMPERATURE
    weights = np.exp(scores - scores.max(1, keepdims=True))
    return weights[np.arange(len(group)), group] / weights.sum(1)
