"""Recall@K of every test image among all others, and among those of its own coarse class."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from maskcon.data.table import Split
from maskcon.errors import InputError
from maskcon.eval.retrieval import negatives_before, negatives_before_some
from maskcon.eval.rows import by_class, check_rows
from maskcon.runtime.distributed import ALONE, Ranks

KS = (1, 2, 5, 10, 50, 100)
TRACKED = (1, 2, 5, 10)  # the K that a run looks at while it trains
WITHIN = "/within_coarse"


def hits(
    features: Tensor,
    fine: Tensor,
    coarse: Tensor | None = None,
    ks: Sequence[int] = KS,
    rows: Tensor | None = None,
) -> dict[str, Tensor]:
    """Which queries are found: every row asks for another row of its fine class.

    Inside the own coarse class (`within_coarse`) only rows of the query's coarse class are
    candidates: this is what coarse labels do not give away. A tie counts against the query. A
    query whose fine class has no other row is never found.

    Args:
        features: [N, F] of unit length, N of two or more.
        fine: fine label of each row [N].
        coarse: coarse label of each row [N]; without them there is nothing within.
        ks: the K. Left out where there are fewer candidates than K: N - 1 of them, and within,
            those of the smallest coarse class that has two rows or more.
        rows: that ask [M], of all that are found; by default all.

    Returns:
        {"recall@1": bool [M], ..., "recall@1/within_coarse": bool [M], ...}, K ascending as given.

    Raises:
        InputError: features or labels that cannot be judged.
    """
    check_rows(features, fine, coarse)
    if rows is None:
        before = negatives_before(features, fine)
    else:
        before = negatives_before_some(features, fine, rows)
    found = {f"recall@{k}": before < k for k in ks if k < len(features)}
    if coarse is not None:
        if rows is None:
            before = strangers_within(features, fine, coarse)
        else:
            before = negatives_before_some(features, fine, rows, among=coarse)
        sizes = coarse.unique(return_counts=True)[1]
        smallest = min((size for size in sizes.tolist() if size > 1), default=0)
        found |= {f"recall@{k}{WITHIN}": before < k for k in ks if k < smallest}
    return found


def strangers_within(features: Tensor, fine: Tensor, coarse: Tensor) -> Tensor:
    """`maskcon.eval.retrieval.negatives_before`, with candidates of the own coarse class only.

    Args:
        features: [N, F] of unit length.
        fine: fine label of each row [N].
        coarse: coarse label of each row [N].

    Returns:
        int64 [N]; N where no other row of the coarse class has the fine class.
    """
    before = torch.empty(len(features), dtype=torch.long, device=features.device)
    for members in by_class(coarse.to(features.device)):
        found = negatives_before(features[members], fine.to(features.device)[members])
        # Nothing found is as many strangers as rows, which must stay above every K.
        before[members] = found.masked_fill(found == len(members), len(features))
    return before


def recall_at(found: Mapping[str, Tensor]) -> dict[str, float]:
    """Share of queries found, of each name of `hits`."""
    return {name: hit.double().mean().item() for name, hit in found.items()}


def recall_by_coarse(found: Mapping[str, Tensor], coarse: Tensor) -> dict[int, dict[str, float]]:
    """Recall@1, among all and within, of the queries of each coarse class.

    Args:
        found: as `hits` returns it.
        coarse: coarse label of each row [N].

    Returns:
        {coarse label: {"recall@1": share, "recall@1/within_coarse": share}}
    """
    ones = {name: found[name] for name in ("recall@1", "recall@1" + WITHIN) if name in found}
    return {
        int(coarse[members[0]]): recall_at(
            {name: hit[members.to(hit.device)] for name, hit in ones.items()}
        )
        for members in by_class(coarse)
    }


def recall_of(features: Tensor, split: Split, ranks: Ranks = ALONE) -> dict[str, float]:
    """Recall@1, 2, 5, 10 of fine labels, every image querying all the others.

    Where the split has no fine labels, what can be known: the recall of coarse labels, as
    "recall@1/coarse" and so on. A split of ten images or fewer has no ten others, and gets
    only the K that it has. Several `ranks`, which all have the features, share the work.
    """
    if len(split) < 2:
        raise InputError("one test image has no other to find: an evaluation needs two or more")
    label, level = (split.coarse, "/coarse") if split.fine is None else (split.fine, "")
    before = negatives_before(features, label, ranks)
    return recall_at({f"recall@{k}{level}": before < k for k in TRACKED if k < len(split)})


def pixel_recall(split: Split, workers: int = 1) -> dict[str, float]:
    """Recall@K of raw pixels, or of vectors as they are given: what learning must beat."""
    given = split.images.raw(workers)
    if split.images.has_pictures:
        given = given.flatten(1).float().div_(255).sub_(0.5)
    return recall_of(functional.normalize(given, dim=1), split)
