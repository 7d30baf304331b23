"""Families of timm's networks that are made for one size, at another."""

import pytest
import safetensors.torch
import torch

from maskcon import commands
from maskcon.data.sets import glyphs
from maskcon.encoder import Encoder
from maskcon.model.backbones import build_backbone
from maskcon.model.saved import load_encoder
from maskcon.vectors import file as embeddings
from tests.conftest import write_tree

pytestmark = pytest.mark.heavy

SIZE = 96
# Small ones of families that are made for one size: 224, 240 or 518 px.
FAMILIES = [
    *("vit_tiny_patch16_224", "vit_small_patch14_dinov2", "deit_tiny_distilled_patch16_224"),
    *("swin_tiny_patch4_window7_224", "eva02_tiny_patch14_224", "coat_lite_tiny", "levit_128s"),
    *("pit_ti_224", "convit_tiny", "crossvit_tiny_240", "mixer_s32_224", "tnt_s_patch16_224"),
]
ONE_SIZE = ("levit_128s", "mixer_s32_224")
TUNED = ("vit_tiny_patch16_224", "levit_128s")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    write_tree(folder, glyphs.make(train=16, test=4))
    return folder


@pytest.mark.parametrize("model", FAMILIES)
def test_a_family(model, pictures, tmp_path):
    torch.manual_seed(0)
    # of some, weights for one size say nothing about another
    own, _ = build_backbone(f"timm/{model}", size=SIZE if model in ONE_SIZE else 0)
    weights = {name: value.clone() for name, value in own.state_dict().items()}
    safetensors.torch.save_file(weights, tmp_path / "w.safetensors")
    given = {
        **{"data": pictures, "backbone": f"timm/{model}", "init": tmp_path / "w.safetensors"},
        **{"image_size": SIZE, "epochs": 1, "warmup_epochs": 0, "batch_size": 8, "device": "cpu"},
    }
    commands.train(out=tmp_path / "frozen", recipe="frozen", **given)
    made = commands.embed(tmp_path / "frozen", out=tmp_path / "v.npz", split="test")
    assert made["images"] == 4
    _, description = load_encoder(tmp_path / "frozen")
    assert description["mean"] == list(own.pretrained_cfg["mean"])
    found = commands.export(tmp_path / "frozen", to="safetensors")
    assert found["agreement"].max_difference < 1e-4
    if model not in TUNED:
        return
    commands.train(out=tmp_path / "tuned", method="supce", unfreeze=1, **given)
    after, again = load_encoder(tmp_path / "tuned")
    assert again["mean"] == description["mean"]
    paths = list(embeddings.read(tmp_path / "v.npz").paths)
    assert Encoder.load(tmp_path / "tuned").embed(paths).shape == (4, after.width)
    assert commands.export(tmp_path / "tuned", to="timm")["agreement"].max_difference < 1e-4
