"""Values that change while a run trains: the learning rate's, and those of hyper-parameters."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from maskcon.errors import InputError

SHAPES = ("linear", "cosine")


@dataclass(frozen=True)
class Schedule:
    """A value that goes from one number to another over a run.

    With p the share of the run that is done, in [0, 1]:

        linear: start + (end - start) * p
        cosine: start + (end - start) * (1 - cos(pi p)) / 2
    """

    start: float
    end: float
    shape: str

    @classmethod
    def parse(cls, name: str, text: str) -> "Schedule":
        """Read "0.5:0.05:cosine"; the shape may be left out and is then a cosine.

        Raises:
            InputError: the text is neither a number nor a schedule; `name` is what it is for.
        """
        first, _, rest = text.partition(":")
        last, _, shape = rest.partition(":")
        try:
            start, end = float(first), float(last)
        except ValueError:
            start = end = math.nan
        if not (math.isfinite(start) and math.isfinite(end)) or (shape or "cosine") not in SHAPES:
            raise InputError(
                f"{name} is {text!r}: expected a number, or a schedule FROM:TO:SHAPE such as "
                f"0.5:0.05:cosine, its shape one of {', '.join(SHAPES)}"
            )
        return cls(start, end, shape or "cosine")

    def __call__(self, progress: float) -> float:
        """The value where a share of the run is done."""
        if self.shape == "cosine":
            progress = (1 - math.cos(math.pi * progress)) / 2
        return self.start + (self.end - self.start) * progress

    def __str__(self) -> str:
        return f"{self.start:g}:{self.end:g}:{self.shape}"


def is_schedule(value: object) -> bool:
    """Whether a value is the text of a schedule; other texts are words."""
    return isinstance(value, str) and ":" in value


def scheduled(hyper: Mapping[str, float | str]) -> dict[str, Schedule]:
    """The schedules among the values of hyper-parameters, by name."""
    return {n: Schedule.parse(n, str(v)) for n, v in hyper.items() if is_schedule(v)}


def shown(value: float | str) -> str:
    """A hyper-parameter for people: "0.05", "yes", or "0.5:0.05:cosine"."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else f"{value:g}"


def learning_rate(step: int, total: int, warmup: float) -> float:
    """Share of the full learning rate at a step: linear warm-up, then a cosine to 0.

    The warm-up lies inside the total and reaches 1 at its end; the cosine begins there.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))
