"""The weighted nearest-neighbour classifier."""

import torch
from torch import Tensor

from maskcon.errors import InputError
from maskcon.eval import retrieval
from maskcon.eval.retrieval import Retrieval
from maskcon.eval.rows import check_rows


def knn(
    train: Tensor,
    train_label: Tensor,
    test: Tensor,
    test_label: Tensor,
    *,
    k: int = 200,
    temperature: float = 0.1,
    level: str = "",
) -> dict[str, float]:
    """Accuracy of the test labels that the nearest train rows vote for.

    For several labels of the same rows, call `nearest_across` once, and `vote` for each.

    Args:
        train: features of the rows that vote, [N, F] of unit length.
        train_label: their labels, of any level [N].
        test: features of the rows that are judged, [T, F] of unit length.
        test_label: their labels [T].
        k: neighbours that vote; all train rows where there are fewer.
        temperature: of the weights.
        level: follows the name, such as "/coarse".

    Returns:
        {"knn@200": share}, with the number of neighbours that voted in the name.

    Raises:
        InputError: rows that cannot be judged, k below 1, or a temperature that is not positive.
    """
    check_rows(train, train_label, name="train", least=1)
    check_rows(test, test_label, least=1)
    found = nearest_across(test, train, k)
    voted = vote(found, train_label, temperature)
    share = (voted == test_label.to(voted.device)).double().mean().item()
    return {f"knn@{found.ids.shape[1]}{level}": share}


@torch.no_grad()
def nearest_across(queries: Tensor, gallery: Tensor, k: int) -> Retrieval:
    """The k nearest gallery rows of each query, by cosine similarity; exact, in chunks.

    Args:
        queries: [T, F] of unit length.
        gallery: [N, F] of unit length; where N is below k, all of them are found.
        k: neighbours.
    """
    if k < 1:
        raise InputError(f"{k} neighbours were asked for; one or more can be found")
    if queries.shape[1] != gallery.shape[1]:
        raise InputError(
            f"queries have {queries.shape[1]} numbers each, the gallery {gallery.shape[1]}: "
            "embed both with one encoder"
        )
    k = min(k, len(gallery))
    tops = [
        (chunk @ gallery.T).topk(k)  # [chunk, k]
        for chunk in queries.split(max(1, retrieval.ELEMENTS // len(gallery)))
    ]
    return Retrieval(torch.cat([top.indices for top in tops]), torch.cat([t.values for t in tops]))


@torch.no_grad()
def vote(found: Retrieval, label: Tensor, temperature: float = 0.1) -> Tensor:
    """The class of the largest sum of votes, each neighbour's being exp(similarity / temperature).

    (Wu, Xiong, Yu & Lin, Unsupervised Feature Learning via Non-Parametric Instance
    Discrimination, CVPR 2018, section 3.4.) The nearest neighbour's vote is scaled to 1, so that
    no temperature overflows. Of equal sums, the smallest label wins.

    Args:
        found: neighbours of each query, [T, k].
        label: class of each gallery row [N].
        temperature: positive; near 0, the nearest neighbour decides alone.

    Returns:
        labels int64 [T].
    """
    if not temperature > 0:
        raise InputError(f"a temperature of {temperature} gives no weights; give a positive one")
    classes, index = label.to(found.ids.device).unique(return_inverse=True)
    nearest = found.scores.amax(1, keepdim=True)
    weight = ((found.scores.double() - nearest.double()) / temperature).exp()  # [T, k]
    winners = []
    # Votes [chunk, C] in chunks, since there may be as many classes as products in a shop.
    for rows in torch.arange(len(weight), device=weight.device).split(
        max(1, retrieval.ELEMENTS // 2 // len(classes))
    ):
        votes = weight.new_zeros(len(rows), len(classes))
        votes.scatter_add_(1, index[found.ids[rows]], weight[rows])
        winners.append(votes.argmax(1))
    return classes[torch.cat(winners)]
