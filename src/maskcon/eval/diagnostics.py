"""Whether a space is in order, whatever it is used for."""

import torch
from torch import Tensor

from maskcon.errors import InputError
from maskcon.eval import retrieval
from maskcon.eval.knn import vote
from maskcon.eval.retrieval import nearest_others
from maskcon.eval.rows import by_class, check_rows

NOISE = 1e-14  # of squared singular values in the squared length of all rows: float32's own


def diagnostics(
    features: Tensor,
    coarse: Tensor | None,
    fine: Tensor | None = None,
    *,
    k: int = 200,
    rows: Tensor | None = None,
) -> dict[str, float]:
    """All of this file at once.

    Args:
        features: [N, F] of unit length, N of two or more.
        coarse: coarse label of each row [N], where there are any.
        fine: fine label of each row [N], where known.
        k: neighbours of `coarse_accuracy`.
        rows: whose neighbours vote, and whose pairs `uniformity` is of [M]; by default all.

    Returns:
        {"effective_rank", "uniformity"}; "coarse_accuracy" where there are coarse labels, and
        "alignment" where some fine class has two rows.
    """
    check_rows(features, coarse, fine)
    found = {}
    if coarse is not None:
        found["coarse_accuracy"] = coarse_accuracy(features, coarse, k=k, rows=rows)
    some = features if rows is None else features[rows]
    found |= {"effective_rank": effective_rank(features), "uniformity": uniformity(some)}
    if fine is not None and len(fine.unique()) < len(fine):
        found["alignment"] = alignment(features, fine)
    return found


def coarse_accuracy(
    features: Tensor,
    coarse: Tensor,
    *,
    k: int = 200,
    temperature: float = 0.1,
    rows: Tensor | None = None,
) -> float:
    """Share of rows whose coarse label the other rows vote for (weighted kNN, leave one out).

    It tells whether the space keeps what it was taught; `maskcon.eval.knn.knn` with coarse
    labels tells the same of a train and a test set.

    Args:
        features: [N, F] of unit length, N of two or more.
        coarse: coarse label of each row [N].
        k: neighbours that vote; all others where there are fewer.
        temperature: of the votes.
        rows: that are voted on [M]; by default all.
    """
    check_rows(features, coarse)
    found = nearest_others(features, min(k, len(features) - 1), rows)
    voted = vote(found, coarse, temperature)
    own = coarse if rows is None else coarse[rows]
    return (voted == own.to(voted.device)).double().mean().item()


@torch.no_grad()
def effective_rank(features: Tensor) -> float:
    """How many directions the features use: exp of the entropy of their spectrum.

    With s the singular values of the centred features and p = s / sum(s):

        exp(- sum p log p)

    between 1 (all on a line) and min(N - 1, F) (all directions alike); 0 where all rows are
    equal (Roy & Vetterli, The effective rank, EUSIPCO 2007).

    Args:
        features: [N, F], N of two or more.
    """
    check_rows(features)
    mean = features.double().mean(0)
    scatter = features.new_zeros(features.shape[1], features.shape[1], dtype=torch.double)
    length = 0.0
    for chunk in features.split(4096):
        centred = chunk.double() - mean
        scatter += centred.T @ centred  # [F, F]
        length += chunk.double().square().sum().item()
    squared = torch.linalg.eigvalsh(scatter)
    s = squared[squared > NOISE * length].sqrt()
    if not len(s):
        return 0.0
    p = s / s.sum()
    return (-(p * p.log()).sum()).exp().item()


@torch.no_grad()
def alignment(features: Tensor, label: Tensor) -> float:
    """Mean squared distance of pairs of one class: 0 where each class is a point.

        mean over pairs i != j with y_i = y_j of |x_i - x_j|^2

    (Wang & Isola, Understanding Contrastive Representation Learning through Alignment and
    Uniformity on the Hypersphere, ICML 2020, equation 1 with alpha 2, over classes in place of
    views.) Every pair counts alike, so large classes count more.

    Args:
        features: [N, F] of unit length.
        label: class of each row [N].

    Raises:
        InputError: no class has two rows.
    """
    check_rows(features, label)
    total, pairs = 0.0, 0
    for members in by_class(label):
        m = len(members)
        x = features[members.to(features.device)].double()
        x -= x.mean(0)  # distances do not change, and sums stay exact where a class is a point
        total += 2 * m * x.square().sum().item()
        pairs += m * (m - 1)
    if not pairs:
        raise InputError(f"each of {len(label)} images is alone in its class: no pair to align")
    return total / pairs


@torch.no_grad()
def uniformity(features: Tensor, *, t: float = 2.0) -> float:
    """How evenly the features cover the sphere: lower is more even, 0 where all are equal.

        log mean over pairs i < j of exp(-t |x_i - x_j|^2)

    (Wang & Isola, ICML 2020, equation 2.) Exact, over all pairs, in chunks.

    Args:
        features: [N, F] of unit length, N of two or more.
        t: of the Gaussian potential.
    """
    check_rows(features)
    n = len(features)
    total = torch.zeros((), dtype=torch.double, device=features.device)
    # A block has the rows from its start on, so that each pair is in one block only.
    size = max(1, retrieval.ELEMENTS // n)
    for start in range(0, n, size):
        chunk = features[start : start + size]
        similarity = chunk @ features[start:].T  # [chunk, N - start]
        potential = similarity.clamp_(max=1).sub_(1).mul_(2 * t).exp_()  # |x - y|^2 = 2 - 2 x.y
        square = potential[:, : len(chunk)]
        square.triu_(1)
        total += potential.sum(dtype=torch.double)
    return (total / (n * (n - 1) / 2)).log().item()
