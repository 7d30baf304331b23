"""What a method may look at: one training step."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from maskcon.errors import InputError

Head = Literal["z", "logits", "graph", "prototypes"]  # what an encoder may have on its backbone


@dataclass(frozen=True)
class Output:
    """What an encoder says of N images. Heads that were not asked for are None."""

    feature: Tensor | None = None  # [N, F] of the backbone
    z: Tensor | None = None  # [N, D] projection, unit length, float32
    logits: Tensor | None = None  # [N, C] of the linear classifier
    graph: Tensor | None = None  # [N, D] of a second projector, unit length, float32


@dataclass(frozen=True)
class Mixed:
    """Queries whose images are mixtures of two.

    Attributes:
        query: of share * query view + (1 - share) * the partner's key view, mixed as images.
        share: of the row's own image [N], in [0, 1].
        partner: the row of the whole batch whose key view was mixed in [N].
    """

    query: Output
    share: Tensor
    partner: Tensor


@dataclass(frozen=True)
class Step:
    """What a method may look at.

    Attributes:
        query: of the query views.
        key: of the key views of the same images; None for methods without keys.
        label: of each image [N].
        bank_z: rows of the bank, unit length [M, D].
        bank_label: their labels [M].
        batch_z: keys of the whole batch, unit length [B, D], where ranks share one; by default
            those of `key`.
        batch_label: their labels [B]; by default `label`.
        own: the row of `batch_z` that is each image's own key [N]; by default 0, 1, 2, ...
        prototypes: rows of a classifier on the projection, one for each class [C, D].
        mixed: queries of mixed images, for methods that want them.
        weight: of each row's loss in the mean over N [N]; by default 1.
    """

    query: Output
    key: Output | None = None
    label: Tensor | None = None
    bank_z: Tensor | None = None
    bank_label: Tensor | None = None
    batch_z: Tensor | None = None
    batch_label: Tensor | None = None
    own: Tensor | None = None
    prototypes: Tensor | None = None
    mixed: Mixed | None = None
    weight: Tensor | None = None

    def mean(self, rows: Tensor) -> Tensor:
        """The mean of a loss of each row [N], weighted by `weight`."""
        return rows.mean() if self.weight is None else (self.weight * rows).mean()


def needed(step: Step, *names: str) -> list[Tensor]:
    """Fields of a step, such as "query.z", all of which must be there."""
    found = []
    for name in names:
        value: object = step
        for part in name.split("."):
            value = getattr(value, part, None)
        found.append(value)
    missing = [name for name, value in zip(names, found, strict=True) if value is None]
    if missing:
        raise InputError(f"the loss needs step.{' and step.'.join(missing)}, which is None")
    return found  # type: ignore[return-value]


def batch_keys(step: Step) -> tuple[Tensor, Tensor]:
    """Keys of the whole batch [B, D], and the row of each image's own among them [N]."""
    (key,) = needed(step, "key.z")
    key = key.detach()
    batch = key if step.batch_z is None else step.batch_z
    own = torch.arange(len(key), device=key.device) if step.own is None else step.own
    return batch, own


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
