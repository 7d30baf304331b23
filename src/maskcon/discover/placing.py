"""New pictures among groups that are there: the group of each, or none that is near enough."""

from dataclasses import dataclass

import numpy as np
import torch

from maskcon.discover.groups import NEAREST, SMALL_GROUP
from maskcon.eval.retrieval import nearest_others

_CHUNK = 1000  # pictures placed at a time


@dataclass(frozen=True)
class Placed:
    """New pictures and the group that is nearest to each.

    Attributes:
        group: int64 [M].
        distance: from that group [M], as `distances` has it.
        limit: of that group [M], beyond which a picture belongs to none.
    """

    group: np.ndarray
    distance: np.ndarray
    limit: np.ndarray

    @property
    def new(self) -> np.ndarray:
        """Which pictures belong to no group, bool [M]."""
        return self.distance > self.limit


def placed(
    x: np.ndarray, members: np.ndarray, group: np.ndarray, allowed: np.ndarray | None = None
) -> Placed:
    """Place pictures into groups.

    Args:
        x: of new pictures, float32 [M, F] of unit length.
        members: of the groups, float32 [N, F] of unit length.
        group: of each member, int64 [N] in 0..k - 1, none empty.
        allowed: groups that each new picture may belong to, bool [M, k], one at least.
    """
    distance = distances(x, members, group)
    if allowed is not None:
        distance = np.where(allowed, distance, np.inf)
    nearest = distance.argmin(1)
    least = distance[np.arange(len(x)), nearest]
    return Placed(nearest, least, limits(members, group)[nearest])


def distances(x: np.ndarray, members: np.ndarray, group: np.ndarray) -> np.ndarray:
    """1 less the mean cosine similarity of each row and its ten nearest of each group [M, k].

    Of a group of n up to ten, n - 1 are looked at, as many as a member has beside itself.
    """
    found = np.empty((len(x), int(group.max()) + 1))
    of = [np.flatnonzero(group == g) for g in range(found.shape[1])]
    for start in range(0, len(x), _CHUNK):
        rows = slice(start, start + _CHUNK)
        similarity = x[rows] @ members.T
        for g, inside in enumerate(of):
            k = max(1, min(NEAREST, len(inside) - 1))
            nearest = -np.partition(-similarity[:, inside], k - 1, axis=1)[:, :k]
            found[rows, g] = 1 - nearest.mean(1, dtype=np.float64)
    return found


def limits(members: np.ndarray, group: np.ndarray) -> np.ndarray:
    """How far from each group its pictures may be, by its own spread [k].

    Above the upper quartile of its members' distances by 1.5 times the distance of the quartiles
    (Tukey): what `discover` calls an outlier inside a group is beyond. A group of fewer than 8
    has the limit of all members of all groups together.
    """
    own = np.full(len(members), np.nan)
    sizes = np.bincount(group)
    for g in np.flatnonzero(sizes > 1):
        inside = np.flatnonzero(group == g)
        found = nearest_others(torch.from_numpy(members[inside]), min(NEAREST, len(inside) - 1))
        own[inside] = 1 - found.scores.double().mean(1).numpy()
    together = _fence(own[~np.isnan(own)])
    return np.array(
        [_fence(own[group == g]) if n >= SMALL_GROUP else together for g, n in enumerate(sizes)]
    )


def _fence(values: np.ndarray) -> float:
    if not len(values):
        return 0.0
    low, high = np.quantile(values, [0.25, 0.75])
    return float(high + 1.5 * (high - low) + 1e-6)  # the roundings of equal rows
