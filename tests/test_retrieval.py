import pytest
import torch

from maskcon import retrieval
from maskcon.errors import InputError
from maskcon.retrieval import nearest_others, recall


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


@pytest.mark.parametrize("chunk", [1, 7, 1024])
def test_agrees_with_a_loop(chunk, monkeypatch):
    monkeypatch.setattr(retrieval, "CHUNK", chunk)
    x = features(60)
    label = torch.randint(6, (60,), generator=torch.Generator().manual_seed(1))
    found = recall(nearest_others(x, 10), label)
    assert found == {f"recall@{k}": pytest.approx(loop_recall(x, label, k)) for k in (1, 2, 5, 10)}


def test_a_duplicate_image_counts_as_a_neighbour():
    """Dropping the first hit in place of the row itself would drop the twin here."""
    x = features(5)
    x = torch.cat([x, x])
    found = nearest_others(x, 1)
    assert found.ids[:, 0].tolist() == [*range(5, 10), *range(5)]
    assert recall(found, torch.arange(5).repeat(2), ks=[1]) == {"recall@1": 1.0}


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
