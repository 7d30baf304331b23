"""What an encoder may have on its backbone: one record for each kind of head.

A head that a new method needs is written down here and nowhere else: a record in `HEADS`. A
method names it in its `heads`, and finds what it says in `Output`: as the field of that name, or
in `Output.more`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import nn

DEEP = 2048  # width of the hidden layers of a deep projector


@dataclass(frozen=True)
class Widths:
    """What a head is built from.

    Attributes:
        feature: F, of the feature that heads read.
        projection: D.
        classes: C.
        deep: whether projectors have three layers with batch norm.
    """

    feature: int
    projection: int
    classes: int
    deep: bool


@dataclass(frozen=True)
class HeadKind:
    """A kind of head.

    Attributes:
        module: the name of the module in a network, and in its state.
        build: makes it.
        reads: "feature", or "z": the projection before it is scaled.
        unit: whether what it says is scaled to unit length, in float32.
        says: the field of `Output`; by default the head's own name.
        key: whether the key encoder has it too.
    """

    module: str
    build: Callable[[Widths], nn.Module]
    reads: Literal["feature", "z"] = "feature"
    unit: bool = False
    says: str = ""
    key: bool = False


def projector(widths: Widths) -> nn.Module:
    """MaskCon's: Linear(F, F)-ReLU-Linear(F, D); a deep one is WCL's, 2,048 wide."""
    if widths.deep:
        return nn.Sequential(
            *_hidden(widths.feature), *_hidden(DEEP), nn.Linear(DEEP, widths.projection)
        )
    return nn.Sequential(
        nn.Linear(widths.feature, widths.feature),
        nn.ReLU(),
        nn.Linear(widths.feature, widths.projection),
    )


def _hidden(width: int) -> tuple[nn.Module, ...]:
    return nn.Linear(width, DEEP), nn.BatchNorm1d(DEEP), nn.ReLU()


def classifier(widths: Widths) -> nn.Module:
    """Linear(F, C) on the feature."""
    return nn.Linear(widths.feature, widths.classes)


def prototypes(widths: Widths) -> nn.Module:
    """Linear(D, C) without bias on the projection; its rows are `Step.prototypes`."""
    return nn.Linear(widths.projection, widths.classes, bias=False)


# In the order in which a network builds and asks them.
HEADS: dict[str, HeadKind] = {
    "z": HeadKind("projector", projector, unit=True, key=True),
    "logits": HeadKind("classifier", classifier),
    "prototypes": HeadKind("classifier", prototypes, reads="z", says="logits"),
    "graph": HeadKind("grapher", projector, unit=True),
}
