"""What a trained encoder is worth: features and Recall@K."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from maskcon.data.features import Features
from maskcon.data.plans import plain_squares, some
from maskcon.data.table import Photos, Split
from maskcon.errors import InputError
from maskcon.eval.retrieval import negatives_before, recall
from maskcon.model.network import Network
from maskcon.runtime.device import Precision
from maskcon.runtime.distributed import ALONE, Ranks
from maskcon.runtime.progress import Progress, Silent, duration

BATCH = 500
PHOTO_BATCH = 100  # of large pictures; each worker has several
PIXELS = 32  # side to which large pictures are made small, to be compared as they are
KS = (1, 2, 5, 10)


@dataclass(frozen=True)
class Preprocessing:
    """How images become an encoder's input.

    Attributes:
        image_size: side in pixels.
        mean, std: of each channel, for levels in 0..1.
    """

    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, description: Mapping[str, Any]) -> "Preprocessing":
        """Read from the content of encoder.json."""
        return cls(description["image_size"], tuple(description["mean"]), tuple(description["std"]))

    def normalise(self, images: Tensor) -> Tensor:
        """Images uint8 [N, 3, H, W] as float32 of mean 0 and std 1; channels last.

        Vectors float32 [N, F] stay as they are.
        """
        if images.ndim == 2:
            return images
        n, _, height, width = images.shape
        levels = images.permute(0, 2, 3, 1).to(torch.float32, memory_format=torch.contiguous_format)
        # A row of pixels at a time, since the three channels alone are too short to be fast.
        rows = levels.view(n * height, width * 3)
        scale, shift = _row(self.mean, self.std, width, images.device)
        torch.addcmul(shift, rows, scale, out=rows)
        return levels.permute(0, 3, 1, 2)


@lru_cache(maxsize=8)
def _row(
    mean: tuple[float, ...], std: tuple[float, ...], width: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Factor and summand of each level of a row of pixels [W * 3]; kept where they are used."""
    scale = 1 / (255 * torch.tensor(std))
    shift = -torch.tensor(mean) / torch.tensor(std)
    return scale.repeat(width).to(device), shift.repeat(width).to(device)


@torch.no_grad()
def embed(
    encoder: Network,
    images: Tensor | Photos | Features,
    preprocessing: Preprocessing,
    precision: Precision,
    workers: int = 1,
    progress: Progress | None = None,
    ranks: Ranks = ALONE,
) -> Tensor:
    """Features before the projector, of unit length: float32 [N, F] on the encoder's device.

    The images (uint8 [N, 3, H, W], or pictures that as many processes as `workers` read) are
    resized to a square, not cropped; the encoder runs in evaluation mode and is put back in
    the mode it was in. Only the features of a set are ever in memory, not its pictures. Of
    several `ranks` each embeds its part, and all have all features.
    """
    progress = progress or Silent()
    count = len(images)
    images = some(images, ranks.part(count))
    device = precision.device  # some encoders have no parameters
    was_training = encoder.training
    encoder.eval()
    features = torch.empty(len(images), encoder.width, device=device)
    size = preprocessing.image_size
    batch_size = PHOTO_BATCH if isinstance(images, Photos) else BATCH
    start, done = time.perf_counter(), 0
    for batch in plain_squares(images, size=size, workers=workers, batch_size=batch_size):
        with precision.autocast():
            feature = encoder(preprocessing.normalise(batch.to(device, non_blocking=True))).feature
        part = features[done : done + len(batch)]
        torch.nn.functional.normalize(feature.float(), dim=1, out=part)
        done += len(batch)
        speed = done / (time.perf_counter() - start)
        progress.update(
            f"embedding: {done:,} of {len(images):,} images  {speed:,.0f} images/s  "
            f"{duration((len(images) - done) / speed)} left"
        )
    encoder.train(was_training)
    return ranks.all_gather(features, count)


def recall_of(features: Tensor, split: Split, ranks: Ranks = ALONE) -> dict[str, float]:
    """Recall@1, 2, 5, 10 of fine labels, every image querying all the others.

    Where the split has no fine labels, what can be known: the recall of coarse labels, as
    "recall@1/coarse" and so on. A split of ten images or fewer has no ten others, and gets
    only the K that it has. Several `ranks`, which all have the features, share the work.
    """
    if len(split) < 2:
        raise InputError("one test image has no other to find: an evaluation needs two or more")
    ks = [k for k in KS if k < len(split)]
    label, level = (split.coarse, "/coarse") if split.fine is None else (split.fine, "")
    found = recall(negatives_before(features, label, ranks), ks)
    return {name + level: value for name, value in found.items()}


def pixel_recall(split: Split, workers: int = 1) -> dict[str, float]:
    """Recall@K of raw pixels, or of vectors as they are given: what learning must beat.

    Pictures that are not in memory are compared as squares of 32 px.
    """
    images = split.images
    if isinstance(images, Features):
        return recall_of(nn.functional.normalize(images.first(slice(None)), dim=1), split)
    if isinstance(images, Photos):
        plain = plain_squares(images, size=PIXELS, workers=workers, batch_size=BATCH)
        images = torch.cat([squares.clone() for squares in plain])
    pixels = images.flatten(1).float().div_(255).sub_(0.5)
    return recall_of(nn.functional.normalize(pixels, dim=1), split)
