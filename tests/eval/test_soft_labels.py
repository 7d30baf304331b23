"""Distances of soft labels beside loops that write every target down."""

import numpy as np
import pytest
import torch

from maskcon.errors import InputError
from maskcon.eval import soft_labels as module
from maskcon.eval.soft_labels import Bank, soft_labels


def made(rows: int = 40, width: int = 6, seed: int = 0) -> Bank:
    random = torch.Generator().manual_seed(seed)
    z = torch.nn.functional.normalize(torch.randn(rows, width, generator=random), dim=1)
    fine = torch.randint(9, (rows,), generator=random)
    return Bank(z, fine // 3, fine)


def loop(bank: Bank, rule, w: float) -> float:
    """Mean distance, every target and true label written down in float64."""
    z = bank.z.double().numpy()
    found = []
    for i in range(len(z)):
        others = [j for j in range(len(z)) if j != i]
        mates = [j for j in others if bank.coarse[j] == bank.coarse[i]]
        nearest = max((z[i] @ z[j] for j in mates), default=0.0)
        weights = [rule(z[i] @ z[j] - nearest) if j in mates else 0.0 for j in others]
        target = w * np.array([1.0, *weights]) / (1 + sum(weights))
        target[0] += 1 - w
        true = np.array([1.0, *(float(bank.fine[j] == bank.fine[i]) for j in others)])
        found.append(np.abs(target - true / true.sum()).sum() / 2)
    return float(np.mean(found))


@pytest.mark.parametrize("elements", [2**22, 100])
def test_distances_agree_with_loops(elements, monkeypatch):
    monkeypatch.setattr(module, "ELEMENTS", elements)
    bank = made()
    found = soft_labels(bank, taus=(0.1, 1.0), shares=(1.0, 0.5))

    def at(tau):
        return lambda s: np.exp(s / tau)

    everywhere = {
        "selfcon": loop(bank, lambda s: 0.0, 1.0),
        "supcon": loop(bank, lambda s: 1.0, 1.0),
        "grafit": loop(bank, lambda s: 1.0, 0.8),
        "coins": loop(bank, lambda s: 1.0, 0.5),
        "maskcon": loop(bank, at(0.05), 1.0),
    }
    for name, expected in everywhere.items():
        assert found[f"label_distance/{name}"] == pytest.approx(expected, abs=1e-6)
    for w in (1.0, 0.5):
        curve = found[f"over_tau/w={w:g}"]
        assert [*curve] == ["0.05", "0.1", "1"]
        for tau, value in curve.items():
            assert value == pytest.approx(loop(bank, at(float(tau)), w), abs=1e-6)
    best = min(found["over_tau/w=1"].values())
    assert found["label_distance/maskcon/best"] == best
    assert found["over_tau/w=1"][f"{found['label_distance/maskcon/best_tau']:g}"] == best


def test_relations():
    bank = made()
    found = soft_labels(bank, taus=(1e6,), shares=(0.8, 0.0))
    assert found["over_tau/w=0.8"]["1e+06"] == pytest.approx(found["label_distance/grafit"])
    assert found["over_tau/w=1"]["1e+06"] == pytest.approx(found["label_distance/supcon"])
    assert found["over_tau/w=0"]["0.05"] == pytest.approx(found["label_distance/selfcon"])


def test_labels_that_are_right():
    z = made().z
    as_coarse = soft_labels(Bank(z, torch.arange(40) % 4, torch.arange(40) % 4))
    assert as_coarse["label_distance/supcon"] == pytest.approx(0, abs=1e-6)
    alone = soft_labels(Bank(z, torch.arange(40) % 4, torch.arange(40)))
    assert alone["label_distance/selfcon"] == pytest.approx(0, abs=1e-6)


def test_rows_that_cannot_be_judged():
    bank = made()
    with pytest.raises(InputError, match="40 bank images have labels of shape"):
        soft_labels(Bank(bank.z, bank.coarse, bank.fine[:-1]))
