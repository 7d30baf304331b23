"""Changes of photographs: perspective, colour jitter, grey and blur, on a uint8 batch.

What MaskCon uses for Stanford Cars (all of them) and Stanford Online Products (perspective
alone), with its strengths; jitter, grey and blur are MoCo v2's, and SimCLR's with another
strength. Each image draws for itself whether and how it is changed.
"""

from collections.abc import Callable

import torch
from torch import Generator, Tensor
from torch.nn import functional

from maskcon.config import SMALL_IMAGE
from maskcon.data.augment.change import Change
from maskcon.data.augment.operations import brightness, color, contrast
from maskcon.runtime.device import sent

DISTORTION = 0.5  # how far a corner moves at most, as a share of half the side
JITTER = 0.4  # of brightness, contrast and colour: factors in 0.6..1.4
HUE = 0.1  # in turns of the colour circle, either way
SIGMA = (0.1, 2.0)  # pixels, of the blur
RADIUS = 6  # pixels of the blur's window on either side: three deviations


def _perspective(images: Tensor, drawn: Tensor) -> Tensor:
    """See half of the images from another side; drawn [N, 9] in 0..1."""
    height, width = images.shape[2:]
    chosen = drawn[:, 0] < 0.5
    reach = torch.tensor([width, height]) // 2 * DISTORTION
    # How far each corner moves inwards, in whole pixels: [N, 4 corners, 2]
    moved = (drawn[:, 1:].view(-1, 4, 2) * (reach.long() + 1)).floor()
    corners = torch.tensor([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]])
    inwards = torch.tensor([[1, 1], [-1, 1], [-1, -1], [1, -1]])
    seen = corners + inwards * moved
    rows = chosen.nonzero()[:, 0]
    if not len(rows):
        return images
    grid = sent(_grid(seen[rows], corners, height, width), images.device)
    rows = sent(rows, images.device)
    out = images.clone()
    picked = functional.grid_sample(images[rows].float(), grid, align_corners=False)
    out[rows] = picked.round_().clamp_(0, 255).to(torch.uint8)  # black outside
    return out


def _grid(seen: Tensor, corners: Tensor, height: int, width: int) -> Tensor:
    """For each pixel of the view, where it lies in the image: [N, H, W, 2] in -1..1.

    The eight numbers of a perspective follow from four points `seen` [N, 4, 2] in the view
    and the `corners` [4, 2] of the image that they show: (a x + b y + c) / (g x + h y + 1) and
    (d x + e y + f) / (g x + h y + 1).
    """
    n = len(seen)
    x, y = seen.double().unbind(2)  # [N, 4]
    u, v = corners.double().expand(n, 4, 2).unbind(2)
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    across = torch.stack([x, y, one, zero, zero, zero, -u * x, -u * y], 2)  # [N, 4, 8]
    down = torch.stack([zero, zero, zero, x, y, one, -v * x, -v * y], 2)
    numbers = torch.linalg.solve(torch.cat([across, down], 1), torch.cat([u, v], 1))  # [N, 8]
    a, b, c, d, e, f, g, h = numbers.T[:, :, None, None]  # [N, 1, 1] each
    column = torch.arange(width, dtype=torch.float64) + 0.5
    row = torch.arange(height, dtype=torch.float64)[:, None] + 0.5
    depth = g * column + h * row + 1
    across = (a * column + b * row + c) / depth / (width / 2) - 1
    down = (d * column + e * row + f) / depth / (height / 2) - 1
    return torch.stack([across, down], 3).float()


def _colour(images: Tensor, drawn: Tensor, *, strength: float = 1.0, blurs: bool = True) -> Tensor:
    """Jitter, grey and blur; drawn [N, 12] in 0..1; strength of the jitter, 1 is MoCo's."""
    jittered, grey, blurred = drawn[:, 0] < 0.8, drawn[:, 9] < 0.2, drawn[:, 10] < 0.5
    factors = 1 + strength * JITTER * (2 * drawn[:, 1:4] - 1)
    turn = strength * HUE * (2 * drawn[:, 4:5] - 1)
    magnitudes = torch.cat([factors, turn], 1)  # [N, 4]
    order = drawn[:, 5:9].argsort(1)
    sigma = SIGMA[0] + (SIGMA[1] - SIGMA[0]) * drawn[:, 11]

    out = images.clone()
    operations = (brightness, contrast, color, hue)
    for place in range(4):
        for number, operation in enumerate(operations):
            _apply(out, jittered & (order[:, place] == number), operation, magnitudes[:, number])
    _apply(out, grey, color, torch.zeros(len(out)))
    if blurs:
        _apply(out, blurred, blur, sigma)
    return out


