"""Whether another view of an image has the same nearest neighbour: asks for no fine label."""

import torch
from torch import Tensor

from maskcon.eval.retrieval import ELEMENTS
from maskcon.eval.rows import by_class

NAME = "stable"  # of the figure


@torch.no_grad()
def stability(features: Tensor, again: Tensor, coarse: Tensor) -> float:
    """Share of images whose nearest other image is the same one for another view of them.

    Candidates are the images of the own coarse class, seen as in `features`. An image that has
    two nearest ones, for either view, counts as unsteady: an encoder that says the same of all
    images is. One without another image in its class is not counted.

    Args:
        features: of the images [N, F], of unit length.
        again: of another view of each, likewise.
        coarse: coarse label of each [N].

    Returns:
        A share in [0, 1]; 1 where no class has two images.
    """
    same = judged = 0
    for members in by_class(coarse.to(features.device)):
        count = len(members)
        if count < 2:
            continue
        candidates, judged = features[members], judged + count
        chunk = max(1, ELEMENTS // count)
        for start in range(0, count, chunk):
            asking = members[start : start + chunk]
            found, other = (_nearest(x[asking], candidates, start) for x in (features, again))
            same += int(((found == other) & (found >= 0)).sum())
    return same / judged if judged else 1.0


def _nearest(asking: Tensor, candidates: Tensor, start: int) -> Tensor:
    """Place of the nearest candidate of each [n]; -1 where two are equally near.

    Args:
        asking: features of the candidates from `start` on, or of other views of them [n, F].
        candidates: [C, F], two or more.
        start: place of the first that asks.
    """
    similarity = asking @ candidates.T  # [n, C]
    similarity.diagonal(start).fill_(-torch.inf)
    top = similarity.topk(2)
    return top.indices[:, 0].masked_fill(top.values[:, 0] == top.values[:, 1], -1)
