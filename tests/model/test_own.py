"""The ResNet-12 of few-shot papers, beside one written down plainly."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from maskcon.errors import InputError
from maskcon.model.backbones import build_backbone
from maskcon.model.blocks import before_last

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
