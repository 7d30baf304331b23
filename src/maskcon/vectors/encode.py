"""Pictures become vectors, in one loop: batches of pictures -> preprocessing -> network.

Batches come from one of two sources: `of_split`, whole data sets in memory or read by worker
processes into shared memory, each picture known to be readable; and `of_pictures`, loose pictures
that threads read, which may meet some that cannot be read.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from maskcon.config import SMALL_IMAGE
from maskcon.data.images import InOrder
from maskcon.data.loader import resize
from maskcon.data.pictures import Pictures
from maskcon.data.scan import each, square
from maskcon.errors import InputError
from maskcon.model.folding import folded
from maskcon.model.network import Network
from maskcon.model.preprocessing import Preprocessing
from maskcon.runtime.device import Precision, reuse_memory, sent, where_exact
from maskcon.runtime.distributed import ALONE, Ranks
from maskcon.runtime.progress import Progress, Silent, duration

TOGETHER = 8 * 224 * 224  # pixels that a core takes at once, whose caches hold no more
MANY = 100  # pictures from which on a copy of the network with folded norms is worth its making


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
    with _Inference(network, preprocessing, precision, many=count - first >= MANY) as inference:
        for batch in batches:
            vectors = inference(batch.images) if len(batch.rows) else torch.empty(0, 0)
            yield batch, vectors
            done += len(batch.rows) + len(batch.errors)
            speed = (done - first) / max(time.perf_counter() - start, 1e-9)
            progress.update(
                f"{doing}: {done:,} of {count:,} images  {speed:,.0f} images/s  "
                f"{duration((count - done) / speed)} left"
            )


class _Inference:
    """A network on batches of any size, as fast as the device computes it.

    On a processor a batch is divided into parts whose activations stay in the caches, so how many
    pictures are read together is no matter of speed. Each core takes one part after the other by
    itself: cores that share each operation wait for each other at its end, and all of them for one
    that another program keeps busy.

    Args:
        network, preprocessing, precision: as `encode` has them.
        many: whether so many pictures come that preparing the network pays.
    """

    def __init__(
        self,
        network: Callable[[Tensor], Tensor],
        preprocessing: Preprocessing,
        precision: Precision,
        *,
        many: bool,
    ):
        self._network, self._preprocessing, self._precision = network, preprocessing, precision
        self._on_cores = precision.device.type == "cpu"
        self._fold = many and self._on_cores and precision.name == "fp32"
        self._cores = torch.get_num_threads() if self._on_cores else 1
        self._pool = ThreadPoolExecutor(self._cores)  # has no thread before it has work

    def __enter__(self) -> "_Inference":
        if self._on_cores:
            reuse_memory()
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown()

    def __call__(self, images: Tensor) -> Tensor:
        """What the network makes of a batch, uint8 [n, 3, S, S] or vectors: float32 [n, F]."""
        images = sent(images, self._precision.device)
        if not self._on_cores or images.ndim == 2:
            return self._of_part(images).float()
        if self._fold and isinstance(self._network, torch.nn.Module):
            self._network = folded(self._network, self._preprocessing.normalise(images[:1]))
            self._fold = False
        parts = images.split(max(1, TOGETHER // math.prod(images.shape[2:])))
        if len(parts) < self._cores or self._cores == 1:
            return torch.cat([self._of_part(part) for part in parts]).float()
        torch.set_num_threads(1)  # for the pool's, which take it from here when they begin
        try:
            return torch.cat(list(self._pool.map(self._of_part, parts))).float()
        finally:
            torch.set_num_threads(self._cores)

    @torch.no_grad()
    def _of_part(self, images: Tensor) -> Tensor:
        with self._precision.autocast():
            vectors: Tensor = self._network(self._preprocessing.normalise(images))
            return vectors


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
    resize(pictures.decode(row), made)
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
