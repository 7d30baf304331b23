"""What an encoder may have on its backbone: one record for each kind of head.

A head that a new method needs is written down here and nowhere else: a record in `HEADS`. A
method names it in its `heads`, and finds what it says in `Output`: as the field of that name, or
in `Output.more`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

NORMED = 3  # layers from which on a projector has batch norm, and
DEEP = 2048  # the width of its hidden layers, where nothing else is asked for


@dataclass(frozen=True)
class Widths:
    """What a head is built from.

    Attributes:
        feature: F, of the feature that heads read.
        projection: D.
        classes: C.
        layers: of projectors.
        hidden: of a projector's hidden layers; 0 is F, or `DEEP` with batch norm.
    """

    feature: int
    projection: int
    classes: int
    layers: int = 2
    hidden: int = 0


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


def says(head: str) -> str:
    """The field of `Output` in which a head's rows are found."""
    return HEADS[head].says or head


def projector(widths: Widths) -> nn.Module:
    """Linear layers with ReLU between them; from three layers on with batch norm before each ReLU.

    Two are MaskCon's, Linear(F, H)-ReLU-Linear(H, D) with H = F; three are WCL's, H = 2,048.
    """
    normed = widths.layers >= NORMED
    hidden = widths.hidden or (DEEP if normed else widths.feature)
    # made first, as ever: a seed gives the weights that it gave
    last = nn.Linear(hidden if widths.layers > 1 else widths.feature, widths.projection)
    parts: list[nn.Module] = []
    width = widths.feature
    for _ in range(widths.layers - 1):
        parts += [nn.Linear(width, hidden), *[nn.BatchNorm1d(hidden)] * normed, nn.ReLU()]
        width = hidden
    return nn.Sequential(*parts, last)


def classifier(widths: Widths) -> nn.Module:
    """Linear(F, C) on the feature."""
    return nn.Linear(widths.feature, widths.classes)


def prototypes(widths: Widths) -> nn.Module:
    """Linear(D, C) without bias on the projection; its rows are `Step.prototypes`."""
    return nn.Linear(widths.projection, widths.classes, bias=False)


class RectifiedLinear(nn.Linear):
    """Linear(ReLU(x)), with bias."""

    def forward(self, x: Tensor) -> Tensor:
        """[N, D] -> [N, C]."""
        return super().forward(x.relu())


def rectified_prototypes(widths: Widths) -> nn.Module:
    """ANCOR's: Linear(D, C) with bias on ReLU of the projection; rows are `Step.prototypes`."""
    return RectifiedLinear(widths.projection, widths.classes)


# In the order in which a network builds and asks them.
HEADS: dict[str, HeadKind] = {
    "z": HeadKind("projector", projector, unit=True, key=True),
    "logits": HeadKind("classifier", classifier),
    "prototypes": HeadKind("classifier", prototypes, reads="z", says="logits"),
    "rectified_prototypes": HeadKind("classifier", rectified_prototypes, reads="z", says="logits"),
    "graph": HeadKind("grapher", projector, unit=True),
}
