"""What a method may look at: one training step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from maskcon.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Output:
    """What an encoder says of N images. Heads that were not asked for are None."""

    feature: Tensor | None = None  # [N, F] of the backbone
    z: Tensor | None = None  # [N, D] projection, unit length, float32
    logits: Tensor | None = None  # [N, C] of the linear classifier
    graph: Tensor | None = None  # [N, D] of a second projector, unit length, float32
    more: Mapping[str, Tensor] = field(default_factory=dict)  # of heads of any other name

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> Output:
        """From what `tensors` gives."""
        known = {name: tensors[name] for name in _KNOWN if name in tensors}
        return cls(**known, more={n: x for n, x in tensors.items() if n not in known})

    def tensors(self) -> dict[str, Tensor]:
        """Feature and heads by name, those that are there."""
        known = {name: getattr(self, name) for name in _KNOWN}
        return {**{n: x for n, x in known.items() if x is not None}, **self.more}


_KNOWN = ("feature", "z", "logits", "graph")


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
class Lots:
    """What a person said of kinds: classes in lots, and what is known of any two of these.

    Attributes:
        label: class of each lot [L].
        relation: of any two lots, uint8 [L, L]: `targets.DIFFERENT` kinds, which lots of two
            classes always are, `targets.SAME` kind, or `targets.OPEN`.
    """

    label: Tensor
    relation: Tensor

    def to(self, device: torch.device) -> Lots:
        """The same on a device."""
        return Lots(self.label.to(device), self.relation.to(device))


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
        lots: what is known of kinds; where it is there, every label is that of a lot.
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
    lots: Lots | None = None

    def mean(self, rows: Tensor) -> Tensor:
        """The mean of a loss of each row [N], weighted by `weight`."""
        return rows.mean() if self.weight is None else (self.weight * rows).mean()


def needed(step: Step, *names: str) -> list[Tensor]:
    """Fields of a step, such as "query.z", all of which must be there.

    Raises:
        InputError: one is None.
    """
    found = []
    for name in names:
        value: object = step
        for part in name.split("."):
            parts = value.tensors() if isinstance(value, Output) else vars(value) if value else {}
            value = parts.get(part)
        found.append(value)
    missing = [name for name, value in zip(names, found, strict=True) if value is None]
    if missing:
        raise InputError(f"the loss needs step.{' and step.'.join(missing)}, which is None")
    return found  # type: ignore[return-value]
