"""How many groups a coarse class has, and how sure that is."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from maskcon.errors import InputError
from maskcon.eval.estimate import ROWS, at_most, estimate_clusters, sample
from maskcon.eval.graph import divisions, neighbour_graph

FEWEST = 10  # images; the groups of fewer cannot be told
FAINT, CLEAR = 0.05, 0.1  # excess from which groups show
SPARSE = 20  # neighbours in the graph that tells more groups apart
HOW = Literal["estimated", "given", "known", "too few images", "all alike"]


@dataclass(frozen=True)
class Number:
    """A number of groups.

    Attributes:
        number: of groups.
        low, high: between which it lies in subsamples of the images, and in a sparser graph.
        excess: how far groups show, as `Estimate` has it; None where nothing was estimated.
        how: it was estimated or given, or as many names are known; or there are too few images
            to tell, or all are alike.
    """

    number: int
    low: int
    high: int
    excess: float | None
    how: HOW

    @property
    def structure(self) -> str:
        """In a word, how far groups show: clear, faint, none; or why nobody looked."""
        if self.excess is None:
            return self.how
        return "clear" if self.excess >= CLEAR else "faint" if self.excess >= FAINT else "none"


def number_of(
    x: np.ndarray,
    *,
    given: int | None = None,
    names: int = 0,
    most: int = 30,
    subsamples: int = 10,
    seed: int = 0,
) -> Number:
    """The number of groups in the images of one coarse class.

    `estimate_clusters` finds it. An excess below 0.05 means that the images fall apart no better
    than a cloud without groups, and makes it one; `high` still says what would be found. The
    interval is that of the subsamples, widened to the number that a graph of 20 neighbours,
    in place of 2 sqrt(N), divides best into: the first asks how much the number depends on the
    images, the second how much it depends on how closely one looks.

    Args:
        x: float32 [n, F] of unit length.
        given: number in place of an estimate; no more than there are different images.
        names: fine labels that are known; there are at least as many groups.
        most: groups that an estimate may find.
        subsamples: for the interval.
        seed: of what is drawn.

    Raises:
        InputError: less than one group was asked for.
    """
    different = len(np.unique(x, axis=0))
    if given is not None:
        if given < 1:
            raise InputError(f"{given} groups were asked for; give one or more")
        number = min(given, different)
        found = Number(number, number, number, None, "given")
    elif len(x) < FEWEST or different < 2:
        found = Number(1, 1, 1, None, "too few images" if len(x) < FEWEST else "all alike")
    else:
        estimate = estimate_clusters(
            torch.from_numpy(x), most=most, subsamples=subsamples, seed=seed
        )
        number = estimate.number if estimate.excess >= FAINT else 1
        closer = _closer(sample(x, ROWS, np.random.default_rng(seed)), most)
        low = min(number, estimate.low, closer)
        high = max(estimate.high, closer)
        found = Number(number, low, high, estimate.excess, "estimated")
    names = min(names, different)
    if names > found.number:
        return Number(names, found.low, max(found.high, names), found.excess, "known")
    return found


def _closer(x: np.ndarray, most: int) -> int:
    """The number of groups that a sparse graph of the rows divides best into."""
    scores = divisions(neighbour_graph(x.astype(np.float64), SPARSE), at_most(x, most))
    return max(scores, key=scores.__getitem__)
