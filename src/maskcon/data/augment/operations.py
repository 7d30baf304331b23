"""The image operations of AutoAugment on a uint8 batch, as Pillow computes them.

Each takes images [N, 3, H, W] and a magnitude for each image [N] (units in the docstring;
operations without one ignore it) and returns new images of the same shape. They follow
Pillow's arithmetic to the rounding, so that a model trained on these views sees what one
trained on per-image Pillow views sees.
"""

import math

import torch
from torch import Tensor

from maskcon.runtime.device import where_exact

FILL = 128  # the grey that fills the holes of geometric operations


def shear_x(images: Tensor, magnitude: Tensor) -> Tensor:
    """Shift row y left by magnitude * (y + 1/2) pixels; bicubic, holes grey."""
    height, width = images.shape[2:]
    shift = magnitude[:, None] * (torch.arange(height, device=images.device) + 0.5)  # [N, H]
    position = torch.arange(width, device=images.device) + 0.5 + shift[:, :, None]  # [N, H, W]
    hole = (position < 0) | (position >= width)
    position = position - 0.5
    left = position.floor()
    d = (position - left)[:, None]  # [N, 1, H, W]
    left = left.long()
    x = images.float()
    v1, v2, v3, v4 = (
        x.gather(3, (left + step).clamp(0, width - 1)[:, None].expand(-1, 3, -1, -1))
        for step in (-1, 0, 1, 2)
    )
    # Pillow's cubic (a = -1), by Horner's rule; the result is cut, not rounded, to a level.
    cubic = v2 + d * (v3 - v1 + d * (2 * (v1 - v2) + v3 - v4 + d * (v2 - v1 + v4 - v3)))
    return cubic.clamp_(0, 255).to(torch.uint8).masked_fill_(hole[:, None], FILL)


def shear_y(images: Tensor, magnitude: Tensor) -> Tensor:
    """Shift column x up by magnitude * (x + 1/2) pixels; bicubic, holes grey."""
    return shear_x(images.mT, magnitude).mT


def translate_x(images: Tensor, magnitude: Tensor) -> Tensor:
    """Shift left by magnitude times the width; nearest pixel, holes grey."""
    one, zero = torch.ones_like(magnitude), torch.zeros_like(magnitude)
    return _affine(images, [one, zero, magnitude * images.shape[3]], [zero, one, zero])


def translate_y(images: Tensor, magnitude: Tensor) -> Tensor:
    """Shift up by magnitude times the height; nearest pixel, holes grey."""
    one, zero = torch.ones_like(magnitude), torch.zeros_like(magnitude)
    return _affine(images, [one, zero, zero], [zero, one, magnitude * images.shape[2]])


def rotate(images: Tensor, magnitude: Tensor) -> Tensor:
    """Turn by magnitude degrees counter-clockwise about the centre; nearest, holes grey."""
    x, y = images.shape[3] / 2, images.shape[2] / 2
    angle = where_exact(magnitude).double() * (math.pi / 180)
    cos, sin = angle.cos(), angle.sin()
    return _affine(images, [cos, -sin, x - cos * x + sin * y], [sin, cos, y - sin * x - cos * y])


def _affine(images: Tensor, across: list[Tensor], down: list[Tensor]) -> Tensor:
    """Take each pixel from where the rows (a, b, c) of its image's matrix point.

    The source column is a (x + 1/2) + b (y + 1/2) + c, the source row likewise, both in the
    1/65536 steps of Pillow's fixed-point arithmetic.
    """
    n, _, height, width = images.shape
    x = torch.arange(width, device=images.device)
    y = torch.arange(height, device=images.device)[:, None]

    def source(a: Tensor, b: Tensor, c: Tensor) -> Tensor:  # [N] each -> [N, H, W]
        a, b, c = (where_exact(v).double() for v in (a, b, c))
        steps = ((v * 65536 + 0.5).floor().long() for v in (a, b, c + (a + b) / 2))
        a, b, c = (v.to(images.device)[:, None, None] for v in steps)
        return (a * x + b * y + c) >> 16

    column, row = source(*across), source(*down)
    hole = (column < 0) | (column >= width) | (row < 0) | (row >= height)
    pixel = (row * width + column).masked_fill_(hole, 0).view(n, 1, -1).expand(-1, 3, -1)
    moved = images.reshape(n, 3, -1).gather(2, pixel).view_as(images)
    return moved.masked_fill_(hole[:, None], FILL)


