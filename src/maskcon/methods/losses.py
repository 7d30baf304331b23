"""The losses that torch does not have, one value for each row of the batch."""

import torch
from torch import Tensor

from maskcon.methods.step import Step, needed


def contrast(
    query: Tensor,
    key: Tensor,
    bank: Tensor,
    weights: Tensor | None = None,
    *,
    w: float | Tensor = 1.0,
    t: float | Tensor = 0.1,
) -> Tensor:
    """Cross-entropy between a soft target over [own key | bank] and the query's similarities.

        logits = [q.k | q B^T] / t                                          [N, 1 + M]
        target = w * rownormalise([1 | weights]) + (1 - w) * [1 | 0 ... 0]  [N, 1 + M]
        loss   = cross-entropy(target, softmax(logits)), row by row

    With S the sum of a row's weights, the target is w / (1 + S) + 1 - w on the own key and
    w / (1 + S) * weights on the bank. A target sums to 1, so the cross-entropy is
    logsumexp(logits) - <target, logits>, and neither the target nor the log-probabilities
    are ever laid out in memory.

    Args:
        query: query projections, unit length [N, D]; the gradient flows here only.
        key: key projections of the same images, unit length [N, D].
        bank: earlier keys, unit length [M, D].
        weights: what each bank row means to each query [N, M], in [0, 1];
            None means all zero (InfoNCE, the loss of MoCo).
        w: share of the soft target, in [0, 1]; the rest goes to the own key.
        t: contrastive temperature.

    Returns:
        The loss of each row [N] in float32, whatever autocast says: its logits span 2 / t, too
        wide for half precision at usual temperatures.
    """
    with torch.autocast(query.device.type, enabled=False):
        query, key, bank = query.float(), key.detach().float(), bank.detach().float()
        own = (query * key).sum(1) / t  # [N]
        others = (query / t) @ bank.T  # [N, M]
        normaliser = torch.logaddexp(own, others.logsumexp(1))  # [N]
        if weights is None:
            return normaliser - own
        weights = weights.detach().float()
        share = w / (1 + weights.sum(1))  # [N]
        # <weights, others> row by row, as q.(weights B) / t: no product [N, M] is kept
        pulled = (query * (weights @ bank)).sum(1) / t  # [N]
        attraction = (share + 1 - w) * own + share * pulled  # [N]
        return normaliser - attraction


def soft_cross_entropy(query: Tensor, keys: Tensor, target: Tensor, *, t: float | Tensor) -> Tensor:
    """Cross-entropy between a target over a set of keys and the query's similarities to them.

        loss = logsumexp(q A^T / t) - <target, q A^T / t>, row by row

    Args:
        query: query projections, unit length [N, D]; the gradient flows here only.
        keys: A, unit length [K, D].
        target: [N, K], each row a distribution.
        t: contrastive temperature.

    Returns:
        The loss of each row [N], float32 under any autocast.
    """
    with torch.autocast(query.device.type, enabled=False):
        query, keys = query.float(), keys.detach().float()
        logits = (query / t) @ keys.T  # [N, K]
        pulled = (query * (target.detach().float() @ keys)).sum(1) / t  # [N]
        return logits.logsumexp(1) - pulled


def pairs(first: Tensor, second: Tensor, *, t: float | Tensor) -> Tensor:
    """NT-Xent: of the 2N - 1 other projections of a batch, each view must find its other view.

    Args:
        first: projections of a view of each image, unit length [N, D].
        second: of another view; the gradient flows to both.
        t: temperature.

    Returns:
        The loss of each image [N], the mean of its two views', float32 under any autocast.
        Reference: SimCLR (Chen et al., ICML 2020), equation 1.
    """
    with torch.autocast(first.device.type, enabled=False):
        z = torch.cat([first, second]).float()  # [2N, D]
        logits = (z / t) @ z.T  # [2N, 2N]
        logits = logits.masked_fill(_diagonal(logits), -torch.inf)
        own = (z[: len(first)] * z[len(first) :]).sum(1) / t  # [N]
        return logits.logsumexp(1).view(2, -1).mean(0) - own


def same_group(
    z: Tensor, group: Tensor, more: Tensor | None = None, *, t: float | Tensor
) -> Tensor:
    """SupCon inside a batch: each row must find the other rows of its group.

        loss = - mean over positives p of log( exp(z.p / t) / sum over candidates c exp(z.c / t) )

    Positives are the other rows of the group, candidates all other rows; the row itself is
    neither.

    Args:
        z: projections, unit length [N, D]; each has gradient as the anchor of its own loss,
            none as a row that others are compared with (the released program of WCL).
        group: of each row [N].
        more: further positives of each row, unit length [N, K, D], without gradient; they are
            candidates of that row as well.
        t: temperature.

    Returns:
        The loss of each row [N], float32 under any autocast; 0 for a row without positives.
        Reference: SupCon (Khosla et al., NeurIPS 2020), equation 2.
    """
    with torch.autocast(z.device.type, enabled=False):
        z = z.float()
        logits = (z / t) @ z.detach().T  # [N, N]
        diagonal = _diagonal(logits)
        positive = (group[:, None] == group) & ~diagonal
        total = logits.masked_fill(~positive, 0.0).sum(1)  # over the positives [N]
        count = positive.sum(1)
        candidates = logits.masked_fill(diagonal, -torch.inf)
        if more is not None:
            extra = torch.einsum("nd,nkd->nk", z / t, more.detach().float())  # [N, K]
            total, count = total + extra.sum(1), count + extra.shape[1]
            candidates = torch.cat([candidates, extra], 1)
        loss = candidates.logsumexp(1) - total / count.clamp(min=1)
        return loss.masked_fill(count == 0, 0.0)


def angular(
    query: Tensor,
    key: Tensor,
    bank: Tensor,
    same: Tensor,
    *,
    t: float | Tensor,
) -> Tensor:
    """InfoNCE whose negatives are bank rows of the query's own class alone.

    Args:
        query: unit length [N, D]; the gradient flows here only.
        key: of the same images, unit length [N, D].
        bank: unit length [M, D].
        same: whether a bank row has the query's class, bool [N, M].
        t: temperature.

    Returns:
        The loss of each row [N], float32 under any autocast; 0 where the bank has no row of
        the class.
    """
    with torch.autocast(query.device.type, enabled=False):
        query, key, bank = query.float(), key.detach().float(), bank.detach().float()
        own = (query * key).sum(1, keepdim=True) / t  # [N, 1]
        others = ((query / t) @ bank.T).masked_fill(~same, -torch.inf)  # [N, M]
        return torch.cat([own, others], 1).logsumexp(1) - own[:, 0]


def cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """Cross-entropy of logits [N, C] with labels [N]: [N], in float32 under any autocast."""
    with torch.autocast(logits.device.type, enabled=False):
        return torch.nn.functional.cross_entropy(logits.float(), label, reduction="none")


def batch_keys(step: Step) -> tuple[Tensor, Tensor]:
    """Keys of the whole batch [B, D], and the row of each image's own among them [N]."""
    (key,) = needed(step, "key.z")
    key = key.detach()
    batch = key if step.batch_z is None else step.batch_z
    own = torch.arange(len(key), device=key.device) if step.own is None else step.own
    return batch, own


def _diagonal(square: Tensor) -> Tensor:
    return torch.eye(len(square), dtype=torch.bool, device=square.device)
