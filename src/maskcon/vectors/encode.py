"""Pictures become vectors, in one loop: batches of pictures -> preprocessing -> network.

Batches come from one of two sources: `of_split`, whole data sets in memory or read by worker
processes into shared memory, each picture known to be readable; and `of_pictures`, loose pictures
that threads read, which may meet some that cannot be read.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from maskcon.config import SMALL_IMAGE
from maskcon.data.images import InOrder
from maskcon.data.loader import cut_picture
from maskcon.data.pictures import Pictures
from maskcon.data.scan import each, square
from maskcon.errors import InputError
from maskcon.model.network import Network
from maskcon.model.preprocessing import Preprocessing
from maskcon.runtime.device import Precision, sent, where_exact
from maskcon.runtime.distributed import ALONE, Ranks
from maskcon.runtime.progress import Progress, Silent, duration

TOGETHER = 8 * 224 * 224  # pixels that a processor takes at once, whose caches hold no more


@dataclass(frozen=True)
class Loaded:
    """Pictures that go through the network together.

    Attributes:
        rows: of the pictures, int64 [n].
        images: uint8 [n, 3, S, S]; or float32 [n, F], vectors in place of pictures. Good until
            the next batch is asked for.
        errors: (row, why) of those among them that cannot be read; they have no image.
    """

    rows: Tensor
    images: Tensor
    errors: tuple[tuple[int, str], ...] = ()


@torch.no_grad()
def encode(
    network: Callable[[Tensor], Tensor],
    batches: Iterable[Loaded],
    preprocessing: Preprocessing,
    precision: Precision,
    *,
    count: int,
    first: int = 0,
    doing: str = "embedding",
    progress: Progress | None = None,
) -> Iterator[tuple[Loaded, Tensor]]:
    """Each batch, and what the network makes of its images: float32 [n, F], on its device.

    Args:
        network: normalised images to vectors; in evaluation mode, on the device of `precision`.
        batches: from a source below.
        preprocessing: of the network's input.
        precision: that it computes in.
        count: pictures of which progress is told, with those before
        first: the row that the batches begin with.
        doing: what progress says that this is.
        progress: told after each batch how far it is, how fast, and how long it will take.
    """
    progress = progress or Silent()
    start, done = time.perf_counter(), first
    for batch in batches:
        if len(batch.rows):
            images = sent(batch.images, precision.device)
            with precision.autocast():
                parts = [network(preprocessing.normalise(part)) for part in _fitting(images)]
            vectors = torch.cat(parts)
        else:  # none could be read
            vectors = torch.empty(0, 0)
        yield batch, vectors.float()
        done += len(batch.rows) + len(batch.errors)
        speed = (done - first) / max(time.perf_counter() - start, 1e-9)
        progress.update(
            f"{doing}: {done:,} of {count:,} images  {speed:,.0f} images/s  "
            f"{duration((count - done) / speed)} left"
        )


def _fitting(images: Tensor) -> tuple[Tensor, ...]:
    """A batch in parts: on a processor such that the activations of each stay in the caches.

    How many pictures are read together is thus no matter of speed.
    """
    if images.ndim == 2 or images.device.type != "cpu":
        return (images,)
    return images.split(max(1, TOGETHER // math.prod(images.shape[2:])))


def of_split(
    images: InOrder, *, size: int, workers: int, batch_size: int = 0, first: int = 0
) -> Iterator[Loaded]:
    """A split's images from a row on, not cropped, resized to squares by `workers` processes."""
    rest = images.take(slice(first, None)) if first else images
    for squares in rest.plain(size=size, workers=workers, batch_size=batch_size):
        yield Loaded(torch.arange(first, first + len(squares)), squares)
        first += len(squares)


def of_pictures(
    pictures: Pictures, *, size: int, threads: int, batch_size: int, first: int = 0
) -> Iterator[Loaded]:
    """Loose pictures from a row on, resized as those of a split, read by threads."""
    rows: list[int] = []
    squares: list[Tensor] = []
    errors: list[tuple[int, str]] = []

    def read(row: int) -> Tensor:
        return torch.from_numpy(_square(pictures, row, size))

    count = len(pictures)
    for row, result in each(read, count - first, threads, Silent(), "", first):
        if isinstance(result, InputError):
            errors.append((row, str(result)))
        else:
            rows.append(row)
            squares.append(result)
        if len(squares) == batch_size or row + 1 == count:
            images = torch.stack(squares) if squares else torch.empty(0, size, size, 3)
            yield Loaded(torch.tensor(rows).long(), images.permute(0, 3, 1, 2), tuple(errors))
            rows, squares, errors = [], [], []


def _square(pictures: Pictures, row: int, size: int) -> np.ndarray:
    """A picture as a network takes it, uint8 [size, size, 3], resized as in evaluation."""
    if size <= SMALL_IMAGE:
        return square(pictures.decode(row), size)
    made = torch.empty(size, size, 3, dtype=torch.uint8)
    height, width = pictures.size(row)
    cut_picture(pictures, row, (height, width), [(0, 0, height, width)], [made], exact=True)
    return made.numpy()


def embed(
    encoder: Network,
    images: InOrder,
    preprocessing: Preprocessing,
    precision: Precision,
    workers: int = 1,
    progress: Progress | None = None,
    ranks: Ranks = ALONE,
) -> Tensor:
    """Features before the projector, of unit length: float32 [N, F] on the encoder's device.

    Where that has no float64, which judges compute in, they are on the processor.

    The images are resized to squares, not cropped, those on the disk by as many processes as
    `workers`; the encoder runs in evaluation mode and is put back in the mode it was in.
    Only the features of a set are ever in memory, not its pictures. Of several `ranks` each
    embeds its part, and all have all features.
    """
    count = len(images)
    own = images.take(ranks.part(count))
    batches = of_split(own, size=preprocessing.image_size, workers=workers)
    features = torch.empty(len(own), encoder.width, device=precision.device)
    was_training = encoder.training
    encoder.eval()
    for batch, feature in encode(
        encoder.backbone,
        batches,
        preprocessing,
        precision,
        count=len(own),
        progress=progress,
    ):
        features[batch.rows] = torch.nn.functional.normalize(feature, dim=1)
    encoder.train(was_training)
    return ranks.all_gather(where_exact(features), count)
