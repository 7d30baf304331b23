"""Which images a bank's rows are of: where each has a label of its own, the bank itself says it."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from maskcon import commands
from maskcon.data import from_arrays
from maskcon.data.sets import glyphs
from maskcon.errors import InputError
from maskcon.runs import folder as runs
from maskcon.runs.checkpoint import newest_checkpoint
from maskcon.runs.own_bank import own_bank
from maskcon.runtime.progress import Silent
from tests.conftest import FAST, as_found


@pytest.fixture(scope="module")
def found():
    """Every image its own fine class, so that training with fine labels notes them in the bank."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (70, 16, 16, 3), dtype=np.uint8)
    coarse = [f"c{i % 5}" for i in range(70)]
    fine = [f"c{i % 5}/{i}" for i in range(70)]
    test = (images[:10], coarse[:10], fine[:10])
    return from_arrays(images, coarse, fine, test=test, name="apart")


def bank_and_label(found, folder, **options):
    commands.train(data=found, out=folder, **{**FAST, **options})
    bank = own_bank(folder, runs.read(folder), found.parts["train"], Silent())
    state = newest_checkpoint(folder, Silent())["training"]["bank"]
    return bank, state


@pytest.mark.parametrize("options", [{"bank_size": 27, "epochs": 3}, {"bank_size": 70}])
def test_rows_are_those_that_entered(found, tmp_path, options):
    bank, state = bank_and_label(found, tmp_path / "run", label="fine", method="supcon", **options)
    assert torch.equal(bank.fine, state["label"])
    assert torch.equal(bank.coarse, found.parts["train"].coarse[bank_rows(found, state)])
    assert torch.equal(bank.z, state["z"])


def bank_rows(found, state):
    """The image of each row, by its fine label, of which there is one each."""
    fine = found.parts["train"].fine.tolist()
    return [fine.index(label) for label in state["label"].tolist()]


def test_rows_of_a_head_on_vectors(tmp_path):
    """Of which some are left out of training."""
    random = np.random.default_rng(1)
    numbers = np.arange(440)
    split = np.where(numbers < 400, "train", "test")
    np.savez(
        tmp_path / "vectors.npz",
        vector=random.normal(size=(440, 12)).astype(np.float32),
        coarse=np.char.add("c", (numbers % 5).astype(str)),
        fine=np.char.add("f", numbers.astype(str)),
        split=split,
    )
    options = {"label": "fine", "method": "supcon", "batch_size": 32, "bank_size": 50, "epochs": 1}
    run = tmp_path / "run"
    commands.train(features=tmp_path / "vectors.npz", out=run, warmup_epochs=0, **options)
    results = commands.eval(run, protocol="soft-labels")
    assert 0 < results["label_distance/supcon"] <= 1
    state = newest_checkpoint(run, Silent())["training"]["bank"]
    assert len(state["label"].unique()) > 30


def test_what_cannot_be_told_is_a_message(found, tmp_path):
    run = tmp_path / "run"
    commands.train(data=found, out=run, method="supcon", **FAST)
    train = found.parts["train"]
    turned = train.take(np.arange(70)[::-1].copy())
    record = runs.read(run)
    for other in (turned, train.take(np.arange(60))):
        with pytest.raises(InputError, match="was not trained on these"):
            own_bank(run, record, other, Silent())
    with pytest.raises(InputError, match="no train images with fine labels"):
        own_bank(run, record, None, Silent())
    (run / "last.ckpt").unlink()
    (run / "previous.ckpt").unlink(missing_ok=True)
    with pytest.raises(InputError, match="has no checkpoint, and the bank"):
        own_bank(run, record, train, Silent())


def test_pictures_that_were_left_out_or_lie_in_another_order_do_not_matter(tmp_path):
    run, found = tmp_path / "run", as_found(glyphs.make(train=238, test=40))
    options = {**FAST, "method": "supcon", "epochs": 2, "val_share": 0.3}
    commands.train(data=found, out=run, **options)
    results = commands.eval(run, data=found, protocol="soft-labels")
    train = found.parts["train"]
    turned = replace(
        found, parts={**found.parts, "train": train.take(np.arange(len(train))[::-1].copy())}
    )
    again = commands.eval(run, data=turned, protocol="soft-labels")
    assert again["label_distance/supcon"] == results["label_distance/supcon"]


def test_a_method_without_a_bank(found, tmp_path):
    run = tmp_path / "run"
    options = {k: v for k, v in FAST.items() if k not in ("bank_size", "projection")}
    commands.train(data=found, out=run, method="supce", **options)
    with pytest.raises(InputError, match="supce, which has no bank for soft labels"):
        commands.eval(run, data=found, protocol="soft-labels")


def test_soft_labels_of_a_run(found, tmp_path):
    run = tmp_path / "run"
    commands.train(data=found, out=run, method="maskcon", **FAST)
    picture = tmp_path / "labels.png"
    results = commands.eval(run, data=found, protocol="soft-labels", picture=picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert results["label_distance/selfcon"] == pytest.approx(0, abs=1e-6)  # one of each class
    kept = json.loads((run / "run.json").read_text())["evaluations"]["apart"]
    assert kept["label_distance/maskcon"] == results["label_distance/maskcon"]
    with pytest.raises(InputError, match=r"labels.png exists: give another --picture"):
        commands.eval(run, data=found, protocol="soft-labels", picture=picture)
    with pytest.raises(InputError, match="--picture has no effect"):
        commands.eval(run, data=found, picture=tmp_path / "no.png")
