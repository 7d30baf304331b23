"""ResNets, by the names and with the draws that torchvision's have."""

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn
from torch.nn import functional

# Channels below which PyTorch 2.14 breaks off with a segmentation fault on processors with AVX-512:
# in the gradient of the weights of a 1x1 convolution with a stride, channels last, 64 px or more.
NARROW = 16


def _conv(inputs: int, outputs: int, side: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, side, stride, padding=side // 2, bias=False)


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    """The way around a block, where pixels or channels change; None where they do not."""
    if stride == 1 and inputs == outputs:
        return None
    kind = OfSomePixels if stride > 1 and inputs < NARROW else nn.Conv2d
    return nn.Sequential(kind(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class OfSomePixels(nn.Conv2d):
    """A 1x1 convolution with a stride, which takes its pixels first and then has none."""

    def forward(self, x: Tensor) -> Tensor:
        """[N, C', H / stride, W / stride] of [N, C, H, W]."""
        down, across = self.stride
        return functional.conv2d(x[:, :, ::down, ::across], self.weight, self.bias)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and the way around them (He et al., 2016).

    Args:
        inputs: channels.
        channels: of its convolutions; the output has `widens` times as many.
        stride: of the first.
    """

    widens = 1

    def __init__(self, inputs: int, channels: int, stride: int = 1):
        super().__init__()
        # drawn first, as torchvision draws it, and named behind the rest, as torchvision does
        downsample = _shortcut(inputs, channels, stride)
        self.conv1 = _conv(inputs, channels, 3, stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = _conv(channels, channels, 3)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C', H', W']."""
        around = x if self.downsample is None else self.downsample(x)
        through = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        through += around
        return cast(Tensor, self.relu(through))


class Bottleneck(nn.Module):
    """Convolutions of 1x1, 3x3 and 1x1, the stride in the middle one, and the way around them.

    Args:
        inputs: channels.
        channels: of the first two convolutions; the output has `widens` times as many.
        stride: of the 3x3 one.
    """

    widens = 4

    def __init__(self, inputs: int, channels: int, stride: int = 1):
        super().__init__()
        outputs = channels * self.widens
        downsample = _shortcut(inputs, outputs, stride)
        self.conv1 = _conv(inputs, channels, 1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = _conv(channels, channels, 3, stride)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = _conv(channels, outputs, 1)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C', H', W']."""
        around = x if self.downsample is None else self.downsample(x)
        through = self.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))))
        through = self.bn3(self.conv3(through))
        through += around
        return cast(Tensor, self.relu(through))


class ResNet(nn.Module):
    """A ResNet without its classifier, the weights of which torchvision's takes and gives.

    A run with one need not wait until torchvision is imported. The generator gives the weights
    that torchvision's would have: its classifier, which nobody sees, is drawn as well.

    Args:
        block: of all four stages.
        blocks: how many each has.
    """

    def __init__(self, block: type[BasicBlock] | type[Bottleneck], blocks: Sequence[int]):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool: nn.Module = nn.MaxPool2d(3, 2, padding=1)
        stages, inputs = [], 64
        for stage, count in enumerate(blocks):
            channels, parts = 64 * 2**stage, []
            for place in range(count):
                parts.append(block(inputs, channels, 2 if stage and not place else 1))
                inputs = channels * block.widens
            stages.append(nn.Sequential(*parts))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        nn.Linear(inputs, 1000)
        self.fc = nn.Identity()
        self.num_features = inputs
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Feature [N, F] of images [N, 3, H, W]."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return cast(Tensor, self.fc(self.avgpool(x).flatten(1)))


RESNETS: dict[str, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, ...]]] = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
}
