"""Small pictures, thousands in one file, as data URIs."""

import base64
import io
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from maskcon.data.pictures import choose
from maskcon.data.plans import plain_squares
from maskcon.data.table import Photos

LARGE, SMALL = 64, 32  # sides of thumbnails, of up to FEW pictures and of more
FEW = 2000
BLOCK = 16  # of a JPEG, in pixels: thumbnails on its grid do not run into each other
SHEET = 2048  # side of a sheet, in pixels
QUALITY = 85
BATCH = 500


@dataclass(frozen=True)
class Sheets:
    """Thumbnails in rows on sheets.

    Attributes:
        side: of a thumbnail, in pixels.
        cell: of the place it lies in, at its top left.
        columns: cells in a row of a sheet.
        rows: of cells on a full sheet.
        uris: the sheets, as data URIs.
    """

    side: int
    cell: int
    columns: int
    rows: int
    uris: tuple[str, ...]


def sheets(images: Tensor | Photos, rows: Tensor, workers: int) -> Sheets:
    """Thumbnails of some pictures, in that order.

    Args:
        images: of all, uint8 [N, 3, H, W] or pictures that are read.
        rows: of those wanted [M].
        workers: that read pictures.
    """
    side = LARGE if len(rows) <= FEW else SMALL
    if isinstance(images, Tensor):
        side = min(side, *images.shape[2:])
    return packed(thumbnails(images, rows, side, workers))


def thumbnails(images: Tensor | Photos, rows: Tensor, side: int, workers: int) -> Tensor:
    """Some pictures as squares, uint8 [M, 3, side, side]."""
    if isinstance(images, Photos):
        some = Photos(choose(images.pictures, rows.numpy()), images.sizes[rows], images.digest)
        plain = plain_squares(some, size=side, workers=workers, batch_size=BATCH)
        return torch.cat([squares.clone() for squares in plain])
    made = torch.empty(len(rows), 3, side, side, dtype=torch.uint8)
    for start in range(0, len(rows), BATCH):
        part = images[rows[start : start + BATCH]]
        if part.shape[2:] != (side, side):
            small = interpolate(part.float(), (side, side), mode="bilinear", antialias=True)
            part = small.round().clamp(0, 255).to(torch.uint8)
        made[start : start + BATCH] = part
    return made


def packed(squares: Tensor) -> Sheets:
    """Squares uint8 [M, 3, side, side] on sheets; the last one is as short as it can be."""
    side = squares.shape[-1]
    cell = -(-side // BLOCK) * BLOCK
    columns = SHEET // cell
    uris = []
    for part in squares.split(columns * columns):
        lines = -(-len(part) // columns)
        wide = np.zeros((lines * columns, cell, cell, 3), np.uint8)
        wide[: len(part), :side, :side] = part.permute(0, 2, 3, 1).numpy()
        sheet = wide.reshape(lines, columns, cell, cell, 3).swapaxes(1, 2)
        content = io.BytesIO()
        picture = Image.fromarray(sheet.reshape(lines * cell, columns * cell, 3))
        picture.save(content, "JPEG", quality=QUALITY, subsampling=0)
        uris.append("data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode())
    return Sheets(side, cell, columns, columns, tuple(uris))
