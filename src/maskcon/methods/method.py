"""A method's record: its loss, its hyper-parameters, and what it needs of the training loop."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Literal

from maskcon.errors import InputError
from maskcon.methods.schedules import scheduled

if TYPE_CHECKING:
    from torch import Tensor

Hyper = float | bool | str  # a number, a flag, a word; or the text of a schedule of a number


class Named:
    """A loss that is imported when it is called.

    Args:
        where: "package.module:function".
        hyper: values of the hyper-parameters that a call leaves out; of a schedule its end.
    """

    def __init__(self, where: str, hyper: Mapping[str, Hyper]):
        ends = {name: schedule(1.0) for name, schedule in scheduled(hyper).items()}
        self.where, self.hyper = where, {**hyper, **ends}

    @cached_property
    def function(self) -> Callable[..., Tensor]:
        """The function itself.

        Raises:
            InputError: there is none of that name.
        """
        try:
            return resolve_name(self.where)
        except (ImportError, AttributeError, ValueError) as error:
            raise InputError(
                f"a method's loss is {self.where!r}, and it cannot be imported ({error}): expected "
                "a function, or its name as 'package.module:function'"
            ) from error

    def __call__(self, *args: Any, **hyper: Any) -> Tensor:
        """The loss of a step."""
        return self.function(*args, **{**self.hyper, **hyper})


@dataclass(frozen=True)
class Method:
    """A loss, and what it needs of the training loop: all of it stands here.

    Attributes:
        loss: (step, *, hyper-parameters) -> scalar; a function, or its name as
            "package.module:function", which is imported when it is called.
        hyper: names and default values of the loss's keyword-only arguments: numbers, flags
            (True or False) or words, and "from:to:shape" for a number that changes over a run.
            By default those of the function's signature.
        key: where the key Outputs come from: "momentum" (a moving average of the query
            encoder, without gradient, with a bank of earlier keys), "shared" (the query
            encoder itself, with gradient) or "none".
        heads: names in `maskcon.model.heads.HEADS` of what the loss reads besides the feature.
        labels: whether the loss reads labels.
        lots: whether it reads `Step.lots`: what a person said of kinds.
        mixes: whether it reads `Step.mixed`.
        crops: whether the bank holds the `graph` of small crops in place of keys.
        projection_layers: of its projectors; from three on they have batch norm, as SimCLR's.
    """

    loss: Callable[..., Tensor] | str
    hyper: Mapping[str, Hyper] | None = None
    key: Literal["momentum", "shared", "none"] = "momentum"
    heads: tuple[str, ...] = ("z",)
    labels: bool = True
    lots: bool = False
    mixes: bool = False
    crops: bool = False
    projection_layers: int = 2

    def __post_init__(self) -> None:
        if isinstance(self.loss, str):
            object.__setattr__(self, "loss", Named(self.loss, self.hyper or {}))

    @property
    def function(self) -> Callable[..., Tensor]:
        """The loss, imported."""
        assert not isinstance(self.loss, str)
        return self.loss.function if isinstance(self.loss, Named) else self.loss

    @property
    def bank(self) -> bool:
        """Whether there is a bank."""
        return self.key == "momentum" or self.crops

    def heads_with(self, ce_weight: float) -> tuple[str, ...]:
        """The heads, with a classifier where its cross-entropy is added and there is none."""
        if ce_weight and not {"logits", "prototypes", "rectified_prototypes"} & set(self.heads):
            return (*self.heads, "logits")
        return self.heads

    @property
    def hyper_parameters(self) -> dict[str, Hyper]:
        """Names and default values.

        Raises:
            InputError: one has no default.
        """
        if self.hyper is not None:
            return dict(self.hyper)
        parameters = inspect.signature(self.function).parameters.values()
        found = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
        for name, default in found.items():
            if not isinstance(default, float | int | str):
                raise InputError(
                    f"{self.function.__name__} takes {name}, which has no default that is a "
                    "number, a flag or a word: give it one, or give Method(hyper={...})"
                )
        return found

    @property
    def summary(self) -> str:
        """The first sentence of the loss's docstring."""
        return (inspect.getdoc(self.function) or "").split("\n\n")[0].replace("\n", " ")
