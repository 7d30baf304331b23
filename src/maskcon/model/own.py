"""Networks that no library has: narrow ones for a few cores, and few-shot papers' ResNet-12."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.functional import unfold

from maskcon.model.resnet import BasicBlock

SLOPE = 0.1  # of ResNet-12's LeakyReLU below 0
PATCH = 2  # side of the patches that a first layer whitens, in pixels
RIDGE = 5e-4  # added to their variances, which nearly vanish along some directions


class NarrowResNet(nn.Module):
    """A ResNet of basic blocks with a small-image stem and few channels, for a few cores.

    Args:
        width: channels of the stem and the first stage; each later stage doubles them.
        blocks: basic blocks of each stage.
    """

    def __init__(self, width: int, blocks: Sequence[int] = (1, 1, 1, 1)):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        stages, channels = [], width
        for stage, count in enumerate(blocks):
            out = width * 2**stage
            for block in range(count):
                stages.append(BasicBlock(channels, out, 2 if stage > 0 and block == 0 else 1))
                channels = out
        self.stages = nn.Sequential(*stages)
        self.num_features = channels
        _draw(self, "relu")

    def forward(self, images: Tensor) -> Tensor:
        """Feature [N, F] of images [N, 3, H, W]: the mean over the last stage's pixels."""
        return self.stages(self.stem(images)).mean((2, 3))


@runtime_checkable
class Fitted(Protocol):
    """A backbone with layers that do not learn by steps, but by one look at train images."""

    def fit(self, images: Tensor) -> None:
        """Take what it needs from images, normalised as it sees them [N, 3, H, W]."""
        ...


class WhitenedVGG(nn.Module):
    """Seven convolutions without a way around them, for a few cores and half an hour.

    After the network that Jordan trains on CIFAR-10 in seconds (arXiv:2404.00498, section 3): three
    stages of two 3x3 convolutions, a max-pool behind the first of each. The first layer, 2x2, does
    not learn: `fit` makes it whiten the patches of the train images, so that the layers behind it
    need not find out first that neighbouring pixels are alike.

    Args:
        width: channels of the first stage; each later stage doubles them.
    """

    def __init__(self, width: int):
        super().__init__()
        patch = 3 * PATCH * PATCH
        first = nn.Conv2d(3, 2 * patch, PATCH)
        self.stem = nn.Sequential(first, nn.ReLU())
        stages, channels = [], 2 * patch
        for out in (width, 2 * width, 4 * width):
            stages += [_convolved(channels, out, pooled=True), _convolved(out, out, pooled=False)]
            channels = out
        self.stages = nn.Sequential(*stages)
        self.num_features = channels
        _draw(self, "relu")
        first.weight.requires_grad_(False)
        nn.init.zeros_(cast(Tensor, first.bias))

    @torch.no_grad()
    def fit(self, images: Tensor) -> None:
        """Whiten the patches of images, normalised as the network sees them [N, 3, H, W].

        The filters are the eigenvectors of the patches' second moments, over the roots of the
        eigenvalues; and their negatives, since what lies below 0 is cut off.
        """
        first = cast(nn.Conv2d, self.stem[0])
        patches = unfold(images, PATCH).transpose(1, 2).flatten(0, 1).double()
        values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
        filters = (vectors / (values + RIDGE).sqrt()).T.reshape(-1, 3, PATCH, PATCH)
        first.weight.copy_(torch.cat([filters, -filters]))

    def forward(self, images: Tensor) -> Tensor:
        """Feature [N, F] of images [N, 3, H, W]: the mean over the last stage's pixels."""
        return self.stages(self.stem(images)).mean((2, 3))


def _convolved(inputs: int, outputs: int, *, pooled: bool) -> nn.Sequential:
    """A 3x3 convolution, normalised and rectified; at half the side where it is pooled."""
    pool = [nn.MaxPool2d(2)] if pooled else []
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return nn.Sequential(convolution, *pool, nn.BatchNorm2d(outputs), nn.ReLU())


class TripleBlock(nn.Module):
    """Three 3x3 convolutions and a 1x1 one around them; their sum, rectified, at half the side.

    Args:
        inputs: channels.
        outputs: of every convolution.
    """

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        parts: list[nn.Module] = []
        for channels in (inputs, outputs, outputs):
            parts += [
                nn.Conv2d(channels, outputs, 3, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.LeakyReLU(SLOPE, inplace=True),
            ]
        self.through = nn.Sequential(*parts[:-1])  # the last is behind the sum
        self.around = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        )
        self.rest = nn.Sequential(parts[-1], nn.MaxPool2d(2))

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C', H / 2, W / 2], rounded down."""
        return cast(Tensor, self.rest(self.through(x) + self.around(x)))


class ResNet12(nn.Module):
    """The ResNet-12 of few-shot papers, 12.4 million parameters; images of 16 px or more.

    As Lee et al. (MetaOptNet, CVPR 2019) have it and ANCOR and its successors after them, but
    without dropout and DropBlock.

    Args:
        widths: channels of each block.
    """

    def __init__(self, widths: Sequence[int] = (64, 160, 320, 640)):
        super().__init__()
        before = (3, *widths[:-1])
        self.blocks = nn.Sequential(*map(TripleBlock, before, widths))
        self.num_features = widths[-1]
        _draw(self, "leaky_relu")

    def forward(self, images: Tensor) -> Tensor:
        """Feature [N, F] of images [N, 3, H, W]: the mean over the last block's pixels."""
        return cast(Tensor, self.blocks(images).mean((2, 3)))


def _draw(network: nn.Module, nonlinearity: Literal["relu", "leaky_relu"]) -> None:
    """Draw the weights of all convolutions (He et al., 2015)."""
    slope = SLOPE if nonlinearity == "leaky_relu" else 0
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, slope, "fan_out", nonlinearity)


OWN: dict[str, Callable[[], NarrowResNet | WhitenedVGG | ResNet12]] = {
    **{f"resnet10w{width}": partial(NarrowResNet, width) for width in (8, 16, 32)},
    **{f"vgg7w{width}": partial(WhitenedVGG, width) for width in (16, 48)},
    "resnet12": ResNet12,
}
