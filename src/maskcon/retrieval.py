"""One record of nearest neighbours, which metrics, search and pictures read."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from maskcon.errors import InputError

CHUNK = 1024  # queries at a time: the largest matrix in memory is [CHUNK, gallery]


@dataclass(frozen=True)
class Retrieval:
    """The k nearest gallery rows of each query, nearest first.

    Attributes:
        ids: gallery row of each neighbour, int64 [N, k].
        scores: cosine similarity of each neighbour [N, k].
    """

    ids: Tensor
    scores: Tensor


@torch.no_grad()
def nearest_others(features: Tensor, k: int) -> Retrieval:
    """The k nearest other rows of each row, by cosine similarity; exact.

    The row itself is left out by its index, so that a duplicate image counts as a neighbour.

    Args:
        features: [N, F] of unit length.
        k: neighbours, fewer than N.
    """
    if k >= len(features):
        raise InputError(f"{k} neighbours of each of {len(features)} images: there are too few")
    ids, scores = [], []
    for start in range(0, len(features), CHUNK):
        similarity = features[start : start + CHUNK] @ features.T  # [CHUNK, N]
        similarity.diagonal(start).fill_(-torch.inf)
        top = similarity.topk(k)
        ids.append(top.indices)
        scores.append(top.values)
    return Retrieval(torch.cat(ids), torch.cat(scores))


def recall(
    retrieval: Retrieval, label: Tensor, ks: Sequence[int] = (1, 2, 5, 10)
) -> dict[str, float]:
    """Recall@K: share of queries with a neighbour of their own class among the K nearest.

    Args:
        retrieval: neighbours of each row among the rows themselves, at least max(ks) of them.
        label: class of each row [N].
        ks: the K.

    Returns:
        {"recall@1": share in [0, 1], ...}
    """
    hit = label[retrieval.ids] == label[:, None]  # [N, k]
    return {f"recall@{k}": hit[:, :k].any(1).cpu().double().mean().item() for k in ks}
