"""Random numbers that are a function of the seed and of what they are for.

Nothing is drawn from a stream that an interruption could cut: the order of an epoch comes
from (seed, epoch), the crops and the views of a step from (seed, step), so a resumed run draws
what the unbroken one would have drawn.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch

Purpose = Literal[
    "weights",
    "order",
    "views",
    "prefill",
    "data",
    "map",
    "split",
    "crops",
    "mix",
    "small",
    "cached",
    "held",
    "drop",
    "validation",
]
_STREAM: dict[str, int] = {
    "weights": 0,
    "order": 1,
    "views": 2,
    "prefill": 3,
    "data": 4,
    "map": 5,
    "split": 6,
    "crops": 7,
    "mix": 8,
    "small": 9,
    "cached": 10,
    "held": 11,
    "drop": 12,
    "validation": 14,
}


def seed_of(seed: int, purpose: Purpose, index: int = 0) -> int:
    """A 32-bit seed for one purpose, independent of those for other purposes and indices."""
    sequence = np.random.SeedSequence([seed, _STREAM[purpose], index])
    return int(sequence.generate_state(1)[0])


@contextmanager
def kept_random_state() -> Iterator[None]:
    """Leave torch's global random numbers, those of each GPU too, as whoever calls had them."""
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        yield


def generator(seed: int, purpose: Purpose, index: int = 0) -> torch.Generator:
    """A generator on the processor, seeded by `seed_of`."""
    return torch.Generator().manual_seed(seed_of(seed, purpose, index))
