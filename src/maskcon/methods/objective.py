"""A method with what can be added to any of them: the loss that a run trains with."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from maskcon.errors import InputError
from maskcon.methods import ranges
from maskcon.methods.family import supce
from maskcon.methods.method import Hyper, Method
from maskcon.methods.mixing import of_mixed
from maskcon.methods.ranges import Number
from maskcon.methods.schedules import scheduled
from maskcon.methods.step import Mixed, Output, Step


@dataclass(frozen=True)
class Objective:
    """A method, with what can be added to any of them.

    Attributes:
        method: of `METHODS`.
        mixup: share of the loss of mixed images in that of the method, in [0, 1); 0 is none.
            A loss is linear in its target, so that of a mixture is the mixture of the losses
            of its two images' targets.
        ce_weight: of a linear classifier's cross-entropy on the label, added to the loss.
    """

    method: Method
    mixup: float = 0.0
    ce_weight: float = 0.0

    def __post_init__(self) -> None:
        ranges.check(0 <= self.mixup < 1, "mixup", self.mixup, "a share from 0 to below 1")
        ranges.at_least_zero(ce_weight=self.ce_weight)
        if self.mixup and self.method.mixes:
            raise InputError("the method mixes images by itself: set --lam in place of --mixup")
        if self.mixup and self.method.key != "momentum":
            raise InputError(
                f"mixup is {self.mixup}, but the method has no key encoder: mixed images are made "
                "of query and key views of a method with a bank"
            )

    @property
    def heads(self) -> tuple[str, ...]:
        """What the encoder must have."""
        return self.method.heads_with(self.ce_weight)

    @property
    def labels(self) -> bool:
        """Whether labels are read."""
        return self.method.labels or self.ce_weight > 0

    @property
    def mixes(self) -> bool:
        """Whether `Step.mixed` is read."""
        return self.method.mixes or self.mixup > 0

    def __call__(self, step: Step, **hyper: Number | str) -> Tensor:
        """The loss of a step."""

        def of_method(step: Step) -> Tensor:
            assert not isinstance(self.method.loss, str)  # a record has made it callable
            return self.method.loss(step, **hyper)

        loss = of_method(step)
        if self.mixup:
            loss = (1 - self.mixup) * loss + self.mixup * of_mixed(step, of_method)
        if self.ce_weight:
            loss = loss + self.ce_weight * supce(step)
        return loss


def check_hyper_parameters(objective: Objective, hyper: Mapping[str, Hyper]) -> None:
    """Raise the loss's own `InputError` for values out of range, before any data are read.

    Of a schedule, both ends are looked at. With mixup it is one that rows cannot be weighted.
    """
    z = torch.eye(2)
    label = torch.zeros(2, dtype=torch.long)
    output = Output.of(dict.fromkeys(("feature", "z", "logits", "graph", *objective.heads), z))
    mixed = Mixed(output, torch.ones(2), label)
    step = Step(output, output, label, bank_z=z, bank_label=label, prototypes=z, mixed=mixed)
    changing = scheduled(hyper)
    for end in (0.0, 1.0):
        values = {**hyper, **{name: value(end) for name, value in changing.items()}}
        objective(step, **values)
    if objective.mixup:
        weightless = replace(objective, mixup=0.0, ce_weight=0.0)
        if weightless(replace(step, weight=torch.zeros(2)), **values).any():
            raise InputError(
                "mixup weighs each row's loss, which the method's does not let it: let the loss "
                "end in `return step.mean(rows)`"
            )
