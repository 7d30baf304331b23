"""Pictures that may be the same: as they are or mirrored, or to the encoder alone."""

from dataclasses import dataclass

import torch
from torch import Tensor

from maskcon.data.near_duplicates import SIDE, pairs, thumbnails, usable
from maskcon.eval.retrieval import Retrieval
from maskcon.report.album import Album

SHOWN = 24  # pairs of each kind
SIMILAR = 0.95  # cosine of features, above which two pictures are one to the encoder
LIKE = 0.9  # correlation of grey thumbnails, above which light and dark lie in the same places


@dataclass(frozen=True)
class NearDuplicates:
    """Two pictures that may be the same.

    Attributes:
        first, second: their rows.
        difference: mean difference of their grey thumbnails, in levels of 255.
        mirrored: whether that is the difference to the mirrored second.
        similarity: cosine of their features.
        alike: "pixels", if they hardly differ, or "features", if the encoder and light and dark
            say so.
    """

    first: int
    second: int
    difference: float
    mirrored: bool
    similarity: float
    alike: str

    def rows(self) -> tuple[int, int]:
        """Both pictures."""
        return self.first, self.second


def near_duplicates(
    album: Album, pixels: Tensor, near: Retrieval, count: int = SHOWN
) -> list[NearDuplicates]:
    """Pairs of pictures that may be the same.

    By pixels, as `maskcon data check` compares splits: each picture with the one nearest to it
    as a grey thumbnail, and with the one nearest to its mirror image. By features: nearest
    neighbours of a cosine above 0.95 whose thumbnails differ, but correlate above 0.9, such as
    the same picture in another light.

    Args:
        album: the pictures.
        pixels: of the pictures, uint8 [N, 3, S, S].
        near: neighbours of each.
        count: of pairs, by pixels and by features.

    Returns:
        Those by pixels first; the least different first, then the most similar.
    """
    plain = thumbnails(pixels)
    mirrored = plain.view(-1, SIDE, SIDE).flip(2).flatten(1)
    found: dict[tuple[int, int], NearDuplicates] = {}

    def keep(first: int, second: int, alike: str) -> None:
        a, b = min(first, second), max(first, second)
        off, turned = (float((plain[a] - view[b]).abs().mean()) for view in (plain, mirrored))
        similarity = float(album.features[a] @ album.features[b])
        pair = NearDuplicates(a, b, min(off, turned), turned < off, similarity, alike)
        found.setdefault((a, b), pair)

    for view in (plain, mirrored):
        for first, second in pairs(plain, view, same=True):
            keep(first, second, "pixels")
    sound = usable(plain)
    nearest, score = near.ids[:, 0], near.scores[:, 0]
    like = torch.maximum(*(_correlation(plain, view[nearest]) for view in (plain, mirrored)))
    suspect = (score > SIMILAR) & (like > LIKE) & sound & sound[nearest]
    for row in suspect.nonzero()[:, 0].tolist():
        keep(row, int(nearest[row]), "features")
    by_pixels = [pair for pair in found.values() if pair.alike == "pixels"]
    by_features = [pair for pair in found.values() if pair.alike == "features"]
    by_pixels.sort(key=lambda pair: pair.difference)
    by_features.sort(key=lambda pair: -pair.similarity)
    return [*by_pixels[:count], *by_features[:count]]


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    """Of the levels of each row of a with those of the same row of b [N]."""
    a, b = (x - x.mean(1, keepdim=True) for x in (a, b))
    return torch.nn.functional.cosine_similarity(a, b, dim=1)
