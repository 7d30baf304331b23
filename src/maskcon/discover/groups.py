"""The groups of every coarse class: how many, who is in them, and how sure that is."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from maskcon.discover.kmeans import UNKNOWN, grouped
from maskcon.discover.number import Number, number_of
from maskcon.discover.spectral import spectral
from maskcon.eval.retrieval import nearest_others
from maskcon.eval.rows import by_class, check_rows
from maskcon.runtime.progress import Progress, Silent

MOST = 30  # groups that an estimate may find in a coarse class
NEAREST = 10  # of an image's group, that say how typical it is
FOLDS = 5  # in which known images are left out
SMALL_GROUP = 8  # images; a group of fewer has no outliers


@dataclass(frozen=True)
class Division:
    """One coarse class and its groups, the largest first.

    Attributes:
        label: of the coarse class.
        rows: of its images, int64 [n].
        number: of groups, k; it may be less than `found` says where images are equal.
        found: how that number was found.
        group: of each image, int64 [n] in 0..k - 1.
        confidence: in (0, 1] of each [n], as `maskcon.discover.kmeans.confidence` has it.
        rank: 1 for the most typical image of each group, 2 for the next [n].
        outlier: images that are far from all others of their group, bool [n].
        names: known label of each group, `UNKNOWN` where there is none [k].
        tested, right: known images that were left out, and those of them that came into the
            group of their name.
    """

    label: int
    rows: np.ndarray
    number: int
    found: Number
    group: np.ndarray
    confidence: np.ndarray
    rank: np.ndarray
    outlier: np.ndarray
    names: tuple[int, ...]
    tested: int = 0
    right: int = 0

    def members(self, group: int) -> np.ndarray:
        """Places in `rows` of a group's images, the most typical first."""
        inside = np.flatnonzero(self.group == group)
        return inside[np.argsort(self.rank[inside])]


def discover(
    features: Tensor,
    coarse: Tensor,
    *,
    numbers: Mapping[int, int] | None = None,
    known: Tensor | None = None,
    most: int = MOST,
    subsamples: int = 10,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[Division, ...]:
    """Divide each coarse class into groups, their number estimated.

    The number is `number_of`'s, the groups are k-means of the rows that `spectral` makes.

    Args:
        features: [N, F] of unit length.
        coarse: coarse label of each image [N].
        numbers: of groups, by coarse label, in place of an estimate.
        known: fine label of each image where it is known, `UNKNOWN` (-1) elsewhere [N]. A group
            is made for each that occurs in a coarse class, so there are at least as many.
        most: groups that an estimate may find.
        subsamples: for the interval of each number.
        seed: of all that is drawn.
        progress: told how far it is.

    Returns:
        one division for each coarse label that occurs, in their order.

    Raises:
        InputError: features or labels that cannot be judged.
    """
    check_rows(features, coarse, known, name="embedded", least=1)
    say = (progress or Silent()).update
    x = features.detach().cpu().float().numpy()
    labels = None if known is None else known.cpu().numpy()
    divisions = []
    classes = by_class(coarse.cpu())
    for i, members in enumerate(classes, 1):
        say(f"dividing coarse classes: {i} of {len(classes)}, {len(members):,} images")
        rows = members.numpy()
        label = int(coarse[rows[0]])
        told = np.full(len(rows), UNKNOWN) if labels is None else labels[rows]
        number = number_of(
            x[rows],
            given=(numbers or {}).get(label),
            names=len(np.unique(told[told != UNKNOWN])),
            most=most,
            subsamples=subsamples,
            seed=seed,
        )
        divisions.append(_divided(label, rows, x[rows], number, told, seed))
    return tuple(divisions)


def _divided(
    label: int, rows: np.ndarray, x: np.ndarray, number: Number, told: np.ndarray, seed: int
) -> Division:
    """One coarse class in so many groups."""
    k = number.number
    z = spectral(x, k, seed=seed)
    names = np.unique(told[told != UNKNOWN])
    known = np.where(told == UNKNOWN, UNKNOWN, np.searchsorted(names, told))
    found = grouped(z, k, known=known, seed=seed)
    sizes = np.bincount(found.group, minlength=k)
    order = np.argsort(-sizes, kind="stable")[: np.count_nonzero(sizes)]
    place = np.full(k, UNKNOWN)
    place[order] = np.arange(len(order))
    group = place[found.group]
    rank, outlier = typical(x, group)
    right, tested = left_out(z, k, known, seed)
    return Division(
        label=label,
        rows=rows,
        number=len(order),
        found=number,
        group=group,
        confidence=found.confidence,
        rank=rank,
        outlier=outlier,
        names=tuple(int(names[g]) if g < len(names) else UNKNOWN for g in order),
        tested=tested,
        right=right,
    )


def typical(x: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rank of each row in its group, the most typical first, and whether it is an outlier.

    A row is as typical as its ten nearest in the group are near, by mean cosine similarity; an
    outlier lies below the lower quartile of its group by 1.5 times the distance of the quartiles
    (Tukey).

    Args:
        x: float32 [N, F] of unit length.
        group: of each row, int64 [N] in 0..k - 1.

    Returns:
        rank int64 [N] from 1, outlier bool [N]; a group of fewer than 8 has no outliers.
    """
    rank, outlier = np.ones(len(x), np.int64), np.zeros(len(x), bool)
    for g in range(group.max(initial=UNKNOWN) + 1):
        members = np.flatnonzero(group == g)
        if len(members) < 2:
            continue
        found = nearest_others(torch.from_numpy(x[members]), min(NEAREST, len(members) - 1))
        near = found.scores.double().mean(1).numpy()
        rank[members[np.argsort(-near, kind="stable")]] = np.arange(1, len(members) + 1)
        if len(members) >= SMALL_GROUP:
            low, high = np.quantile(near, [0.25, 0.75])
            outlier[members] = near < low - 1.5 * (high - low) - 1e-6  # the roundings of equal rows
    return rank, outlier


def left_out(z: np.ndarray, number: int, known: np.ndarray, seed: int) -> tuple[int, int]:
    """How many known rows come into the group of their name when their own name is not told.

    Of each name's rows a fifth at a time is left out and grouped anew with all others. A name
    that is known once only cannot be left out.

    Args:
        z: rows as `grouped` takes them [N, D].
        number: of groups.
        known: group of each row, `UNKNOWN` elsewhere [N].
        seed: of the folds and the groups.

    Returns:
        (right, tested).
    """
    random = np.random.default_rng(seed)
    fold = np.full(len(known), UNKNOWN)
    for name in range(known.max(initial=UNKNOWN) + 1):
        rows = random.permutation(np.flatnonzero(known == name))
        if len(rows) > 1:
            fold[rows] = np.arange(len(rows)) % min(FOLDS, len(rows))
    right = 0
    for f in range(fold.max(initial=UNKNOWN) + 1):
        hidden = fold == f
        told = np.where(hidden, UNKNOWN, known)
        found = grouped(z, number, known=told, seed=seed)
        right += int((found.group[hidden] == known[hidden]).sum())
    return right, int((fold != UNKNOWN).sum())
