"""Small pictures, thousands in one file, as data URIs.

Each is a whole picture, made a square: a page gives it its own shape again.
"""

import io
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from maskcon.data.images import Images
from maskcon.runtime.pages import data_uri

LARGE, SMALL = 64, 32  # sides of thumbnails, of up to FEW pictures and of more
FEW = 2000
ENLARGED = 240  # of those that can be enlarged to more
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

    def layout(self) -> dict[str, int]:
        """What a script needs to find a thumbnail by its number."""
        return {"side": self.side, "cell": self.cell, "columns": self.columns, "rows": self.rows}


def sheets(images: Images, rows: Tensor, workers: int) -> Sheets:
    """Thumbnails of some pictures, in that order.

    Args:
        images: of all.
        rows: of those wanted [M].
        workers: that read pictures.
    """
    side = min(LARGE if len(rows) <= FEW else SMALL, images.side)
    return packed(thumbnails(images, rows, side, workers))


def large(images: Images, rows: Tensor, workers: int) -> Sheets:
    """The same, of a side that is worth a look of its own."""
    if not len(rows):
        return Sheets(ENLARGED, ENLARGED, 1, 1, ())
    return packed(thumbnails(images, rows, min(ENLARGED, images.side), workers))


def thumbnails(images: Images, rows: Tensor, side: int, workers: int) -> Tensor:
    """Some pictures as squares, uint8 [M, 3, side, side]."""
    plain = images.take(rows).plain(size=side, workers=workers, batch_size=BATCH)
    return torch.cat([squares.clone() for squares in plain])


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
        uris.append(data_uri(content.getvalue()))
    return Sheets(side, cell, columns, columns, tuple(uris))
