"""Pictures become vectors, in one loop: batches of pictures -> preprocessing -> network.

Batches come from one of two sources: `of_split`, whole data sets, each picture known to be
readable; and `of_pictures`, loose pictures, some of which may not be. What is in memory, or read
by worker processes for a GPU, comes `Loaded`. The rest comes `Unread`: on a processor a core reads
some pictures and computes their vectors itself, while they are in its caches.
"""

import copy
import itertools
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from maskcon.config import SMALL_IMAGE
from maskcon.data.images import InOrder, OnDisk
from maskcon.data.loader import resize
from maskcon.data.pictures import Pictures
from maskcon.data.scan import square
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
    """

    rows: Tensor
    images: Tensor


@dataclass(frozen=True)
class Unread:
    """Pictures that are read by whoever computes their vectors, or shortly before.

    Attributes:
        rows: of the pictures, int64 [n].
        read: one of them as a square, uint8 [S, S, 3]; raises `InputError` if it cannot be read.
        size: S.
        threads: that read for a GPU.
        lenient: what cannot be read is left out and told, and is no error.
    """

    rows: Tensor
    read: Callable[[int], Tensor]
    size: int
    threads: int
    lenient: bool

    def tried(self, row: int) -> Tensor | InputError:
        """The square of one of them; or why there is none, if it may be left out."""
        try:
            return self.read(row)
        except InputError as error:
            if not self.lenient:
                raise
            return error


@dataclass(frozen=True)
class Encoded:
    """Vectors of pictures.

    Attributes:
        rows: of the pictures, int64 [n].
        features: float32 [n, F], on the device of the network.
        errors: (row, why) of those among them that cannot be read; they have no vector.
    """

    rows: Tensor
    features: Tensor
    errors: tuple[tuple[int, str], ...] = ()

    @classmethod
    def joined(cls, parts: "Iterable[Encoded]") -> "Encoded":
        """Parts, one behind the other."""
        parts = [*parts]
        some = [part.features for part in parts if len(part.rows)] or [torch.empty(0, 0)]
        errors = itertools.chain.from_iterable(part.errors for part in parts)
        return cls(torch.cat([part.rows for part in parts]), torch.cat(some), tuple(errors))


@torch.no_grad()
def encode(
    network: Callable[[Tensor], Tensor],
    batches: Iterable[Loaded | Unread],
    preprocessing: Preprocessing,
    precision: Precision,
    *,
    count: int,
    first: int = 0,
    doing: str = "embedding",
    progress: Progress | None = None,
) -> Iterator[Encoded]:
    """What the network makes of the images of each batch.

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
        for made in inference.each(batches):
            yield made
            done += len(made.rows) + len(made.errors)
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
    that another program keeps busy. Nor has a core more than one thread that computes: readers
    beside those that run the network would empty each other's caches.

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
        self._fold = count >= MANY and self._on_cores
        self._count = count
        self._cores = torch.get_num_threads() if self._on_cores else 1
        self._preparing = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._own = threading.local()  # the network of each of its threads

    def __enter__(self) -> "_Inference":
        if self._on_cores:
            reuse_memory()
        return self

    def __exit__(self, *error: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            if self._cores > 1:
                torch.set_num_threads(self._cores)

    def _threads(self, count: int) -> ThreadPoolExecutor:
        """Threads that work alone, each on one core."""
        if self._pool is None:
            # torch sets it for threads that begin later, too: with one core it is left alone
            alone = (lambda: torch.set_num_threads(1)) if self._cores > 1 else None
            self._pool = ThreadPoolExecutor(count, initializer=alone)
        return self._pool

    def each(self, batches: Iterable[Loaded | Unread]) -> Iterator[Encoded]:
        """What the network makes of batches; of those that are unread the next one is begun."""
        begun: deque[Callable[[], Encoded]] = deque()
        for batch in batches:
            if isinstance(batch, Loaded):
                yield Encoded(batch.rows, self(batch.images))
                continue
            begun.append(self._begun(batch))
            if len(begun) > 1:
                yield begun.popleft()()
        while begun:
            yield begun.popleft()()

    def _begun(self, batch: Unread) -> Callable[[], Encoded]:
        """Begin to read pictures, and to compute on a processor; what ends it."""
        together = max(1, TOGETHER // batch.size**2)
        if len(batch.rows) <= together * (self._cores - 1) or not self._on_cores:
            pool = self._threads(self._cores if self._on_cores else batch.threads)
            read = [pool.submit(batch.tried, row) for row in batch.rows.tolist()]
            return lambda: self._of_read(batch.rows, [one.result() for one in read])
        pool = self._threads(self._cores)
        parts: list[Future[Encoded]] = [
            pool.submit(self._alone, rows, batch) for rows in batch.rows.split(together)
        ]
        return lambda: Encoded.joined(part.result() for part in parts)

    @torch.no_grad()
    def _alone(self, rows: Tensor, batch: Unread) -> Encoded:
        """Read a few pictures of a batch and compute their vectors, on one core."""
        return self._of_read(rows, [batch.tried(row) for row in rows.tolist()], self._on_a_core)

    def _of_read(
        self,
        rows: Tensor,
        tried: list[Tensor | InputError],
        network: Callable[[Tensor], Tensor] | None = None,
    ) -> Encoded:
        """What was read, without what could not be, becomes vectors."""
        errors = tuple(
            (row, str(one))
            for row, one in zip(rows.tolist(), tried, strict=True)
            if isinstance(one, InputError)
        )
        squares = [one for one in tried if isinstance(one, Tensor)]
        if not squares:
            return Encoded(rows[:0], torch.empty(0, 0), errors)
        if errors:
            there = [isinstance(one, Tensor) for one in tried]
            rows = rows[torch.tensor(there)]
        images = torch.stack(squares).permute(0, 3, 1, 2)
        return Encoded(rows, (network or self)(images), errors)

    def __call__(self, images: Tensor) -> Tensor:
        """What the network makes of a batch, uint8 [n, 3, S, S] or vectors: float32 [n, F]."""
        images = sent(images, self._precision.device)
        if not len(images):
            return torch.empty(0, 0)
        if not self._on_cores or images.ndim == 2:
            return self._of_part(images).float()
        self._prepare(images)
        parts = images.split(max(1, TOGETHER // math.prod(images.shape[2:])))
        if len(parts) < self._cores or self._cores == 1:
            return torch.cat([self._of_part(part) for part in parts]).float()
        return torch.cat([*self._threads(self._cores).map(self._on_a_core, parts)])

    def _prepare(self, images: Tensor) -> None:
        """Have the network as it is fastest, once."""
        with self._preparing:
            if self._fold and isinstance(self._network, torch.nn.Module):
                self._network = folded(self._network, self._preprocessing.normalise(images[:1]))
                self._fold = False
            together = max(1, TOGETHER // math.prod(images.shape[2:]))
            if self._precision.backend != "torch" and isinstance(self._network, torch.nn.Module):
                self._network = self._engine(images, together)

    def _engine(self, images: Tensor, together: int) -> Callable[[Tensor], Tensor]:
        """What computes in the network's place, of so many images and fewer.

        It is made once, and again where weights have changed since.
        """
        given, network = self._given, self._network
        assert isinstance(given, torch.nn.Module)
        assert isinstance(network, torch.nn.Module)
        size = min(together, 1 << (self._count - 1).bit_length())
        weights = itertools.chain(given.parameters(), given.buffers())
        what = self._precision, size, images.shape[1:], self._cores
        key = (*what, *(tensor._version for tensor in weights))
        known, engine = _ENGINES.get(given, (None, None))
        if engine is None or known != key:
            example = images[:1].expand(size, -1, -1, -1).clone()
            some = images[:size]
            example[: len(some)] = some
            prepared = self._preprocessing.normalise(example)
            engine = engine_of(self._precision, network, prepared, self._cores)
            _ENGINES[given] = key, engine
        return engine

    @torch.no_grad()
    def _on_a_core(self, images: Tensor) -> Tensor:
        self._prepare(images)
        if not hasattr(self._own, "network"):
            self._own.network = _of_the_same_weights(self._network)
        return self._of_part(images, self._own.network).float()

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


def of_split(
    images: InOrder, *, size: int, workers: int, device: torch.device, batch_size: int = 0
) -> Iterator[Loaded | Unread]:
    """A split's images, not cropped, resized to squares.

    Args:
        images: of the split.
        size: of the squares in pixels.
        workers: processes that read pictures for a GPU.
        device: of the network.
        batch_size: images of a batch; by default those of the images.
    """
    if isinstance(images, OnDisk) and device.type == "cpu":
        step = batch_size or images.batch_size
        yield from _unread(partial(_of_disk, images, size), len(images), step, size, workers, False)
        return
    first = 0
    for squares in images.plain(size=size, workers=workers, batch_size=batch_size):
        yield Loaded(torch.arange(first, first + len(squares)), squares)
        first += len(squares)


def _of_disk(images: OnDisk, size: int, row: int) -> Tensor:
    return images.picture(row, size, exact=True).permute(1, 2, 0)


def of_pictures(
    pictures: Pictures, *, size: int, threads: int, batch_size: int
) -> Iterator[Unread]:
    """Loose pictures, resized as those of a split; so many threads read for a GPU."""

    def read(row: int) -> Tensor:
        return torch.from_numpy(as_square(pictures, row, size))

    return _unread(read, len(pictures), batch_size, size, threads, True)


def _unread(
    read: Callable[[int], Tensor], count: int, step: int, size: int, threads: int, lenient: bool
) -> Iterator[Unread]:
    for first in range(0, count, step):
        rows = torch.arange(first, min(first + step, count))
        yield Unread(rows, read, size, threads, lenient)


def as_square(pictures: Pictures, row: int, size: int) -> np.ndarray:
    """A picture as a network takes it, uint8 [size, size, 3], resized as in evaluation."""
    if size <= SMALL_IMAGE:
        return square(pictures.decode(row), size)
    made = torch.empty(size, size, 3, dtype=torch.uint8)
    resize(pictures.decode(row), made)
    return made.numpy()