def _simclr(images: Tensor, drawn: Tensor) -> Tensor:
    """SimCLR's: twice MoCo's jitter; of small images half of that, and no blur."""
    small = max(images.shape[2:]) <= SMALL_IMAGE
    return _colour(images, drawn, strength=1.0 if small else 2.0, blurs=not small)


def _apply(
    images: Tensor,
    chosen: Tensor,
    operation: Callable[[Tensor, Tensor], Tensor],
    magnitude: Tensor,
) -> None:
    """Change the chosen images in place."""
    rows = chosen.nonzero()[:, 0]
    if len(rows):
        magnitude = sent(magnitude[rows], images.device)
        rows = sent(rows, images.device)
        images[rows] = operation(images[rows], magnitude)


def hue(images: Tensor, turn: Tensor) -> Tensor:
    """Turn the colour circle: 1 is once around. Saturation and value stay.

    Args:
        images: uint8 [N, 3, H, W].
        turn: of each image [N].
    """
    rgb = images.float() / 255
    r, g, b = rgb.unbind(1)
    value, low = rgb.amax(1), rgb.amin(1)
    chroma = value - low
    safe = torch.where(chroma == 0, 1, chroma)
    sector = torch.where(
        value == r, (g - b) / safe, torch.where(value == g, 2 + (b - r) / safe, 4 + (r - g) / safe)
    )
    sector = (sector / 6 + turn.float()[:, None, None]).remainder(1) * 6
    # A channel is the value less the chroma times how far its own third of the circle is off.
    channels = []
    for shift in (5, 3, 1):
        k = (shift + sector).remainder(6)
        channels.append(value - chroma * torch.minimum(k, 4 - k).clamp(0, 1))
    return torch.stack(channels, 1).mul_(255).round_().clamp_(0, 255).to(torch.uint8)


def blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur; the border is mirrored.

    Args:
        images: uint8 [N, 3, H, W]; sides of a pixel or more.
        sigma: deviation of each image's filter, in pixels [N].
    """
    height, width = images.shape[2:]
    reach = min(RADIUS, height - 1, width - 1)  # what a border can be mirrored by
    offset = torch.arange(-reach, reach + 1, device=images.device)
    weight = (-0.5 * (offset / sigma.float()[:, None]).square()).exp()
    weight = (weight / weight.sum(1, keepdim=True))[:, :, None, None, None]  # [N, window, 1...]
    x = functional.pad(images.float(), [reach] * 4, mode="reflect")
    window = range(2 * reach + 1)
    x = torch.stack([weight[:, k] * x[:, :, k : k + height] for k in window]).sum(0)
    x = torch.stack([weight[:, k] * x[..., k : k + width] for k in window]).sum(0)
    return x.round_().clamp_(0, 255).to(torch.uint8)


def _uniform(width: int) -> Callable[[int, Generator | None], Tensor]:
    """A draw of some numbers in 0..1 for each image."""

    def draw(n: int, generator: Generator | None) -> Tensor:
        device = generator.device if generator is not None else torch.device("cpu")
        shape = (n, width)
        return torch.rand(shape, generator=generator, device=device, dtype=torch.float64).cpu()

    return draw


# Half of the images seen from another side: torchvision's RandomPerspective(0.5).
perspective = Change(_uniform(9), _perspective)

# Jitter of brightness, contrast, colour and hue (p 0.8), grey (p 0.2) and blur (p 0.5). The four
# jitters come in an order of each image's own, as in torchvision's ColorJitter.
colour = Change(_uniform(12), _colour)
simclr_colour = Change(_uniform(12), _simclr)
