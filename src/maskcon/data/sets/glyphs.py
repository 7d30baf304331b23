"""Glyphs: letters and digits in many fonts, drawn on the fly, for trying things out.

Fine class = the character; coarse class = a group of characters. Each image has a character
in a font, size, slant, position and colour of its own, over an uneven background with smaller
characters as clutter, and noise. Neighbours in pixel space are mostly of other characters,
while a small network learns the characters in a minute or two. The fonts are those that
matplotlib ships: DejaVu, STIX and Computer Modern.
"""

import functools
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Generator, Tensor
from torch.nn import functional

from maskcon.data.images import InMemory
from maskcon.data.pictures import Arrays
from maskcon.data.table import DataSet, Found, Part, Split
from maskcon.runtime.seeds import generator

GROUPS = {
    "digits": "0123456789",
    "vowels": "AEUY",
    "B to H": "BCDFGH",
    "J to N": "JKLMN",
    "P to S": "PQRS",
    "T to Z": "TVWXZ",
}
FONTS = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono"),
    *("DejaVuSansMono-Bold", "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic"),
    *("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta"),
    *("cmr10", "cmss10", "cmtt10", "cmb10"),
)
SIZE = 32  # pixels, of an image
_CELL = 64  # pixels, of a drawn character before it is placed


def make(train: int = 12_000, test: int = 3_000, seed: int = 0) -> DataSet:
    """Draw the set: as many train and test images as asked for, each class equally often."""
    characters = "".join(GROUPS.values())
    coarse_of = torch.tensor([g for g, group in enumerate(GROUPS.values()) for _ in group])
    cells = _cells(characters)
    splits = []
    for part, count in enumerate((train, test)):
        random = generator(seed, "data", part)
        fine = torch.randperm(count, generator=random) % len(characters)
        images = [_draw(cells, part_fine, random) for part_fine in fine.split(1000)]
        splits.append(Split(InMemory(torch.cat(images)), coarse_of[fine], fine))
    return DataSet("glyphs", splits[0], splits[1], tuple(GROUPS), tuple(characters))


def find() -> Found:
    """The set of the usual size, as a reader finds one."""
    data = make()
    parts = {}
    for name, split in (("train", data.train), ("test", data.test)):
        pixels = split.images.raw(1)
        parts[name] = Part(Arrays(pixels, f"glyphs ({name})"), split.coarse, split.fine)
    return Found(data.name, parts, data.coarse_names, data.fine_names)


@functools.cache  # drawing them takes longer than placing a thousand, and 9 MB keep them
def _cells(characters: str) -> Tensor:
    """Every character in every font, white on black: float [fonts, characters, cell, cell]."""
    import matplotlib  # for its fonts alone, so that other sets need not wait for it

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    cells = np.zeros((len(FONTS), len(characters), _CELL, _CELL), np.float32)
    for row, name in zip(cells, FONTS, strict=True):
        font = ImageFont.truetype(folder / f"{name}.ttf", 48)
        for cell, character in zip(row, characters, strict=True):
            image = Image.new("L", (_CELL, _CELL))
            draw = ImageDraw.Draw(image)
            left, top, right, bottom = draw.textbbox((0, 0), character, font)
            corner = ((_CELL - left - right) / 2, (_CELL - top - bottom) / 2)
            draw.text(corner, character, 255, font)
            cell[:] = np.asarray(image) / 255
    return torch.from_numpy(cells)


def _draw(cells: Tensor, fine: Tensor, random: Generator) -> Tensor:
    """Images of the characters asked for: uint8 [N, 3, SIZE, SIZE]."""
    n = len(fine)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(n, *shape, generator=random)

    def placed(character: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """Masks [N, 1, SIZE, SIZE] of characters turned, slanted, scaled and shifted."""
        font = torch.randint(len(cells), (n,), generator=random)
        angle, slant = uniform(-0.4, 0.4), uniform(-0.3, 0.3)
        cos, sin = angle.cos() / scale, angle.sin() / scale
        rows = [torch.stack([cos, sin + slant * cos], 1), torch.stack([-sin, cos - slant * sin], 1)]
        turn = torch.stack(rows, 1)  # [N, 2, 2]
        matrix = torch.cat([turn, -turn @ shift[:, :, None]], 2)
        grid = functional.affine_grid(matrix, [n, 1, SIZE, SIZE], align_corners=False)
        return functional.grid_sample(cells[font, character][:, None], grid, align_corners=False)

    paper, ink = _colours(n, random)
    shade = functional.interpolate(uniform(-0.1, 0.1, 1, 2, 2), SIZE, mode="bilinear")
    image = paper + shade
    for _ in range(2):  # clutter: small characters anywhere, in the same ink but paler
        character = torch.randint(cells.shape[1], (n,), generator=random)
        mask = placed(character, uniform(0.25, 0.5), uniform(-0.9, 0.9, 2))
        image = image.lerp(ink, 0.5 * mask)
    mask = placed(fine, uniform(0.8, 1.2), uniform(-0.2, 0.2, 2))
    image = image.lerp(ink, mask)
    image = image + 0.06 * torch.randn(image.shape, generator=random)
    return (image.clamp(0, 1) * 255).round().to(torch.uint8)


def _colours(n: int, random: Generator) -> tuple[Tensor, Tensor]:
    """Paper and ink [N, 3, 1, 1]: light and dark, or the other way round, of few hues.

    Few, because a colour that an image has for itself tells it from all others, and a
    contrastive method would learn colours in place of characters.
    """
    hue = torch.tensor([[0.0, 0.0, 0.0], [0.1, 0.0, -0.1], [-0.1, 0.1, 0.0], [0.0, -0.1, 0.1]])
    light, dark = (
        base + hue[torch.randint(len(hue), (n,), generator=random)] for base in (0.8, 0.2)
    )
    swap = torch.rand(n, 1, generator=random) < 0.5
    pair = torch.where(swap, dark, light), torch.where(swap, light, dark)
    return pair[0][:, :, None, None], pair[1][:, :, None, None]
