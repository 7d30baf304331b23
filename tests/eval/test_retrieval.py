import pytest
import torch

from maskcon.errors import InputError
from maskcon.eval import retrieval
from maskcon.eval.recall import strangers_within
from maskcon.eval.retrieval import (
    nearest_others,
    negatives_before,
    negatives_before_some,
    recall,
)


def features(n: int, width: int = 8, seed: int = 0) -> torch.Tensor:
    x = torch.randn(n, width, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(x, dim=1)


def loop_recall(x: torch.Tensor, label: torch.Tensor, k: int) -> float:
    """Sort all others of each row by similarity; a hit if one of the first k is of its class."""
    hits = 0
    for i in range(len(x)):
        others = sorted(
            (j for j in range(len(x)) if j != i), key=lambda j, i=i: -float(x[i] @ x[j])
        )
        hits += any(label[j] == label[i] for j in others[:k])
    return hits / len(x)


def test_agrees_with_a_loop():
    x = features(60)
    label = torch.randint(6, (60,), generator=torch.Generator().manual_seed(1))
    found = recall(negatives_before(x, label))
    assert found == {f"recall@{k}": pytest.approx(loop_recall(x, label, k)) for k in (1, 2, 5, 10)}


def brute_force(x: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Count in the whole matrix of similarities, in float64."""
    similarity = x.double() @ x.double().T
    same = label[:, None] == label
    others = same & ~torch.eye(len(x), dtype=torch.bool)
    nearest = similarity.masked_fill(~others, -torch.inf).amax(1, keepdim=True)
    before = (similarity.masked_fill(same, -torch.inf) >= nearest).sum(1)
    return before.where(others.any(1), len(x))


@pytest.mark.parametrize("n", [2, 127, 129, 1024, 1025, 3000])
@pytest.mark.parametrize("classes", [1, 3, 40, 2000])
@pytest.mark.parametrize("tile", [128, 1024, 2048])
def test_counts_are_those_of_brute_force(n, classes, tile, monkeypatch):
    """Tiles that hold many classes, classes that span many tiles, and classes of one row."""
    monkeypatch.setattr(retrieval, "TILE", {"cpu": tile})
    x = features(n, width=16)
    label = torch.randint(classes, (n,), generator=torch.Generator().manual_seed(1))
    found, expected = negatives_before(x, label), brute_force(x, label)
    assert torch.equal(found, expected)


def test_pairs_are_counted_alike_in_every_recall():
    x = features(500)
    label = torch.randint(5, (500,), generator=torch.Generator().manual_seed(1))
    ids = nearest_others(x, 20).ids
    hit = (label[ids] == label[:, None]).int().cummax(1).values
    before = negatives_before(x, label)
    for k in range(1, 21):
        assert recall(before, [k])[f"recall@{k}"] == hit[:, k - 1].double().mean().item()


def test_a_collapsed_space_finds_nothing():
    """All features equal: every rank is as good as any, and none may count as a hit."""
    x = features(1)[[0] * 300]
    label = torch.arange(300) % 3
    assert recall(negatives_before(x, label), [1, 10]) == {"recall@1": 0.0, "recall@10": 0.0}


def test_features_that_are_no_numbers():
    x = features(20)
    x[3, 3] = torch.nan
    with pytest.raises(InputError, match="some features are not finite"):
        negatives_before(x, torch.zeros(20, dtype=torch.long))


def test_a_duplicate_image_counts_as_a_neighbour():
    """Dropping the first hit in place of the row itself would drop the twin here."""
    x = features(5)
    x = torch.cat([x, x])
    found = nearest_others(x, 1)
    assert found.ids[:, 0].tolist() == [*range(5, 10), *range(5)]
    label = torch.arange(5).repeat(2)
    assert recall(negatives_before(x, label), ks=[1]) == {"recall@1": 1.0}


@pytest.mark.parametrize("elements", [1, 90, 2**25])
def test_chunks_do_not_change_neighbours(elements, monkeypatch):
    x = features(30)
    expected = nearest_others(x, 5)
    monkeypatch.setattr(retrieval, "ELEMENTS", elements)
    assert torch.equal(nearest_others(x, 5).ids, expected.ids)


def test_scores_are_similarities_and_fall():
    x = features(30)
    found = nearest_others(x, 29)
    assert (found.scores.diff(dim=1) <= 0).all()
    for row, ids, scores in zip(x, found.ids, found.scores, strict=True):
        torch.testing.assert_close(x[ids] @ row, scores)
    assert all(i not in ids for i, ids in enumerate(found.ids.tolist()))


def test_too_few_images():
    with pytest.raises(InputError, match="10 neighbours of each of 10 images"):
        nearest_others(features(10), 10)


@pytest.mark.parametrize(("n", "k"), [(400, 5), (417, 6), (1000, 3), (70, 20)])
def test_neighbours_by_blocks_are_those_of_sorting(n, k):
    x = features(n)
    similarity = (x @ x.T).fill_diagonal_(-torch.inf)
    expected, order = similarity.sort(1, descending=True)
    found = nearest_others(x, k)
    assert torch.equal(found.ids, order[:, :k])
    torch.testing.assert_close(found.scores, expected[:, :k])
    rows = torch.tensor([n - 1, 3, 40])
    some = nearest_others(x, k, rows)
    assert torch.equal(some.ids, order[rows, :k])


def test_some_rows_have_as_many_strangers_before_as_among_all():
    x = features(90)
    x[10:20] = x[0]  # ties count as strangers
    label = torch.randint(0, 12, (90,), generator=torch.Generator().manual_seed(1))
    label[5] = 99  # alone
    rows = torch.tensor([7, 0, 5, 15, 89])
    assert torch.equal(negatives_before_some(x, label, rows), negatives_before(x, label)[rows])
    coarse = label // 3
    expected = strangers_within(x, label, coarse)[rows]
    assert torch.equal(negatives_before_some(x, label, rows, among=coarse), expected)
