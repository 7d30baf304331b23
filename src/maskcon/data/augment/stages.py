"""Views that change at an epoch."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from maskcon.errors import InputError


class Stage(NamedTuple):
    """A view, and the epochs that see it.

    Attributes:
        kind: its name.
        end: the first epoch that does not see it; infinite of the last.
    """

    kind: str
    end: float


def stages(name: str, text: str) -> tuple[Stage, ...]:
    """Read "moco:10,simclr": ten epochs of moco, and simclr from then on.

    A single name is one view for all epochs. A name itself may have a colon, module:attribute.

    Raises:
        InputError: the text is none of these; `name` is what it is for.
    """
    if text.startswith("("):  # an object's, with whatever commas
        return (Stage(text, math.inf),)
    *parts, last = (part.strip() for part in text.split(","))
    found, begin = [], 0
    for part in parts:
        kind, _, epochs = part.rpartition(":")
        if not (kind and epochs.isascii() and epochs.isdigit() and 0 < int(epochs) <= 10**9):
            raise InputError(
                f"{name} is {text!r}: expected a view, or VIEW:EPOCHS for each but the last, such "
                "as moco:10,simclr"
            )
        begin += int(epochs)
        found.append(Stage(kind, begin))
    if not last or last.rpartition(":")[2].isdigit():
        raise InputError(
            f"{name} is {text!r}: the last view stays to the end, and has no number of epochs; "
            "expected something like moco:10,simclr"
        )
    return (*found, Stage(last, math.inf))


def stage_at(of_view: Sequence[Stage], epoch: int) -> Stage:
    """The view that an epoch sees, the first being 0."""
    return next(stage for stage in of_view if epoch < stage.end)
