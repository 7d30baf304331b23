"""Notices of a run that goes wrong without an error: collapse, jumps of the loss, overflow."""

import statistics
from collections import deque
from collections.abc import Callable

from torch import Tensor

COLLAPSED = 1e-3  # spread of embeddings below which they are all the same; trained ones have 0.1
RECENT = 10  # mean losses that a new one is compared with, and
FEWEST = 5  # how many of them it takes
JUMP = 2.0  # times their median


class Watch:
    """Looks at what a run measures anyway, and says what is wrong, each thing once.

    Args:
        note: told.
        lr: learning rate, to name in advice.
    """

    def __init__(self, note: Callable[[str], None], lr: float):
        self._note, self._lr = note, lr
        self._losses: deque[float] = deque(maxlen=RECENT)
        self._said: set[str] = set()

    def _say(self, what: str, line: str) -> None:
        if what not in self._said:
            self._said.add(what)
            self._note(f"notice: {line}")

    def loss(self, step: int, mean: float) -> None:
        """The mean loss of the steps up to one."""
        usual = statistics.median(self._losses) if len(self._losses) >= FEWEST else mean
        if mean > JUMP * abs(usual):
            self._say(
                "jump",
                f"the loss has jumped from {usual:.4g} to {mean:.4g} by step {step:,}. If it "
                f"stays there, start again with a lower --lr than {self._lr:g} or a longer "
                "--warmup-epochs",
            )
        self._losses.append(mean)

    def embeddings(self, features: Tensor) -> None:
        """Features of unit length [N, F]: their spread is 1 - |their mean|^2.

        That is one less the mean cosine of two of them, in [0, 1].
        """
        spread = 1 - features.double().mean(0).square().sum().item()
        if spread < COLLAPSED:
            self._say(
                "collapse",
                f"the embeddings of all images are nearly the same (the mean cosine of two is "
                f"{1 - spread:.4f}): the encoder has collapsed. Start again with a lower --lr than "
                f"{self._lr:g} or --weight-decay, a longer --warmup-epochs, or another --method",
            )

    def scale(self, scale: float) -> None:
        """By what fp16's loss is multiplied: it is halved whenever a gradient overflows."""
        if scale < 1:
            self._say(
                "overflow",
                f"gradients overflow fp16 again and again (the loss is scaled by {scale:.3g}), and "
                "such steps are left out: use --precision bf16 or fp32, or a lower --lr",
            )
