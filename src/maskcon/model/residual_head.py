"""A small head on the vectors of a frozen encoder, which starts as what those vectors say."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from maskcon.errors import InputError
from maskcon.runtime.device import where_exact

VECTORS = "vectors"  # the backbone's name where vectors are all there is


@dataclass(frozen=True, kw_only=True)
class HeadShape:
    """What it takes to build a head again.

    Attributes:
        parts: widths of the parts of a frozen vector, which count alike; F is their sum.
        components: K, principal components of it that the head works on; 0 is no head: features are
            the frozen vectors.
        hidden: width of the hidden layer.
        scale: length of the learned direction beside the frozen one, which has length 1.
        belief: length of what a classifier says beside them; 0 is no classifier.
        classes: C, that it tells apart; 0 without one.
    """

    parts: tuple[int, ...]
    components: int
    hidden: int
    scale: float
    belief: float = 0.0
    classes: int = 0

    @classmethod
    def of(cls, described: Mapping[str, Any] | None) -> "HeadShape | None":
        """Read from encoder.json."""
        if described is None:
            return None
        names = {"kept": "components", "share": "scale"}  # as 0.1 called them
        values = {names.get(name, name): value for name, value in described.items()}
        return cls(**{**values, "parts": tuple(values["parts"])})

    @property
    def inputs(self) -> int:
        """F, of a frozen vector."""
        return sum(self.parts)


class Found(NamedTuple):
    """What a head makes of vectors.

    Attributes:
        feature: [N, `ResidualHead.width`].
        learned: l, before it is scaled [N, K].
        logits: of its classifier [N, C]; None without one.
    """

    feature: Tensor
    learned: Tensor
    logits: Tensor | None = None


class ResidualHead(nn.Module):
    """Vectors [N, F] -> features [N, 2 K + C], of parts that have a length of their own each.

        p = PCA(standardise(x))          [N, K]; fixed, from the train vectors; each part of x
                                         has the same share of the variance
        l = p + MLP(p)                   the MLP's last layer starts at zero
        b = sqrt(softmax(linear(l)))     [N, C]; of unit length; where there is a classifier
        feature = [p / |p|, scale * l / |l|, belief * b]

    At the start l is p, so the cosines of features are those of p: learning starts from what
    the frozen encoder knows. The frozen part stays, since labels that are coarser than what is
    wanted cannot say which of its differences matter; the learned part brings images of one
    coarse class together. So does b: the product of two images' b is Bhattacharyya's coefficient of
    what the classifier thinks that they show, 1 where it thinks the same and 0 where they share
    no class.
    """

    mean: Tensor
    std: Tensor
    components: Tensor
    scale: Tensor

    def __init__(self, shape: HeadShape):
        super().__init__()
        self.shape = shape
        self.register_load_state_dict_pre_hook(_as_now)
        if not shape.components:
            return
        self.register_buffer("mean", torch.zeros(shape.inputs))
        self.register_buffer("std", torch.ones(shape.inputs))
        self.register_buffer("components", torch.eye(shape.inputs)[: shape.components])  # [K, F]
        self.register_buffer("scale", torch.ones(()))  # of p, so that its numbers are about 1
        self.residual = nn.Sequential(
            nn.Linear(shape.components, shape.hidden),
            nn.BatchNorm1d(shape.hidden),
            nn.ReLU(),
            nn.Linear(shape.hidden, shape.components),
        )
        self.skip = nn.Linear(shape.components, shape.components, bias=False)
        last = self.residual[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        nn.init.eye_(self.skip.weight)
        if shape.belief:
            self.classifier = nn.Linear(shape.components, shape.classes)

    @property
    def width(self) -> int:
        """Of the feature."""
        shape = self.shape
        return 2 * shape.components + shape.classes if shape.components else shape.inputs

    @torch.no_grad()
    def fit(self, vectors: Tensor, mean: Tensor, std: Tensor) -> None:
        """Take standardisation and principal components from train vectors, float [N, F].

        Args:
            vectors: to compute with, in any precision.
            mean: of each dimension [F].
            std: likewise.
        """
        self.mean.copy_(mean)
        # a dimension that never changes says nothing, and must not become large elsewhere
        fixed = std <= 1e-6 * std.max()
        widths = torch.tensor(self.shape.parts, dtype=torch.float32)
        even = widths.sqrt().repeat_interleave(widths.long()).to(std.device)
        self.std.copy_(torch.where(fixed, torch.inf, std * even))
        moments = where_exact(mean.new_zeros(len(mean), len(mean))).double()
        for part in vectors.split(8192):
            standard = (part.float() - self.mean) / self.std
            moments += where_exact(standard.T @ standard).double()
        variance, directions = torch.linalg.eigh(moments / len(vectors))
        kept = self.shape.components
        largest = directions[:, -kept:].flip(1)
        # eigenvectors are unique but for their sign
        sign = largest.gather(0, largest.abs().argmax(0, keepdim=True)).sign()
        self.components.copy_((largest * sign).T.float())
        self.scale.copy_(variance[-kept:].mean().clamp(min=1e-12).rsqrt().float())

    def directions(self) -> Tensor:
        """What to add to a vector to move each number of p by 1: [K, F]."""
        along = self.components * self.std / self.scale
        return torch.where(self.std.isinf(), 0.0, along)

    def forward(self, vectors: Tensor) -> Found:
        """Of vectors [N, F].

        Raises:
            InputError: the vectors have another width than those that the head was trained on.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self.shape.inputs:
            raise InputError(
                f"vectors are {list(vectors.shape)}: expected [N, {self.shape.inputs}], as those "
                "that the head was trained on"
            )
        if not self.shape.components:
            return Found(vectors, vectors)
        with torch.autocast(vectors.device.type, enabled=False):  # the frozen part stays exact
            standard = (vectors.float() - self.mean) / self.std
            frozen = standard @ self.components.T * self.scale
        learned = self.skip(frozen) + self.residual(frozen)
        direction = normalize(learned.float(), dim=1)
        parts = [normalize(frozen, dim=1), self.shape.scale * direction]
        logits = None
        if self.shape.belief:
            logits = self.classifier(learned)
            # not by sqrt, whose gradient at 0 is none
            parts.append(self.shape.belief * (logits.float().log_softmax(1) / 2).exp())
        return Found(torch.cat(parts, 1), learned, logits)


def _as_now(module: nn.Module, state: dict[str, Any], prefix: str, *rest: object) -> None:
    """Names of buffers as they are now, of a state that 0.1 wrote."""
    if f"{prefix}deviation" in state:
        state[f"{prefix}std"] = state.pop(f"{prefix}deviation")
