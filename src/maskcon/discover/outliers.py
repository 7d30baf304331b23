"""Pictures to look at first: they belong to no group, or seem to carry a wrong coarse label."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from maskcon.discover.groups import Division

NEAREST = 10  # pictures of all coarse classes that are looked at
MOST = 8  # of them in one other coarse class: the label may be wrong
LARGEST = 20_000  # pictures among which the nearest are looked for
_CHUNK = 1000  # pictures compared at a time


@dataclass(frozen=True)
class Outlier:
    """A picture that a person should look at.

    Attributes:
        row: of the picture.
        far: from all others of its group.
        nearer: coarse label that most of its nearest pictures have; None where it is its own,
            or no class has so many.
        count: of its nearest pictures in that class, of `NEAREST`.
    """

    row: int
    far: bool
    nearer: int | None
    count: int

    def reason(self, coarse: Sequence[str]) -> str:
        """In words, with the names of coarse labels."""
        reasons = ["far from all others of its group"] if self.far else []
        if self.nearer is not None:
            reasons.append(f"{self.count} of the {NEAREST} nearest are {coarse[self.nearer]}")
        return "; ".join(reasons)


def outliers(
    x: np.ndarray, coarse: np.ndarray, divisions: Sequence[Division], *, seed: int = 0
) -> list[Outlier]:
    """Pictures that lie far from their group, or among those of another coarse class.

    Far is what `maskcon.discover.groups.typical` calls so. A coarse label may be wrong where
    eight of the ten nearest pictures have one other label (a vote of neighbours, as Wilson
    edits a set: Asymptotic properties of nearest neighbor rules, 1972).

    Args:
        x: float32 [N, F] of unit length.
        coarse: label of each [N].
        divisions: of the coarse classes.
        seed: of the pictures that are looked among, where there are more than `LARGEST`.

    Returns:
        those that may carry a wrong label first, the others in the order of the rows.
    """
    far = np.zeros(len(x), bool)
    for division in divisions:
        far[division.rows[division.outlier]] = True
    label, count = votes(x, coarse, seed)
    other = (label != coarse) & (count >= MOST)
    rows = np.flatnonzero(far | other)
    rows = rows[np.lexsort((rows, -count[rows], ~other[rows]))]
    return [
        Outlier(int(r), bool(far[r]), int(label[r]) if other[r] else None, int(count[r]))
        for r in rows
    ]


def votes(x: np.ndarray, coarse: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The label that most of the ten nearest others of each row have, and how many [N], [N].

    Args:
        x: as `outliers` takes them.
        coarse: likewise.
        seed: likewise.
    """
    label, most = coarse.copy(), np.zeros(len(x), np.int64)
    among = np.arange(len(x))
    if len(x) > LARGEST:
        among = np.sort(np.random.default_rng(seed).choice(len(x), LARGEST, replace=False))
    if len(among) <= NEAREST:
        return label, most
    names, code = np.unique(coarse, return_inverse=True)
    place = np.full(len(x), -1)
    place[among] = np.arange(len(among))
    for rows in np.array_split(np.arange(len(x)), -(-len(x) // _CHUNK)):
        similarity = x[rows] @ x[among].T
        itself = place[rows] >= 0
        similarity[np.flatnonzero(itself), place[rows][itself]] = -np.inf
        nearest = among[np.argpartition(-similarity, NEAREST - 1, axis=1)[:, :NEAREST]]
        votes = np.zeros((len(rows), len(names)), np.int64)
        np.add.at(votes, (np.arange(len(rows))[:, None], code[nearest]), 1)
        label[rows], most[rows] = names[votes.argmax(1)], votes.max(1)
    return label, most
