"""Mixtures of images, for methods that learn from them, and their loss."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from maskcon.errors import InputError
from maskcon.methods.losses import batch_keys
from maskcon.methods.step import Output, Step
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


def of_mixed(step: Step, loss: Callable[[Step], Tensor]) -> Tensor:
    """The loss of the mixed queries: each against the targets of both of its images.

    share * loss(mixed query, the own key and label) + (1 - share) * loss(mixed query, the
    partner's key and label), row by row.
    """
    mixed = step.mixed
    if mixed is None or step.key is None:
        raise InputError("the loss needs step.mixed and step.key; one of them is None")
    partner = mixed.partner
    batch, _ = batch_keys(step)
    label = step.label if step.batch_label is None else step.batch_label
    first = replace(step, query=mixed.query, mixed=None, weight=mixed.share)
    second = replace(
        first,
        key=Output(z=batch[partner]),
        label=None if label is None else label[partner],
        batch_z=batch,  # where partners, of whom two may be the same, are some of the rows
        own=partner,
        weight=1 - mixed.share,
    )
    return loss(first) + loss(second)