def color(images: Tensor, magnitude: Tensor) -> Tensor:
    """Blend with its own grey: 0 is grey, 1 the image, beyond 1 more colour."""
    return _blend(_grey(images), images, magnitude)


def contrast(images: Tensor, magnitude: Tensor) -> Tensor:
    """Blend with a flat image of the mean grey level: 0 is flat, 1 the image."""
    grey = _grey(images)
    count = grey[0].numel()
    mean = (2 * grey.sum((1, 2, 3)) + count) // (2 * count)  # rounded, a half upwards
    return _blend(mean.float()[:, None, None, None], images, magnitude)


def brightness(images: Tensor, magnitude: Tensor) -> Tensor:
    """Blend with black: 0 is black, 1 the image, beyond 1 brighter."""
    return _blend(torch.zeros_like(images[:, :1]), images, magnitude)


def sharpness(images: Tensor, magnitude: Tensor) -> Tensor:
    """Blend with the smoothed image: 0 is smooth, 1 the image, beyond 1 sharper.

    The smoothing weighs the centre 5 and its eight neighbours 1; the border is left as it is.
    """
    if min(images.shape[2:]) < 3:
        return images.clone()
    x = images.float()
    rows = x[:, :, :-2] + x[:, :, 1:-1] + x[:, :, 2:]
    box = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    smooth = x.clone()
    smooth[:, :, 1:-1, 1:-1] = ((box + 4 * x[:, :, 1:-1, 1:-1]) / 13 + 0.5).floor_()
    return _blend(smooth, images, magnitude)


def posterize(images: Tensor, magnitude: Tensor) -> Tensor:
    """Keep the highest magnitude (1 to 8) bits of each level."""
    mask = 256 - torch.exp2(8 - magnitude)
    return images & mask.to(torch.uint8)[:, None, None, None]


def solarize(images: Tensor, magnitude: Tensor) -> Tensor:
    """Invert the levels at or above magnitude (0 to 256)."""
    return torch.where(images < magnitude[:, None, None, None], images, 255 - images)


def invert(images: Tensor, magnitude: Tensor) -> Tensor:
    """255 minus each level."""
    return 255 - images


def autocontrast(images: Tensor, magnitude: Tensor) -> Tensor:
    """Stretch each channel's levels to 0..255; a channel of one level stays."""
    low = where_exact(images.amin((2, 3))[..., None]).double()  # [N, 3, 1]
    high = where_exact(images.amax((2, 3))[..., None]).double()
    flat = high <= low
    full = torch.full_like(low, 255)  # 255 / tensor would be 255 * reciprocal, a bit off
    scale = torch.where(flat, 1.0, full / (high - low))
    offset = torch.where(flat, 0.0, -low * scale)
    # In float64 and cut, not rounded, like Pillow, whose table is made in Python.
    level = torch.arange(256, device=low.device)
    table = (level * scale + offset).clamp_(0, 255).to(torch.uint8)  # [N, 3, 256]
    return table.to(images.device).gather(2, images.flatten(2).long()).view_as(images)


def equalize(images: Tensor, magnitude: Tensor) -> Tensor:
    """Flatten each channel's histogram; a channel with too few levels to do so stays."""
    n = len(images)
    level = images.reshape(n * 3, -1).long()  # [3N, HW]
    count = level.new_zeros(n * 3, 256).scatter_add_(1, level, torch.ones_like(level))
    last = count.gather(1, level.amax(1, keepdim=True))  # [3N, 1] pixels of the highest level
    step = (level.shape[1] - last) // 255
    below = count.cumsum(1) - count  # pixels of lower levels
    table = (step // 2 + below) // step.clamp(min=1)
    table = torch.where(step == 0, torch.arange(256, device=images.device), table).clamp_(max=255)
    return table.gather(1, level).to(torch.uint8).view_as(images)


def _grey(images: Tensor) -> Tensor:
    """Luma as Pillow's mode L, uint8 [N, 1, H, W]."""
    r, g, b = images.int().split(1, 1)
    return ((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16).to(torch.uint8)


def _blend(base: Tensor, images: Tensor, factor: Tensor) -> Tensor:
    """Go from a base towards the image by a factor; clip and cut to a level as Pillow does."""
    base, factor = base.float(), factor.float()[:, None, None, None]
    return (base + factor * (images.float() - base)).clamp_(0, 255).to(torch.uint8)
