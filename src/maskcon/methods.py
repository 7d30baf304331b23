"""The methods: pure functions of one training step.

A method sees a `Step` and returns a scalar. It knows no network, no file and no fine label.
To add one: write its function, add a line to `METHODS`, add a row to tests/test_methods.py.
Its hyper-parameters are its keyword-only arguments, and nothing else lists them: the command
line, the recipes and the help read the signature.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from maskcon import losses, targets
from maskcon.errors import InputError

Rule = Callable[[Tensor, Tensor], Tensor]  # (similarity [N, M], same [N, M]) -> weights


@dataclass(frozen=True)
class Output:
    """What an encoder says of N images. Heads that were not asked for are None."""

    feature: Tensor | None = None  # [N, F] of the backbone
    z: Tensor | None = None  # [N, D] projection, unit length, float32
    logits: Tensor | None = None  # [N, C] of the linear classifier on the feature


@dataclass(frozen=True)
class Step:
    """What a method may look at."""

    query: Output
    key: Output | None = None
    label: Tensor | None = None  # [N]
    bank_z: Tensor | None = None  # [M, D] unit length
    bank_label: Tensor | None = None  # [M]


@dataclass(frozen=True)
class Method:
    """A loss and what it needs of the training loop.

    Attributes:
        loss: (step, *, hyper-parameters) -> scalar.
        key: where the keys come from: "momentum" (a moving average of the query encoder, with
            a bank of earlier keys) or "none".
        heads: the fields of the query's `Output` that the loss reads besides the feature.
        labels: whether the loss reads labels.
    """

    loss: Callable[..., Tensor]
    key: Literal["momentum", "none"]
    heads: tuple[Literal["z", "logits"], ...]
    labels: bool = True

    @property
    def hyper_parameters(self) -> dict[str, float]:
        """Names and default values, read from the signature of the loss."""
        parameters = inspect.signature(self.loss).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}

    @property
    def summary(self) -> str:
        """The first sentence of the loss's docstring."""
        return (inspect.getdoc(self.loss) or "").split("\n\n")[0].replace("\n", " ")


def selfcon(step: Step, *, t: float = 0.1) -> Tensor:
    """Each image is its own class; labels are ignored.

    InfoNCE of the query with its own key against the bank: `contrast` with zero weights.
    Reference: MoCo (He et al., CVPR 2020), equation 1.
    """
    return _contrast(step, None, w=1.0, t=t)


def supcon(step: Step, *, t: float = 0.1) -> Tensor:
    """The own key and every bank row of the class are positives alike.

    `grafit` with w = 1. Reference: SupCon (Khosla et al., NeurIPS 2020), equation 2, with a
    momentum encoder and a bank.
    """
    return _contrast(step, targets.same_class, w=1.0, t=t)


def grafit(step: Step, *, w: float = 0.8, t: float = 0.1) -> Tensor:
    """SupCon and SelfCon, mixed: w * supcon + (1 - w) * selfcon.

    The comparison of that name in MaskCon (CVPR 2023), equation 4; the original Grafit
    (Touvron et al., ICCV 2021) differs in its losses' details.
    """
    return _contrast(step, targets.same_class, w=w, t=t)


def maskcon(step: Step, *, w: float = 1.0, tau: float = 0.05, t: float = 0.1) -> Tensor:
    """Bank rows of the class are positives by their nearness to the key; other classes are not.

    `targets.nearest_same_class` at temperature tau, with share w. w = 0 is `selfcon`;
    tau -> infinity is `grafit` with the same w; tau -> 0 with w = 1 puts one half on the own
    key and one half on the nearest row of the class. Reference: MaskCon (Feng and Patras,
    CVPR 2023), equations 5-8.
    """
    _check(tau > 0, "tau", tau, "a temperature above 0")
    return _contrast(step, partial(targets.nearest_same_class, tau=tau), w=w, t=t)


def coins(step: Step, *, w: float = 0.5, t: float = 0.1) -> Tensor:
    """Cross-entropy on the label and SelfCon, mixed: w * supce + (1 - w) * selfcon.

    The comparison of that name in MaskCon (CVPR 2023): a plain linear layer with bias on the
    feature. The original (Xu et al., ICCV 2021) has unit-length class centres.
    """
    _check(0 <= w <= 1, "w", w, "a share in [0, 1]")
    return w * supce(step) + (1 - w) * selfcon(step, t=t)


def supce(step: Step) -> Tensor:
    """Cross-entropy of a linear classifier on the feature; no keys, no bank. `coins`, w = 1."""
    if step.query.logits is None or step.label is None:
        raise InputError("the loss needs step.query.logits and step.label; one of them is None")
    return losses.cross_entropy(step.query.logits, step.label)


METHODS: dict[str, Method] = {
    "maskcon": Method(maskcon, key="momentum", heads=("z",)),
    "grafit": Method(grafit, key="momentum", heads=("z",)),
    "supcon": Method(supcon, key="momentum", heads=("z",)),
    "selfcon": Method(selfcon, key="momentum", heads=("z",), labels=False),
    "coins": Method(coins, key="momentum", heads=("z", "logits")),
    "supce": Method(supce, key="none", heads=("logits",)),
}


def check_hyper_parameters(method: Method, hyper: Mapping[str, float]) -> None:
    """Raise the loss's own `InputError` for values out of range, before any data are read."""
    z = torch.eye(2)
    label = torch.zeros(2, dtype=torch.long)
    output = Output(feature=z, z=z, logits=z)
    method.loss(Step(output, output, label, bank_z=z, bank_label=label), **hyper)


def _contrast(step: Step, rule: Rule | None, *, w: float, t: float) -> Tensor:
    """`losses.contrast` of a step, the weights given by a rule (none: all zero)."""
    _check(0 <= w <= 1, "w", w, "a share in [0, 1]")
    _check(t > 0, "t", t, "a temperature above 0")
    query, bank = step.query.z, step.bank_z
    key = step.key.z if step.key is not None else None
    if query is None or key is None or bank is None:
        raise InputError("the loss needs step.query.z, step.key.z and step.bank_z; one is None")
    if not query.shape[1] == key.shape[1] == bank.shape[1]:
        raise InputError(
            f"queries are {query.shape[1]} wide, keys {key.shape[1]} and bank rows "
            f"{bank.shape[1]}: all come from one projector, so all must be of one width"
        )
    weights = None
    if rule is not None:
        if step.label is None or step.bank_label is None:
            raise InputError("the loss needs step.label and step.bank_label; one is None")
        with torch.no_grad(), torch.autocast(key.device.type, enabled=False):
            similarity = key.float() @ bank.float().T  # [N, M]
            weights = rule(similarity, step.label[:, None] == step.bank_label)
    return losses.contrast(query, key, bank, weights, w=w, t=t)


def _check(ok: bool, name: str, value: float, expected: str) -> None:
    if not ok:
        raise InputError(f"{name} is {value}: expected {expected}")
