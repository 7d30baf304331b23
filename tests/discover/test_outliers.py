"""Pictures to look at first: on drawn vectors, beside slow loops."""

import numpy as np
import torch

from maskcon.discover import discover
from maskcon.discover.outliers import LARGEST, outliers
from tests.discover.test_questions import kinds


def planted(seed=0):
    """Classes of kinds, one picture in thirty under the label of the next class."""
    features, coarse, _ = kinds(seed=seed)
    wrong = np.random.default_rng(seed).random(len(coarse)) < 1 / 30
    return features, torch.from_numpy(np.where(wrong, (coarse + 1) % 3, coarse)), wrong


def slowly(x, coarse):
    """{row: (label, count)} where eight or more of the ten nearest have one other label."""
    found = {}
    for row in range(len(x)):
        others = sorted((j for j in range(len(x)) if j != row), key=lambda j: -float(x[row] @ x[j]))
        labels = [int(coarse[j]) for j in others[:10]]
        label = max(set(labels), key=labels.count)
        if label != coarse[row] and labels.count(label) >= 8:
            found[row] = label, labels.count(label)
    return found


def test_wrong_labels_are_found_as_a_loop_finds_them():
    features, coarse, wrong = planted()
    divisions = discover(features, coarse)
    found = outliers(features.numpy(), coarse.numpy(), divisions)
    labels = {o.row: (o.nearer, o.count) for o in found if o.nearer is not None}
    assert labels == slowly(features.numpy(), coarse.numpy())
    assert wrong[list(labels)].mean() > 0.9
    assert len(labels) > 0.8 * wrong.sum()
    far = {int(r) for d in divisions for r in d.rows[d.outlier]}
    assert far == {o.row for o in found if o.far}
    assert {o.row for o in found} == far | set(labels)
    told = [o.nearer is not None for o in found]
    assert told == sorted(told, reverse=True)
    assert "of the 10 nearest are cats" in found[0].reason(["cats"] * 3)


def test_among_some_of_many(monkeypatch):
    features, coarse, wrong = planted()
    assert len(coarse) < LARGEST
    monkeypatch.setattr("maskcon.discover.outliers.LARGEST", 150)
    found = outliers(features.numpy(), coarse.numpy(), discover(features, coarse))
    rows = [o.row for o in found if o.nearer is not None]
    assert wrong[rows].mean() > 0.9


def test_few_or_equal_pictures_are_no_outliers():
    for count in (1, 3, 12):
        x = torch.ones(count, 4) / 2
        coarse = torch.arange(count) % 2
        assert outliers(x.numpy(), coarse.numpy(), discover(x, coarse)) == []
