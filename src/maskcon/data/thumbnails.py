"""Small pictures beside the large ones, made when these are decoded anyway."""

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from PIL import Image

from maskcon.data.image_file import content_hash
from maskcon.data.pictures import Elsewhere, Pictures
from maskcon.data.scan import each
from maskcon.errors import InputError
from maskcon.runtime.progress import Progress

SIDE = 64  # of a thumbnail in an index, in pixels: about 2 kB
QUALITY = 85


def thumbnail(picture: np.ndarray, side: int) -> bytes:
    """A picture [H, W, 3] as a JPEG whose longer side is `side` pixels, or its own if less."""
    image = Image.fromarray(picture)
    image.thumbnail((side, side), reducing_gap=2.0)
    file = BytesIO()
    image.save(file, "JPEG", quality=QUALITY, subsampling=0, optimize=True)
    return file.getvalue()


class Seen(Elsewhere):
    """Pictures that leave a digest of their pixels and a thumbnail when they are decoded.

    The digest tells the picture, not the file: a PNG and the same pixels in a table have one.

    Args:
        pictures: that are decoded.
        side: of the thumbnails in pixels; 0 for none.
    """

    def __init__(self, pictures: Pictures, side: int):
        self.pictures, self.side = pictures, side
        self._seen: dict[int, tuple[bytes, bytes | None]] = {}

    def __len__(self) -> int:
        return len(self.pictures)

    def _parts(self) -> Sequence[Pictures]:
        return [self.pictures]

    def _at(self, row: int) -> tuple[Pictures, int]:
        return self.pictures, row

    def decode(self, row: int, reduce: int = 1) -> np.ndarray:
        """RGB, uint8 [H, W, 3], in full size, so that the digest is always the same."""
        picture = self.pictures.decode(row)
        small = thumbnail(picture, self.side) if self.side else None
        self._seen[row] = content_hash(picture), small
        return picture

    def see(self, rows: Sequence[int], workers: int, progress: Progress) -> None:
        """Decode those of some rows that were not decoded yet."""
        rest = [row for row in rows if row not in self._seen]

        def decode(place: int) -> None:
            self.decode(rest[place])

        for _, error in each(decode, len(rest), workers, progress, "making thumbnails"):
            if isinstance(error, InputError):  # it could be read a moment ago
                raise InputError(f"{error}: it has changed meanwhile") from error

    def pop(self, row: int) -> tuple[bytes, bytes | None]:
        """(digest of the pixels, thumbnail) of a row that was decoded; forgotten afterwards."""
        return self._seen.pop(row)
