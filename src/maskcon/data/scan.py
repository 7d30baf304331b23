"""Reading every picture once: into memory where they are small, for their sizes elsewhere."""

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from maskcon.data.images import InMemory, OnDisk
from maskcon.data.pictures import Arrays, Pictures
from maskcon.errors import InputError
from maskcon.runtime.distributed import Ranks
from maskcon.runtime.progress import Progress

CHUNK = 256  # pictures between two looks at the progress; read ahead of whoever asks for them
_T = TypeVar("_T")


def each(
    work: Callable[[int], _T],
    count: int,
    workers: int,
    progress: Progress,
    doing: str,
    first: int = 0,
) -> Iterator[tuple[int, _T | InputError]]:
    """(row, result) for `count` rows from the first in order, by threads.

    They work ahead by up to `CHUNK` rows while nobody asks for one. An `InputError` is a result.
    """

    def tried(row: int) -> _T | InputError:
        try:
            return work(row)
        except InputError as error:
            return error

    ahead: deque[Future[_T | InputError]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for row in range(first, first + min(CHUNK, count)):
            ahead.append(pool.submit(tried, row))
        for done in range(count):
            if done % CHUNK == 0 and count > CHUNK:
                progress.update(f"{doing}: {done:,} of {count:,} ({done / count:.0%})")
            result = ahead.popleft().result()
            if done + CHUNK < count:
                ahead.append(pool.submit(tried, first + done + CHUNK))
            yield first + done, result
    finally:
        pool.shutdown(cancel_futures=True)


def into_memory(
    pictures: Pictures, size: int, workers: int, progress: Progress, ranks: Ranks
) -> tuple[InMemory, dict[int, str]]:
    """Every picture as a square: uint8 [N, 3, size, size]; and why rows cannot be read.

    Several `ranks` share the reading.
    """
    if isinstance(pictures, Arrays) and isinstance(pictures.images, Tensor):
        images = pictures.images
        if images.shape[2:] == (size, size):
            return InMemory(images), {}
    first, count = _own(pictures, ranks)
    images = torch.zeros(count, 3, size, size, dtype=torch.uint8)
    errors = {}

    def work(row: int) -> None:
        read = torch.from_numpy(square(pictures.decode(row), size))
        images[row - first] = read.permute(2, 0, 1)

    for row, result in each(work, count, workers, progress, "reading pictures", first):
        if isinstance(result, InputError):
            errors[row] = str(result)
    images = ranks.all_gather(images, len(pictures))
    return InMemory(images), _merged(ranks.all_gather_object(errors))


def _own(pictures: Pictures, ranks: Ranks) -> tuple[int, int]:
    """The first row that this process reads, and how many."""
    own = ranks.part(len(pictures))
    return own.start, own.stop - own.start


def _merged(parts: Sequence[dict[int, str]]) -> dict[int, str]:
    return {row: reason for part in parts for row, reason in part.items()}


def square(picture: np.ndarray, size: int) -> np.ndarray:
    """A picture [H, W, 3] resized to [size, size, 3] as Pillow does it; itself if it fits."""
    if picture.shape[:2] == (size, size):
        return picture
    image = Image.fromarray(picture).resize((size, size), Image.Resampling.BILINEAR)
    return np.array(image)


def look_through(
    pictures: Pictures, workers: int, progress: Progress, ranks: Ranks
) -> tuple[OnDisk, dict[int, str]]:
    """Sizes and a digest of pictures that stay where they are; and why rows cannot be read.

    Each is decoded, as small as is cheap, so that training never meets one that is damaged; files
    of which that is known from before are not.
    Several `ranks` share that.
    """
    first, count = _own(pictures, ranks)
    sizes = torch.zeros(count, 2, dtype=torch.long)
    digests, errors = [b""] * count, {}

    def work(row: int) -> tuple[tuple[int, int], bytes]:
        return pictures.look(row)

    for row, result in each(work, count, workers, progress, "looking at pictures", first):
        if isinstance(result, InputError):
            errors[row] = str(result)
        else:
            sizes[row - first] = torch.tensor(result[0])
            digests[row - first] = result[1]
    every = tuple(one for part in ranks.all_gather_object(digests) for one in part)
    digest = hashlib.blake2b(b"".join(every), digest_size=16).hexdigest()
    sizes = ranks.all_gather(sizes, len(pictures))
    return OnDisk(pictures, sizes, every, digest), _merged(ranks.all_gather_object(errors))
