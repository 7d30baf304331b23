"""The losses that torch does not have."""

import torch
from torch import Tensor


def contrast(
    query: Tensor,
    key: Tensor,
    bank: Tensor,
    weights: Tensor | None = None,
    *,
    w: float = 1.0,
    t: float = 0.1,
) -> Tensor:
    """Cross-entropy between a soft target over [own key | bank] and the query's similarities.

        logits = [q.k | q B^T] / t                                          [N, 1 + M]
        target = w * rownormalise([1 | weights]) + (1 - w) * [1 | 0 ... 0]  [N, 1 + M]
        loss   = mean over rows of cross-entropy(target, softmax(logits))

    With S the sum of a row's weights, the target is w / (1 + S) + 1 - w on the own key and
    w / (1 + S) * weights on the bank. A target sums to 1, so the cross-entropy is
    logsumexp(logits) - <target, logits>, and neither the target nor the log-probabilities
    are ever laid out in memory.

    Args:
        query: query projections, unit length [N, D]; the gradient flows here only.
        key: key projections of the same images, unit length [N, D].
        bank: earlier keys, unit length [M, D].
        weights: what each bank row means to each query, in [0, 1] [N, M];
            None means all zero (InfoNCE, the loss of MoCo).
        w: share of the soft target, in [0, 1]; the rest goes to the own key.
        t: contrastive temperature.

    Returns:
        The loss, a float32 scalar, whatever autocast says: its logits span 2 / t, too wide
        for half precision at usual temperatures.
    """
    with torch.autocast(query.device.type, enabled=False):
        query, key, bank = query.float(), key.detach().float(), bank.detach().float()
        own = (query * key).sum(1) / t  # [N]
        others = (query / t) @ bank.T  # [N, M]
        normaliser = torch.logaddexp(own, others.logsumexp(1))  # [N]
        if weights is None:
            return (normaliser - own).mean()
        weights = weights.detach().float()
        share = w / (1 + weights.sum(1))  # [N]
        # <weights, others> row by row, as q.(weights B) / t: no product [N, M] is kept
        pulled = (query * (weights @ bank)).sum(1) / t  # [N]
        attraction = (share + 1 - w) * own + share * pulled  # [N]
        return (normaliser - attraction).mean()


def cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """Mean cross-entropy of logits [N, C] with labels [N], in float32 under any autocast."""
    with torch.autocast(logits.device.type, enabled=False):
        return torch.nn.functional.cross_entropy(logits.float(), label)
