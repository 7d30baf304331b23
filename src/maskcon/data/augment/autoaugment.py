"""AutoAugment's CIFAR-10 policy on a batch.

Reference: Cubuk et al., CVPR 2019, Table 7, with the levels, signs, interpolation and fill
of the strong view of MaskCon's released program. torchvision's AutoAugment differs in them.
"""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from maskcon.data.augment import operations
from maskcon.data.augment.change import Change
from maskcon.runtime.device import sent

# The 25 sub-policies: two operations each, as (name, probability, level 0-9).
CIFAR10_POLICY = (
    (("invert", 0.1, 7), ("contrast", 0.2, 6)),
    (("rotate", 0.7, 2), ("translate_x", 0.3, 9)),
    (("sharpness", 0.8, 1), ("sharpness", 0.9, 3)),
    (("shear_y", 0.5, 8), ("translate_y", 0.7, 9)),
    (("autocontrast", 0.5, 8), ("equalize", 0.9, 2)),
    (("shear_y", 0.2, 7), ("posterize", 0.3, 7)),
    (("color", 0.4, 3), ("brightness", 0.6, 7)),
    (("sharpness", 0.3, 9), ("brightness", 0.7, 9)),
    (("equalize", 0.6, 5), ("equalize", 0.5, 1)),
    (("contrast", 0.6, 7), ("sharpness", 0.6, 5)),
    (("color", 0.7, 7), ("translate_x", 0.5, 8)),
    (("equalize", 0.3, 7), ("autocontrast", 0.4, 8)),
    (("translate_y", 0.4, 3), ("sharpness", 0.2, 6)),
    (("brightness", 0.9, 6), ("color", 0.2, 8)),
    (("solarize", 0.5, 2), ("invert", 0.0, 3)),
    (("equalize", 0.2, 0), ("autocontrast", 0.6, 0)),
    (("equalize", 0.2, 8), ("equalize", 0.8, 4)),
    (("color", 0.9, 9), ("equalize", 0.6, 6)),
    (("autocontrast", 0.8, 4), ("solarize", 0.2, 8)),
    (("brightness", 0.1, 3), ("color", 0.7, 0)),
    (("solarize", 0.4, 5), ("autocontrast", 0.9, 3)),
    (("translate_y", 0.9, 9), ("translate_y", 0.7, 9)),
    (("autocontrast", 0.9, 2), ("solarize", 0.8, 3)),
    (("equalize", 0.8, 8), ("invert", 0.1, 3)),
    (("translate_y", 0.7, 9), ("autocontrast", 0.9, 1)),
)

_LEVEL = torch.linspace(0, 1, 10, dtype=torch.float64)
_NONE = torch.zeros(10, dtype=torch.float64)


def _signed(magnitude: Tensor) -> tuple[Tensor, Tensor]:
    return -magnitude, magnitude


def _unsigned(magnitude: Tensor) -> tuple[Tensor, Tensor]:
    return magnitude, magnitude


# name: (operation, magnitudes of levels 0-9 where the drawn sign is -, the same where it is +)
OPERATIONS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Tensor, Tensor]] = {
    "shear_x": (operations.shear_x, *_signed(0.3 * _LEVEL)),
    "shear_y": (operations.shear_y, *_signed(0.3 * _LEVEL)),
    "translate_x": (operations.translate_x, *_signed(150 / 331 * _LEVEL)),
    "translate_y": (operations.translate_y, *_signed(150 / 331 * _LEVEL)),
    "rotate": (operations.rotate, *_unsigned(30 * _LEVEL)),
    "color": (operations.color, 1 - 0.9 * _LEVEL, 1 + 0.9 * _LEVEL),
    "contrast": (operations.contrast, 1 - 0.9 * _LEVEL, 1 + 0.9 * _LEVEL),
    "sharpness": (operations.sharpness, 1 - 0.9 * _LEVEL, 1 + 0.9 * _LEVEL),
    "brightness": (operations.brightness, 1 - 0.9 * _LEVEL, 1 + 0.9 * _LEVEL),
    "posterize": (operations.posterize, *_unsigned((8 - 4 * _LEVEL).round())),
    "solarize": (operations.solarize, *_unsigned(256 - 256 * _LEVEL)),
    "autocontrast": (operations.autocontrast, _NONE, _NONE),
    "equalize": (operations.equalize, _NONE, _NONE),
    "invert": (operations.invert, _NONE, _NONE),
}
_NAMES = list(OPERATIONS)
# The policy as tables [25, 2], and the magnitudes [operation, sign, level].
_OPERATION = torch.tensor([[_NAMES.index(op[0]) for op in sub] for sub in CIFAR10_POLICY])
_PROBABILITY = torch.tensor([[op[1] for op in sub] for sub in CIFAR10_POLICY])
_LEVELS = torch.tensor([[op[2] for op in sub] for sub in CIFAR10_POLICY])
_MAGNITUDE = torch.stack([torch.stack([minus, plus]) for _, minus, plus in OPERATIONS.values()])


def _draw(n: int, generator: Generator | None) -> Tensor:
    """Operation (-1: none) and magnitude of both stages, for each image: float64 [N, 2, 2]."""
    device = generator.device if generator is not None else torch.device("cpu")
    sub = torch.randint(len(CIFAR10_POLICY), (n,), generator=generator, device=device).cpu()
    u = torch.rand(2, n, 2, generator=generator, device=device).cpu()
    applied = u[0] < _PROBABILITY[sub]  # [N, 2]
    plus = (u[1] < 0.5).long()
    magnitude = _MAGNITUDE[_OPERATION[sub], plus, _LEVELS[sub]]  # [N, 2]
    operation = _OPERATION[sub].where(applied, -1)
    return torch.stack([operation.double(), magnitude], 1)


def _apply(images: Tensor, drawn: Tensor) -> Tensor:
    operation, magnitude = drawn.unbind(1)  # [N, 2] each
    images = images.clone()
    for stage in range(2):
        # Images that draw the same operation go through it together. Which they are is known
        # on the processor, so nothing here waits for the device.
        for index, (apply, _, _) in enumerate(OPERATIONS.values()):
            rows = (operation[:, stage] == index).nonzero()[:, 0]
            if len(rows):
                strength = sent(magnitude[rows, stage], images.device)
                rows = sent(rows, images.device)
                images[rows] = apply(images[rows], strength)
    return images


cifar10_policy = Change(_draw, _apply)  # to each image a sub-policy of its own draw
