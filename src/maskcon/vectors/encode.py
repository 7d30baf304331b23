"""Pictures become vectors."""

import time

import torch
from torch import Tensor

from maskcon.data.features import Features
from maskcon.data.plans import plain_squares, some
from maskcon.data.table import Photos
from maskcon.model.network import Network
from maskcon.model.preprocessing import Preprocessing
from maskcon.runtime.device import Precision
from maskcon.runtime.distributed import ALONE, Ranks
from maskcon.runtime.progress import Progress, Silent, duration

BATCH = 500
PHOTO_BATCH = 100  # of large pictures; each worker has several


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
