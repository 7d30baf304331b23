"""Groups beside the fine classes, where these are known."""

from collections.abc import Sequence

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.metrics.cluster import contingency_matrix
from torch import Tensor

from maskcon.discover.groups import Division, divided
from maskcon.discover.questions import Questions
from maskcon.eval.cluster import agreement


def judged(
    features: Tensor,
    fine: Tensor,
    divisions: Sequence[Division],
    *,
    rest: Tensor | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """How well groups match fine classes, for the numbers found and for the true ones.

    Args:
        features: [N, F] of unit length.
        fine: fine label of each image [N].
        divisions: what was found.
        rest: images that are judged, bool [N]; by default all. Those whose label was told are
            not, but they still help to group the others.
        seed: of the groups with the true numbers.

    Returns:
        accuracy, nmi and ari of all groups at once, as `maskcon.eval.cluster.agreement` has
        them; "groups" and "classes", their numbers; "number/error", how far the number of a
        coarse class is off on average, and "number/exact", the share of coarse classes where it
        is right; "accuracy/confident" and "accuracy/rest" of the more confident half of the
        images and of the others; accuracy, nmi and ari "/true_number".
    """
    if rest is None:
        rest = torch.ones(len(fine), dtype=torch.bool)
    true = {d.label: len(fine[torch.from_numpy(d.rows)].unique()) for d in divisions}
    off = [abs(d.number - true[d.label]) for d in divisions]
    sure = torch.empty(len(fine), dtype=torch.double)
    for d in divisions:
        sure[torch.from_numpy(d.rows)] = torch.from_numpy(d.confidence)
    found = numbered_through(divisions, len(fine))[rest]
    right = matched(found, fine[rest])[sure[rest].argsort(descending=True, stable=True)]
    half = (len(right) + 1) // 2
    results = agreement(found, fine[rest]) | {
        "groups": float(sum(d.number for d in divisions)),
        "classes": float(sum(true.values())),
        "number/error": float(np.mean(off)),
        "number/exact": float(np.mean([error == 0 for error in off])),
        "accuracy/confident": right[:half].double().mean().item(),
        "accuracy/rest": right[half:].double().mean().item() if len(right) > 1 else 0.0,
        "images": float(len(right)),
    }
    questions = Questions([d.grown for d in divisions])
    as_true = divided(features, questions, numbers=true, seed=seed)
    group = numbered_through(as_true, len(fine))[rest]
    return results | agreement(group, fine[rest], "/true_number")


def numbered_through(divisions: Sequence[Division], count: int) -> Tensor:
    """The group of each image, numbered through all coarse classes, int64 [count]."""
    group, first = torch.empty(count, dtype=torch.long), 0
    for d in divisions:
        group[torch.from_numpy(d.rows)] = first + torch.from_numpy(d.group)
        first += d.number
    return group


def matched(group: Tensor, fine: Tensor) -> Tensor:
    """Whether each image's group is matched with its class, in the best matching, bool [N]."""
    groups, found = group.unique(return_inverse=True)
    true = fine.unique(return_inverse=True)[1]
    table = contingency_matrix(true.numpy(), found.numpy())
    rows, columns = linear_sum_assignment(table, maximize=True)
    match = torch.full((len(groups),), -1)
    match[torch.from_numpy(columns)] = torch.from_numpy(rows)
    return match[found] == true
