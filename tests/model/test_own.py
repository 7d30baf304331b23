"""The ResNet-12 of few-shot papers and the whitened VGG, beside ones written down plainly."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from maskcon import commands
from maskcon.errors import InputError
from maskcon.model.backbones import build_backbone
from maskcon.model.blocks import before_last
from maskcon.model.own import RIDGE, WhitenedVGG
from maskcon.model.saved import load_encoder
from tests.conftest import as_found

WIDTHS = (64, 160, 320, 640)


def plain(images: torch.Tensor, weights: list[torch.Tensor]) -> torch.Tensor:
    """Blocks of conv-bn-leaky, conv-bn-leaky, conv-bn, + conv1x1-bn, leaky, max-pool; then a mean.

    Args:
        images: [N, 3, H, W].
        weights: of the convolutions, three and the one around them for each block.
    """
    x = images
    for block in range(0, len(weights), 4):
        way = x
        for place, weight in enumerate(weights[block : block + 3]):
            way = normed(functional.conv2d(way, weight, padding=1))
            if place < 2:
                way = torch.where(way > 0, way, 0.1 * way)
        x = way + normed(functional.conv2d(x, weights[block + 3]))
        x = torch.where(x > 0, x, 0.1 * x)
        n, channels, height, width = x.shape
        x = x[:, :, : height // 2 * 2, : width // 2 * 2]
        x = x.reshape(n, channels, height // 2, 2, width // 2, 2).amax((3, 5))
    return x.mean((2, 3))


def normed(x: torch.Tensor) -> torch.Tensor:
    """By the batch's own mean and variance of each channel."""
    variance, mean = torch.var_mean(x, (0, 2, 3), correction=0, keepdim=True)
    return (x - mean) / (variance + 1e-5).sqrt()


def test_resnet12_is_the_one_written_plainly():
    torch.manual_seed(0)
    network, width = build_backbone("resnet12")
    assert width == 640
    images = torch.randn(4, 3, 37, 32)  # of which 37 halves to 18, 9, 4 and 2
    weights = [m.weight for m in network.modules() if isinstance(m, nn.Conv2d)]
    shapes = [tuple(weight.shape[:3]) for weight in weights]
    before = (3, *WIDTHS[:-1])
    assert shapes == [
        shape
        for i, o in zip(before, WIDTHS, strict=True)
        for shape in ((o, i, 3), (o, o, 3), (o, o, 3), (o, i, 1))
    ]
    expected = plain(images.double(), [weight.double() for weight in weights])
    torch.testing.assert_close(network(images).double(), expected, rtol=1e-3, atol=1e-4)


def test_resnet12_has_124_million_parameters_in_four_blocks():
    network, _ = build_backbone("resnet12")
    convolutions = sum(
        9 * i * o + 2 * 9 * o * o + i * o for i, o in zip((3, *WIDTHS), WIDTHS, strict=False)
    )
    norms = 2 * 4 * sum(WIDTHS)
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count == convolutions + norms == 12_424_320
    assert before_last(network, 1) == ("blocks.0", "blocks.1", "blocks.2")


def test_resnet12_is_drawn_for_leaky_units():
    torch.manual_seed(0)
    network, _ = build_backbone("resnet12")
    last = network.blocks[3].through[3].weight  # [640, 640, 3, 3]
    assert last.std().item() == pytest.approx((2 / 1.01 / (9 * 640)) ** 0.5, rel=0.01)
    with pytest.raises(InputError, match="resnet12 has no ImageNet weights"):
        build_backbone("resnet12", init="imagenet")


# The VGG whose first layer whitens


def uneven(count: int = 64) -> torch.Tensor:
    """Images whose neighbouring pixels and channels are alike [N, 3, 16, 16]."""
    coarse = torch.randn(count, 1, 5, 5, generator=torch.Generator().manual_seed(1))
    smooth = functional.interpolate(coarse, size=16, mode="bilinear").repeat(1, 3, 1, 1)
    return smooth + 0.3 * torch.randn(smooth.shape, generator=torch.Generator().manual_seed(2))


def test_whitened_vgg_is_the_one_written_plainly():
    torch.manual_seed(0)
    network, width = build_backbone("vgg7w16")
    assert width == 64
    images = torch.randn(4, 3, 21, 19)
    first, *weights = [m.weight.double() for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert [tuple(w.shape[:2]) for w in weights] == [
        *((16, 24), (16, 16)),
        *((32, 16), (32, 32)),
        *((64, 32), (64, 64)),
    ]
    x = functional.conv2d(images.double(), first).clamp(min=0)
    for place, weight in enumerate(weights):
        x = functional.conv2d(x, weight, padding=1)
        if place % 2 == 0:
            n, channels, height, width = x.shape
            x = x[:, :, : height // 2 * 2, : width // 2 * 2]
            x = x.reshape(n, channels, height // 2, 2, width // 2, 2).amax((3, 5))
        x = normed(x).clamp(min=0)
    torch.testing.assert_close(network(images).double(), x.mean((2, 3)), rtol=1e-3, atol=1e-4)


def test_the_first_layer_whitens_patches():
    network = WhitenedVGG(16)
    images = uneven()
    network.fit(images)
    filters = network.stem[0].weight
    assert torch.equal(filters[12:], -filters[:12])
    found = functional.conv2d(images, filters[:12]).transpose(0, 1).flatten(1).double()
    seen = found @ found.T / found.shape[1]
    patches = [
        images[n, :, y : y + 2, x : x + 2].reshape(12)
        for n in range(64)
        for y in range(15)
        for x in range(15)
    ]
    moments = torch.stack(patches).double()
    variances = torch.linalg.eigvalsh(moments.T @ moments / len(moments))
    expected = torch.diag(variances / (variances + RIDGE))  # 1, but for what hardly varies
    torch.testing.assert_close(seen, expected, rtol=1e-4, atol=1e-5)


def test_a_run_whitens_its_train_images_and_leaves_the_filters(tiny, tmp_path):
    options: dict[str, Any] = {"backbone": "vgg7w16", "method": "supce", "batch_size": 16}
    options |= {"data": as_found(tiny), "image_size": 16}
    for seed, epochs in ((0, 1), (1, 2)):
        commands.train(out=tmp_path / f"{seed}", seed=seed, epochs=epochs, **options)
    first, second = (load_encoder(tmp_path / f"{seed}")[0].backbone for seed in (0, 1))
    assert torch.equal(first.stem[0].weight, second.stem[0].weight)
    assert not torch.equal(first.stem[0].bias, second.stem[0].bias)
    del options["backbone"]
    commands.train(out=tmp_path / "on", init=str(tmp_path / "0"), epochs=1, **options)
    went_on = load_encoder(tmp_path / "on")[0].backbone
    assert torch.equal(went_on.stem[0].weight, first.stem[0].weight)
