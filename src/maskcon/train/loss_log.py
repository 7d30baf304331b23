"""Losses of the steps, which stay on the device until somebody can read them without waiting."""

from dataclasses import dataclass

import torch
from torch import Tensor

from maskcon.errors import DivergedError
from maskcon.runtime.device import where_exact
from maskcon.runtime.distributed import Ranks


@dataclass(frozen=True)
class Losses:
    """Losses of some steps, perhaps still on their way from the device.

    Attributes:
        first: the step of the first one.
        values: float32 on the processor, once they have `arrived`.
        arrived: None where they have been there from the beginning.
        steps_per_epoch: to say in which epoch one is not finite.
    """

    first: int
    values: Tensor
    arrived: torch.cuda.Event | None
    steps_per_epoch: int

    @property
    def here(self) -> bool:
        """Whether they can be read without waiting."""
        return self.arrived is None or self.arrived.query()

    def mean(self) -> float:
        """Their mean; waits for them.

        Raises:
            DivergedError: one of the losses is not finite; the message names its step.
        """
        if self.arrived is not None:
            self.arrived.synchronize()
        broken = (~self.values.isfinite()).nonzero()
        if len(broken):
            step = self.first + int(broken[0])
            raise DivergedError(
                f"the loss is {self.values[broken[0]].item()} at step {step} "
                f"(epoch {step // self.steps_per_epoch + 1})"
            )
        return where_exact(self.values).double().mean().item()


class LossLog:
    """The losses of the steps since they were last taken: of each process, its share of them.

    Args:
        device: of the losses.
        ranks: who share the batches.
        steps_per_epoch: for messages.
    """

    def __init__(self, device: torch.device, ranks: Ranks, steps_per_epoch: int):
        self._device, self._ranks, self._steps_per_epoch = device, ranks, steps_per_epoch
        self._losses: list[Tensor] = []

    def add(self, loss: Tensor) -> None:
        """The loss of a step."""
        self._losses.append(loss)

    def total(self) -> Tensor:
        """Those that were not taken yet, of the whole batches; they stay."""
        losses = torch.stack(self._losses) if self._losses else torch.empty(0)
        return self._ranks.all_reduce(losses)

    def take(self, steps: int) -> Losses:
        """Those since the last call, on their way to the processor; waits for nothing.

        Args:
            steps: that were done so far.
        """
        values, first = self.total(), steps - len(self._losses)
        self._losses = []
        if self._device.type != "cuda":
            return Losses(first, values, None, self._steps_per_epoch)
        there = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        there.copy_(values, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record(torch.cuda.current_stream(self._device))
        return Losses(first, there, arrived, self._steps_per_epoch)

    def check_finite(self, steps: int) -> None:
        """Raise `DivergedError` where one that was not taken yet is not finite."""
        if self._losses:
            first = steps - len(self._losses)
            Losses(first, self.total().cpu(), None, self._steps_per_epoch).mean()

    def restore(self, total: Tensor) -> None:
        """Go on with what `total` gave when a checkpoint was written."""
        shares = total if self._ranks.is_main else torch.zeros_like(total)
        self._losses = list(shares.to(self._device))
