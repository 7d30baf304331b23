"""Mixtures of images, for methods that learn from them."""

import numpy as np
import torch
from torch import Tensor

from maskcon.runtime.seeds import generator, seed_of


def draw(n: int, mixup_alpha: float, seed: int, step: int) -> tuple[Tensor, Tensor]:
    """Another row for each row of a batch, and the row's own share, from (seed, step).

    Args:
        n: rows of the batch, two or more.
        mixup_alpha: shares are drawn from Beta(mixup_alpha, mixup_alpha).
        seed: of the run.
        step: its number.

    Returns:
        Partners int64 [N], none its own, and shares float32 [N] in [0, 1].
    """
    ahead = torch.randint(1, n, (n,), generator=generator(seed, "mix", 2 * step))
    partner = (torch.arange(n) + ahead) % n
    share = np.random.default_rng(seed_of(seed, "mix", 2 * step + 1)).beta(
        mixup_alpha, mixup_alpha, n
    )
    return partner, torch.from_numpy(share.astype(np.float32))


def mix(query: Tensor, other: Tensor, share: Tensor) -> Tensor:
    """Share * query view + (1 - share) * another's key view: [N, 3, H, W] or [N, F], floats."""
    return torch.lerp(other, query, share.view(-1, *[1] * (query.ndim - 1)))
