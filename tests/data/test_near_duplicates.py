"""Thumbnails that hardly differ, against all pairs."""

import pytest
import torch

from maskcon.data import near_duplicates
from maskcon.data.near_duplicates import NEAR, pairs, usable


def some(n: int, seed: int = 0) -> torch.Tensor:
    """Smooth grey thumbnails [n, 256]: copies, near copies, flat ones and others."""
    random = torch.Generator().manual_seed(seed)
    small = torch.randint(0, 256, (n, 1, 4, 4), generator=random).float()
    x = torch.nn.functional.interpolate(small, 16, mode="bilinear").flatten(1)
    x[n // 2 : n // 2 + n // 4] = x[: n // 4]
    noise = torch.randn(n // 4, 256, generator=random) * torch.linspace(0, 12, n // 4)[:, None]
    x[n // 2 : n // 2 + n // 4] += noise
    x[n - 3 :] = 80.0
    return x


def by_the_eye(queries, others, same):
    found = {}
    distance = (queries[:, None] - others[None]).abs().mean(2)
    distance[:, ~usable(others)] = torch.inf
    distance[~usable(queries)] = torch.inf
    if same:
        distance.fill_diagonal_(torch.inf)
    for row, least in enumerate(distance.min(1).values.tolist()):
        if least < NEAR:
            found[row] = least
    return found, distance


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("crowd", [0, 30])
def test_pairs_against_all(same, crowd, monkeypatch):
    monkeypatch.setattr(near_duplicates, "_CHUNK", 16)
    queries = some(60)
    queries[:crowd] = queries[0] + 0.5 * torch.randn(
        crowd, 256, generator=torch.Generator().manual_seed(3)
    )  # more that are alike than a tree is asked for
    others = queries if same else torch.cat([some(40, seed=1), queries[5:25] + 1])
    expected, distance = by_the_eye(queries, others, same)
    found = dict(pairs(queries, others, same=same))
    assert found.keys() == expected.keys()
    assert len(found) > 10
    for row, other in found.items():
        assert distance[row, other] == pytest.approx(expected[row])


def test_few_or_none():
    x = some(8)
    assert list(pairs(x[:0], x)) == []
    assert list(pairs(x, x[:0])) == []
    assert list(pairs(x[:1], x[:1], same=True)) == []
    assert list(pairs(x[:1], x[:1])) == [(0, 0)]
