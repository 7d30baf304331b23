"""Label rules: what each bank row means to each query.

The letters of every shape comment in the package:

    N  rows of the batch              M  rows of the bank
    D  width of the projection        F  width of the backbone's feature
    C  classes                        H, W  height and width of an image
    S  side of a square view          K  rows of another set of keys: of a batch and a bank, say

A *rule* maps the similarity of the keys to the bank, and whether their labels
agree, to weights in [0, 1]:

    rule(similarity [N, M], same [N, M] bool) -> weights [N, M]

A weight of 1 makes a bank row as positive as the query's own key; a weight of 0
makes it a negative. `taught` gives a rule what a person said of some of the rows.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

Rule = Callable[[Tensor, Tensor], Tensor]  # (similarity [N, M], same [N, M]) -> weights
DIFFERENT, OPEN, SAME = 0, 1, 2  # kinds of two rows: known, not known though of one class, known


def same_class(similarity: Tensor, same: Tensor) -> Tensor:
    """Every row of the query's class counts fully: weights = [y == b].

    The rule of SupCon and Grafit, and the limit of `nearest_same_class` for
    tau -> infinity.
    """
    return same.to(similarity.dtype)


def nearest_same_class(similarity: Tensor, same: Tensor, *, tau: float | Tensor) -> Tensor:
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


def taught(rule: Rule, similarity: Tensor, relation: Tensor) -> Tensor:
    """A rule, where a person said of some rows whether they are of the query's kind.

        weights = 1 where the kind is known to be the same, 0 where it is known to be another,
                  rule(s, relation != DIFFERENT) elsewhere

    Where a person said nothing it is the rule; where all is known, `same_class` of the kinds.

    Args:
        rule: for the rows of the class of which nothing is known.
        similarity: of the keys to the bank [N, M].
        relation: `DIFFERENT`, `OPEN` or `SAME`, uint8 [N, M]; of two classes `DIFFERENT`.
    """
    weights = rule(similarity, relation != DIFFERENT)
    return weights.masked_fill(relation == SAME, 1.0)


def softmax_over_bank(similarity: Tensor, *, tau: float | Tensor) -> Tensor:
    """The key's own distribution over the bank: softmax(s / tau); labels are ignored.

    The target of ReSSL (Zheng et al., NeurIPS 2021).
    """
    return (similarity / tau).softmax(1)


def confident_neighbours(
    similarity: Tensor, *, tau: float | Tensor, neighbours: float | Tensor
) -> Tensor:
    """The nearest rows, as far as the key is sure of them; labels are ignored.

        p = softmax(s / tau), c = 1 - entropy(p) / log M, weights = min(1, c * neighbours * p)

    A key that is equally near to all of the bank has c = 0 and no positives but itself; one
    that is near to a single row gives it up to 1. Reference: ASCL (Feng and Patras, ICPR
    2022).
    """
    p = softmax_over_bank(similarity, tau=tau)
    entropy = -torch.special.xlogy(p, p).sum(1, keepdim=True)
    sure = 1 - entropy / max(math.log(p.shape[1]), 1e-12)  # a bank of one row: its entropy is 0
    return (sure * neighbours * p).clamp(0, 1)


def refined_labels(
    similarity: Tensor,
    own: Tensor,
    *,
    t: float | Tensor,
    tau_sharpen: float | Tensor,
    mu: float | Tensor,
) -> Tensor:
    """One-hot labels over a key set, refined by what the keys themselves find near.

        p     = softmax(s / (t tau_sharpen)) over the set, q the same without the own column
        alpha = mu max(p) / z, beta = mu max(q) / z, z = 1 + mu max(p) + mu max(q)
        label = (1 - alpha - beta) onehot + alpha p + beta q

    Args:
        similarity: of the keys to the set [N, K], in which each of them is.
        own: the column of each key itself [N].
        t: contrastive temperature.
        tau_sharpen: in (0, 1], sharpens p and q.
        mu: how much they count; 0 leaves the one-hot label.

    Returns:
        [N, K], rows sum to 1. Reference: SANE (Zhou et al., NeurIPS 2021), self-labelling refinery.
    """
    s = similarity / (t * tau_sharpen)
    hot = torch.zeros_like(s).scatter_(1, own[:, None], 1.0)
    p = s.softmax(1)
    q = s.masked_fill(hot.bool(), -torch.inf).softmax(1)
    a = mu * p.amax(1, keepdim=True)
    b = mu * q.amax(1, keepdim=True)
    return (hot + a * p + b * q) / (1 + a + b)
