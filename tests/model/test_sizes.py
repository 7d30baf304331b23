"""Networks of timm at other sizes than their own, and their normalisation."""

from dataclasses import replace

import pytest
import safetensors.torch
import timm
import torch

from maskcon.config import resolve
from maskcon.errors import InputError
from maskcon.model import timm_network
from maskcon.model.backbones import build_backbone, layered, normalisation_of
from maskcon.model.network import Architecture, Network
from maskcon.train.build import _take_weights

DYNAMIC, MADE = "vit_tiny_patch16_224", "pit_ti_224"  # two ways; both of 5 million weights


@pytest.mark.parametrize(
    ("model", "size", "options"),
    [
        ("resnet10t", 100, {}),
        (DYNAMIC, 0, {}),
        (DYNAMIC, 224, {}),
        (DYNAMIC, 64, {"dynamic_img_size": True}),
        (DYNAMIC, 70, {"dynamic_img_size": True, "dynamic_img_pad": True}),
        (MADE, 64, {"img_size": 64}),
    ],
)
def test_a_network_takes_images_of_any_size(model, size, options):
    assert timm_network.options_for(model, size) == options
    backbone, width = build_backbone(f"timm/{model}", size=size)
    side = size or 224
    assert backbone.eval()(torch.rand(2, 3, side, side)).shape == (2, width)


def test_a_size_that_a_network_cannot_take_is_told_with_those_that_it_can():
    with pytest.raises(InputError, match=r"take 100 px .*set --image-size to 96 or 128 or 224"):
        timm_network.options_for("hiera_tiny_224", 100)


def test_positions_are_those_that_timm_resamples_for_the_size():
    """The oracle: a network that timm makes for the size, of the same weights."""
    ours, _ = build_backbone(f"timm/{DYNAMIC}", size=96)
    theirs = timm.create_model(DYNAMIC, num_classes=0, img_size=96)
    family = timm.models.vision_transformer
    theirs.load_state_dict(family.checkpoint_filter_fn(ours.state_dict(), theirs))
    images = torch.rand(2, 3, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(images), theirs.eval()(images))


@pytest.mark.parametrize("model", [DYNAMIC, MADE])
def test_weights_for_another_size_fit(model, tmp_path):
    """Those of a file, and those of a run; all of them, and positions resampled."""
    own, _ = build_backbone(f"timm/{model}")
    safetensors.torch.save_file(own.state_dict(), tmp_path / "w.safetensors")
    small, _ = build_backbone(f"timm/{model}", init=str(tmp_path / "w.safetensors"), size=64)
    parts = Architecture(
        backbone=f"timm/{model}", stem="large", heads=("z",), projection=8, classes=2, image_size=96
    )
    at96, at64 = Network(parts), Network(replace(parts, image_size=64))
    at96.backbone.load_state_dict(timm_network.resampled(at96.backbone, own.state_dict()))
    _take_weights(at64, at96, resolve({"image_size": 64}))
    for backbone in (small, at64.backbone):
        for name, value in backbone.state_dict().items():
            if value.shape == own.state_dict()[name].shape:
                assert torch.equal(value, own.state_dict()[name])
            else:
                assert value.std() > 0.1 * own.state_dict()[name].std()
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        far = (small.eval()(images) - at64.backbone.eval()(images)).abs().max()
    assert far < 0.2 * small(images).abs().max()  # positions resampled once, and twice


def test_the_normalisation_of_networks():
    half, _ = layered(f"timm/{DYNAMIC}", 1, size=32)
    other = ((0.1, 0.1, 0.1), (0.2, 0.2, 0.2))
    assert normalisation_of(half, other) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    theirs = normalisation_of(build_backbone("timm/resnet10t")[0], other)
    assert theirs == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert normalisation_of(build_backbone("resnet10w8")[0], other) == other
    both, _ = layered("resnet10w8+timm/resnet10t", 1, size=32)
    assert normalisation_of(both, theirs) == theirs
    with pytest.raises(InputError, match=r"other normalisations \(\(\(0.1, 0.1, 0.1\)"):
        normalisation_of(both, other)
