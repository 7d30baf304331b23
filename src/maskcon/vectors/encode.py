"""Pictures become vectors, in one loop: batches of pictures -> preprocessing -> network.

Batches come from one of two sources: `of_split`, whole data sets in memory or read by worker
processes into shared memory, each picture known to be readable; and `of_pictures`, loose pictures
that threads read, which may meet some that cannot be read.
"""

import copy
import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from weakref import WeakKeyDictionary

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
from maskcon.model.graph import Engine, engine_of
from maskcon.model.preprocessing import Preprocessing
from maskcon.runtime.device import Precision, reuse_memory, sent
from maskcon.runtime.progress import Progress, Silent, duration

TOGETHER = 8 * 224 * 224  # pixels that a core takes at once, whose caches hold no more
# of networks that are there: making one takes seconds
_ENGINES: WeakKeyDictionary[torch.nn.Module, tuple[object, Engine]] = WeakKeyDictionary()
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
    with _Inference(network, preprocessing, precision, count) as inference:
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
        count: pictures in all: of many, preparing the network pays. Those that were made before
            count, so that what is broken off goes on to the same bits.
    """

    def __init__(
        self,
        network: Callable[[Tensor], Tensor],
        preprocessing: Preprocessing,
        precision: Precision,
        count: int,
    ):
        self._network, self._preprocessing, self._precision = network, preprocessing, precision
        self._given = network
        self._on_cores = precision.device.type == "cpu"
        self._fold = count >= MANY and self._on_cores and precision.name == "fp32"
        self._count = count
        self._cores = torch.get_num_threads() if self._on_cores else 1
        self._pool = ThreadPoolExecutor(self._cores)  # has no thread before it has work
        self._free: SimpleQueue[Callable[[Tensor], Tensor]] = SimpleQueue()

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
        together = max(1, TOGETHER // math.prod(images.shape[2:]))
        if self._precision.backend != "torch" and isinstance(self._network, torch.nn.Module):
            self._network = self._engine(images, together)
        parts = images.split(together)
        if len(parts) < self._cores or self._cores == 1:
            return torch.cat([self._of_part(part) for part in parts]).float()
        if self._free.empty():
            for _ in range(self._cores):
                self._free.put(_of_the_same_weights(self._network))
        torch.set_num_threads(1)  # for the pool's, which take it from here when they begin
        try:
            return torch.cat(list(self._pool.map(self._on_a_core, parts))).float()
        finally:
            torch.set_num_threads(self._cores)

    def _engine(self, images: Tensor, together: int) -> Callable[[Tensor], Tensor]:
        """What computes in the network's place, of so many images and fewer.

        It is made once, and again where weights have changed since.
        """
        given, network = self._given, self._network
        assert isinstance(given, torch.nn.Module)
        assert isinstance(network, torch.nn.Module)
        size = min(together, 1 << (self._count - 1).bit_length())
        weights = itertools.chain(given.parameters(), given.buffers())
        what = self._precision.backend, size, images.shape[1:], self._cores
        key = (*what, *(tensor._version for tensor in weights))
        known, engine = _ENGINES.get(given, (None, None))
        if engine is None or known != key:
            example = images[:1].expand(size, -1, -1, -1).clone()
            some = images[:size]
            example[: len(some)] = some
            prepared = self._preprocessing.normalise(example)
            engine = engine_of(self._precision.backend, network, prepared, self._cores)
            _ENGINES[given] = key, engine
        return engine

    def _on_a_core(self, images: Tensor) -> Tensor:
        network = self._free.get()
        try:
            return self._of_part(images, network)
        finally:
            self._free.put(network)

    @torch.no_grad()
    def _of_part(self, images: Tensor, network: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        with self._precision.autocast():
            return (network or self._network)(self._preprocessing.normalise(images))


def _of_the_same_weights(network: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A copy of a network with the weights of the original themselves.

    Modules may note something while they run, and hooks on them say what passes: of two threads in
    one module each would find what is the other's.
    """
    if not isinstance(network, torch.nn.Module):
        return network
    weights = itertools.chain(network.parameters(), network.buffers())
    return copy.deepcopy(network, {id(tensor): tensor for tensor in weights})


def of_split(images: InOrder, *, size: int, workers: int, batch_size: int = 0) -> Iterator[Loaded]:
    """A split's images, not cropped, resized to squares by `workers` processes."""
    first = 0
    for squares in images.plain(size=size, workers=workers, batch_size=batch_size):
        yield Loaded(torch.arange(first, first + len(squares)), squares)
        first += len(squares)


def of_pictures(
    pictures: Pictures, *, size: int, threads: int, batch_size: int
) -> Iterator[Loaded]:
    """Loose pictures, resized as those of a split, read by threads."""
    rows: list[int] = []
    squares: list[Tensor] = []
    errors: list[tuple[int, str]] = []

    def read(row: int) -> Tensor:
        return torch.from_numpy(as_square(pictures, row, size))

    count = len(pictures)
    for row, result in each(read, count, threads, Silent(), ""):
        if isinstance(result, InputError):
            errors.append((row, str(result)))
        else:
            rows.append(row)
            squares.append(result)
        if len(squares) == batch_size or row + 1 == count:
            images = torch.stack(squares) if squares else torch.empty(0, size, size, 3)
            yield Loaded(torch.tensor(rows).long(), images.permute(0, 3, 1, 2), tuple(errors))
            rows, squares, errors = [], [], []


def as_square(pictures: Pictures, row: int, size: int) -> np.ndarray:
    """A picture as a network takes it, uint8 [size, size, 3], resized as in evaluation."""
    if size <= SMALL_IMAGE:
        return square(pictures.decode(row), size)
    made = torch.empty(size, size, 3, dtype=torch.uint8)
    resize(pictures.decode(row), made)
    return made.numpy()
