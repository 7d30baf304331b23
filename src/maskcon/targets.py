"""Label rules: what each bank row means to each query.

The letters of every shape comment in the package:

    N  rows of the batch              M  rows of the bank
    D  width of the projection        F  width of the backbone's feature
    C  classes                        H, W  height and width of an image
    S  side of a square view

A *rule* maps the similarity of the keys to the bank, and whether their labels
agree, to weights in [0, 1]:

    rule(similarity [N, M], same [N, M] bool) -> weights [N, M]

A weight of 1 makes a bank row as positive as the query's own key; a weight of 0
makes it a negative.
"""

import torch
from torch import Tensor


def same_class(similarity: Tensor, same: Tensor) -> Tensor:
    """Every row of the query's class counts fully: weights = [y == b].

    The rule of SupCon and Grafit, and the limit of `nearest_same_class` for
    tau -> infinity.
    """
    return same.to(similarity.dtype)


def nearest_same_class(similarity: Tensor, same: Tensor, *, tau: float) -> Tensor:
    """Rows of the query's class count by their nearness to the query's key.

        weights = exp((s - max of s over same-class rows) / tau) where y == b, else 0

    The nearest row of the class has weight 1 whatever tau is; tau -> 0 leaves that row
    alone and tau -> infinity gives `same_class`. A query whose class has no row in the
    bank gets zeros. Subtracting the maximum before the exponential keeps every value
    finite for every tau. Reference: MaskCon (Feng and Patras, CVPR 2023), equations 5-7.
    """
    similarity = similarity.masked_fill(~same, -torch.inf)  # [N, M]
    nearest = similarity.amax(1, keepdim=True)  # [N, 1], -inf where the class is absent
    nearest = nearest.masked_fill(nearest.isneginf(), 0.0)
    return similarity.sub_(nearest).div_(tau).exp_()  # of a tensor of its own
