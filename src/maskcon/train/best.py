"""The best epoch of a run: by validation images where there are some, else by the test images."""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from maskcon.eval.stability import NAME as STABLE

PREFIX = "validation/"  # of the names of what validation images say


class Best:
    """The best epoch so far; of equally good ones the first.

    It is chosen by recall@1 of fine labels; without any, by that of coarse ones times the share
    of validation images whose nearest neighbour in their coarse class is the same for another
    view. Where validation images choose, test images have no say, and the run ends with the
    encoder of the best epoch; where there are none, the best epoch is only told, since it is
    chosen on the test images themselves, and the run ends with its last.

    Attributes:
        results: of the best epoch: its number, "epoch", and its figures, those of validation
            images with `PREFIX`; empty before the first evaluation.
        weights: of its encoder, where validation images chose it.
        waited: evaluations since then.
    """

    def __init__(self) -> None:
        self.results: dict[str, float] = {}
        self.weights: dict[str, Tensor] | None = None
        self.waited = 0

    def take(
        self,
        epoch: int,
        test: Mapping[str, float],
        validation: Mapping[str, float],
        weights: Mapping[str, Tensor],
    ) -> bool:
        """Whether an epoch is the best so far.

        Args:
            epoch: its number.
            test: figures of the test images.
            validation: those of validation images, with `PREFIX`; empty where there are none.
            weights: of the encoder.
        """
        judged = validation or test
        before = {name: self.results[name] for name in judged if name in self.results}
        if _worth(judged) <= _worth(before):
            self.waited += 1
            return False
        self.results, self.waited = {"epoch": epoch, **test, **validation}, 0
        if validation:
            self.weights = {name: value.detach().cpu().clone() for name, value in weights.items()}
        return True

    @property
    def test(self) -> dict[str, float]:
        """The figures of the test images in the best epoch."""
        return {
            name: value
            for name, value in self.results.items()
            if name != "epoch" and not name.startswith(PREFIX)
        }

    def state_dict(self) -> dict[str, Any]:
        """Its part of a checkpoint."""
        state: dict[str, Any] = {"best": self.results}
        if self.weights is not None:
            state |= {"best_encoder": self.weights, "waited": self.waited}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self.results, self.weights = state["best"], state.get("best_encoder")
        self.waited = state.get("waited", 0)


def deciding(figures: Mapping[str, float]) -> dict[str, float]:
    """The figures whose product an epoch is chosen by: recall@1, the first, and "stable"."""
    names = (next(iter(figures), None), PREFIX + STABLE)
    return {name: value for name, value in figures.items() if name in names}


def _worth(figures: Mapping[str, float]) -> float:
    return math.prod(deciding(figures).values()) if figures else -math.inf
