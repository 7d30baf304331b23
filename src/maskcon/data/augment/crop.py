"""Crops of a batch, each with its own box, resized to squares as Pillow resizes.

Resizing is linear and separable, so a crop, its resize and its flip are one small matrix for
the rows and one for the columns of each image, and a batch is two batched matrix products.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from maskcon.runtime.device import sent

SMALL = 3 / 7  # side of a small crop, as a share of a view's: 96 px of 224
SMALL_AREA = (0.1, 0.4)  # of a view, that a small crop shows
ATTEMPTS = 10  # draws before falling back to the central crop, as in torchvision


@dataclass(frozen=True)
class Crops:
    """Where each image is cut, and whether it is mirrored.

    Attributes:
        boxes: (top, left, height, width) inside the image, int64 [N, 4].
        mirrored: bool [N], left to right; None where no image is.
        whole: the boxes hold the whole images.
    """

    boxes: Tensor
    mirrored: Tensor | None = None
    whole: bool = False

    @classmethod
    def of(cls, parts: Sequence["Crops"]) -> "Crops":
        """Those of several batches of one view, one after the other."""
        first = parts[0]
        mirrored = None
        if first.mirrored is not None:
            mirrored = torch.cat([part.mirrored for part in parts if part.mirrored is not None])
        return cls(torch.cat([part.boxes for part in parts]), mirrored, first.whole)

    def part(self, rows: slice | Tensor) -> "Crops":
        """Those of some images."""
        mirrored = None if self.mirrored is None else self.mirrored[rows]
        return Crops(self.boxes[rows], mirrored, self.whole)


def whole(sizes: Tensor) -> Crops:
    """Crops that hold the whole images of these heights and widths, int64 [N, 2]."""
    return Crops(torch.cat([torch.zeros_like(sizes), sizes], 1), whole=True)


def random_crops(
    sizes: Tensor, *, area: float, flip: bool, generator: Generator | None = None
) -> Crops:
    """Crops of at least a share of the area, every other one mirrored if asked for."""
    boxes = random_boxes(sizes, scale=(area, 1.0), generator=generator)
    mirrored = torch.rand(len(sizes), generator=generator, device=boxes.device) < 0.5
    return Crops(boxes, mirrored if flip else None)


def small_boxes(size: int, n: int, generator: Generator | None = None) -> Tensor:
    """Boxes of a small crop of each of n views of some size, as multi-crop methods take them.

    Each holds a tenth to two fifths of its view's area: int64 [N, 4].
    """
    sizes = torch.tensor((size, size)).expand(n, 2)
    return random_boxes(sizes, scale=SMALL_AREA, generator=generator)


def small_crops(squares: Tensor, boxes: Tensor) -> Tensor:
    """Those of views uint8 [N, 3, S, S], resized to uint8 [N, 3, s, s]: s = 3/7 of S, rounded."""
    return resample(squares, boxes, round(squares.shape[2] * SMALL))


def random_boxes(
    sizes: Tensor,
    *,
    scale: tuple[float, float] = (0.2, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    generator: Generator | None = None,
) -> Tensor:
    """Boxes [N, 4] (top, left, height, width), drawn as torchvision's RandomResizedCrop does.

    Area uniform in `scale` times the image's, log of the aspect uniform; the first of ten
    attempts that fits counts, else the largest central box of an allowed aspect. The boxes
    are on the generator's device.

    Args:
        sizes: height and width of each image, int64 [N, 2].
        scale: smallest and largest share of the area.
        ratio: smallest and largest width / height.
        generator: source of the random numbers; None is torch's global one.
    """
    device = generator.device if generator is not None else torch.device("cpu")
    n = len(sizes)
    height, width = sizes.to(device, torch.float64).T[:, :, None]  # [N, 1] each
    u = torch.rand(4, n, ATTEMPTS, generator=generator, device=device, dtype=torch.float64)
    area = height * width * (scale[0] + (scale[1] - scale[0]) * u[0])  # [N, attempts]
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspect = (low + (high - low) * u[1]).exp()
    w, h = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
    fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
    first = fits.int().argmax(1, keepdim=True)  # [N, 1]: of equal values, the first
    fits, w, h = (x.gather(1, first)[:, 0] for x in (fits, w, h))  # [N]

    height, width = height[:, 0], width[:, 0]
    w = w.where(fits, width.minimum((height * ratio[1]).round()))
    h = h.where(fits, height.minimum((width / ratio[0]).round()))
    w, h = w.clamp(min=1), h.clamp(min=1)
    top = ((height - h + 1) * u[2, :, 0]).floor().where(fits, ((height - h) / 2).floor())
    left = ((width - w + 1) * u[3, :, 0]).floor().where(fits, ((width - w) / 2).floor())
    return torch.stack([top, left, h, w], 1).long()


def resample(images: Tensor, boxes: Tensor, size: int, flip: Tensor | None = None) -> Tensor:
    """Crop each image to its box, resize it to a square, and mirror it where asked.

    Bilinear with antialias: a triangle filter that widens where the box shrinks, clipped at
    the box and renormalised. Like Pillow, columns first, each pass rounded to whole levels.

    Args:
        images: uint8 [N, 3, H, W].
        boxes: (top, left, height, width) [N, 4], inside the image.
        size: side S of the result.
        flip: bool [N]; True mirrors left to right.

    Returns:
        uint8 [N, 3, S, S].
    """
    n, _, height, width = images.shape
    boxes = sent(boxes.float(), images.device)
    columns = _filter(boxes[:, 1], boxes[:, 3], width, size)  # [N, S, W]
    rows = _filter(boxes[:, 0], boxes[:, 2], height, size)  # [N, S, H]
    if flip is not None:
        flip = sent(flip, images.device)
        columns = torch.where(flip[:, None, None], columns.flip(1), columns)
    x = images.float().reshape(n, 3 * height, width)
    x = _whole_levels(x @ columns.mT).view(n, 3, height, size)
    x = _whole_levels(rows[:, None] @ x)  # [N, 1, S, H] @ [N, 3, H, S]
    return x.to(torch.uint8)


def _whole_levels(x: Tensor) -> Tensor:
    return x.add_(0.5).floor_().clamp_(0, 255)


def _filter(start: Tensor, length: Tensor, full: int, size: int) -> Tensor:
    """Weight of each of `full` input pixels in each of `size` output pixels: [N, S, full]."""
    device = start.device
    scale = (length / size)[:, None, None]  # [N, 1, 1]
    support = scale.clamp(min=1)
    centre = (torch.arange(size, device=device)[:, None] + 0.5) * scale  # [N, S, 1]
    pixel = torch.arange(full, device=device) - start[:, None, None]  # [N, 1, full]
    weight = (1 - (pixel + 0.5 - centre).abs() / support).clamp_(min=0)  # [N, S, full]
    inside = (pixel >= 0) & (pixel < length[:, None, None])
    weight = weight * inside
    return weight / weight.sum(2, keepdim=True)
