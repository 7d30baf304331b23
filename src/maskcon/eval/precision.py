"""MAP@R and R-precision: how pure the neighbourhood of the size of the own class is."""

import torch
from torch import Tensor

from maskcon.errors import InputError
from maskcon.eval import retrieval
from maskcon.eval.rows import check_rows


def precision_at_r(features: Tensor, label: Tensor) -> dict[str, float]:
    """Means of MAP@R and R-precision over the queries whose class has another row.

    Args:
        features: [N, F] of unit length, N of two or more.
        label: class of each row [N].

    Returns:
        {"map@r": share, "r_precision": share, "map@r/left_out": number of queries whose class
        has no other row; they are in neither mean}

    Raises:
        InputError: no class has two rows.
    """
    average, precision = query_precisions(features, label)
    alone = average.isnan()
    if alone.all():
        raise InputError(f"each of {len(label)} images is alone in its class: nothing to find")
    return {
        "map@r": average[~alone].mean().item(),
        "r_precision": precision[~alone].mean().item(),
        "map@r/left_out": float(alone.sum()),
    }


@torch.no_grad()
def query_precisions(
    features: Tensor, label: Tensor, asked: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Average precision at R and R-precision of each query, R the other rows of its class.

    With rel(i) = 1 where the i-th nearest other row has the query's class, and P(i) the mean of
    rel(1), ..., rel(i):

        R-precision = 1/R sum_{i=1..R} rel(i)
        AP@R        = 1/R sum_{i=1..R} P(i) rel(i)

    (Musgrave, Belongie & Lim, A Metric Learning Reality Check, ECCV 2020, section 3.3). The row
    itself is left out by its index. A tie counts against the query: a row of another class that
    is as near as one of its own comes first. Exact; similarities are in memory in chunks.

    Args:
        features: [N, F] of unit length.
        label: class of each row [N].
        asked: rows that ask [M]; by default all.

    Returns:
        float64 [N] each; NaN where no other row has the class, or the row does not ask.
    """
    check_rows(features, label)
    label = label.to(features.device)
    n = len(features)
    _, index, size = label.unique(return_inverse=True, return_counts=True)
    others = size[index] - 1  # R of each row [N]
    # Rows of classes of like size go together, since a chunk ranks as far as its largest R.
    order = torch.arange(n, device=others.device) if asked is None else asked.to(others.device)
    order = order[others[order].argsort(stable=True)]
    order = order[others[order] > 0]
    average, precision = torch.full((2, n), torch.nan, dtype=torch.double, device=features.device)
    if not len(order):
        return average, precision
    for rows in order.split(max(1, retrieval.ELEMENTS // n)):
        similarity = features[rows] @ features.T  # [chunk, N]
        same = label[rows][:, None] == label
        most = int(others[rows].max())
        strangers = similarity.masked_fill(same, -torch.inf).topk(min(most, n)).values
        similarity.scatter_(1, rows[:, None], -torch.inf)
        own = similarity.masked_fill_(~same, -torch.inf).topk(most).values  # [chunk, R]
        place = torch.arange(1, most + 1, device=features.device)
        # The i-th of the own class comes after i - 1 of them, and the strangers as near as it.
        ahead = torch.searchsorted(-strangers, -own, right=True)
        found = (place + ahead <= others[rows][:, None]) & ~own.isneginf()
        r = others[rows].double()
        average[rows] = (found * place / (place + ahead).double()).sum(1) / r
        precision[rows] = found.sum(1) / r
    return average, precision
