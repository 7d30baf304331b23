"""Networks of timm, most of them made for one size of images: how each takes any other."""

import contextlib
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn

from maskcon.config import similar
from maskcon.errors import InputError
from maskcon.model.libraries import library
from maskcon.runtime.device import without_memory

# What a network may be told so that it takes images of a side, the first that works being taken.
# Where positions are interpolated anew for each batch, the weights keep the shapes that timm's
# files have, so that the same weights go on at any other size.
WAYS: tuple[Callable[[int], dict[str, Any]], ...] = (
    lambda size: {},
    lambda size: {"dynamic_img_size": True},
    # of a side that its patches do not divide, zeros are put to the right and below
    lambda size: {"dynamic_img_size": True, "dynamic_img_pad": True},
    lambda size: {"img_size": size},  # made for it; timm resamples the weights
)
STEPS = (8, 14, 16, 32)  # pixels: sides of patches, and of what the last stage sees as one


def make(model: str, size: int = 0, *, pretrained: bool = False) -> nn.Module:
    """A network of timm without its classifier, for images of a size.

    Args:
        model: timm's name of it.
        size: side in pixels; 0 is its own.
        pretrained: with timm's weights.

    Raises:
        InputError: timm has no such network, or it cannot take such images.
    """
    timm = library("timm")
    if not timm.is_model(model):
        raise InputError(f"timm has no model {model!r}{similar(model, timm.list_models())}")
    options = options_for(model, size)
    made_anew = "img_size" in options
    network: nn.Module = timm.create_model(
        model, pretrained=pretrained and not made_anew, num_classes=0, **options
    )
    if pretrained and made_anew:
        theirs = timm.create_model(model, pretrained=True, num_classes=0).state_dict()
        weights = resampled(network, theirs)
        if misfits := misfitting(network, weights):
            raise InputError(_own_size_alone(model, size, misfits[0]))
        network.load_state_dict(weights)
    return network


def misfitting(network: nn.Module, weights: Mapping[str, Tensor]) -> list[str]:
    """Names of a network's tensors that are not among the weights, or have another shape."""
    own = network.state_dict().items()
    return [n for n, v in own if n not in weights or weights[n].shape != v.shape]


def _own_size_alone(model: str, size: int, tensor: str) -> str:
    own = own_size(model)
    return (
        f"timm/{model} is made for images of {own} px, and its weights do not go on at {size} px: "
        f"{tensor} has another shape; set --image-size {own}, or another --backbone"
    )


def is_made_for_a_size(name: str) -> bool:
    """Whether a backbone of this name ("timm/...") is one that must be told of other sizes."""
    if not name.startswith("timm/"):
        return False
    timm = library("timm")
    model = name.removeprefix("timm/")
    told = timm.get_pretrained_cfg(model) if timm.is_model(model) else None
    return told is not None and bool(told.fixed_input_size)


def options_for(model: str, size: int) -> dict[str, Any]:
    """What `timm.create_model` must be told so that a network takes images of a side.

    Args:
        model: timm's name of it.
        size: side in pixels; 0 is its own.

    Raises:
        InputError: nothing helps; the message names sides that it takes.
    """
    if not size or not is_made_for_a_size(f"timm/{model}") or size == own_size(model):
        return {}
    way = _way(model, size)
    if isinstance(way, dict):
        return dict(way)
    near = sorted({side for step in STEPS for side in _multiples(size, step)})
    below = [side for side in near if side < size and isinstance(_way(model, side), dict)]
    above = [side for side in near if side > size and isinstance(_way(model, side), dict)]
    own = own_size(model)
    sides = dict.fromkeys([*below[-1:], *above[:1], own])
    raise InputError(
        f"timm/{model} is made for images of {own} px and cannot take {size} px ({way[:100]}): set "
        f"--image-size to {' or '.join(map(str, sides))}, or another --backbone"
    )


def spelled(model: str, size: int, given: str = "") -> str:
    """The Python expression that makes a network of timm for images of a size.

    Args:
        model: timm's name of it.
        size: as `options_for` takes it.
        given: more arguments, such as 'checkpoint_path="x"'.
    """
    options = [f"{name}={value}" for name, value in options_for(model, size).items()]
    arguments = [f'"{model}"', *([given] if given else []), "num_classes=0", *options]
    return f"timm.create_model({', '.join(arguments)})"


def own_size(model: str) -> int:
    """The side in pixels of the images that a network of timm was trained on."""
    timm = library("timm")
    told = timm.get_pretrained_cfg(model)
    return 0 if told is None else int(told.input_size[-1])


def _multiples(size: int, step: int) -> tuple[int, int]:
    """The multiples of a step below and above a size, above 0."""
    below = (size - 1) // step * step
    return max(below, step), (size // step + 1) * step


@lru_cache(maxsize=256)
def _way(model: str, size: int) -> dict[str, Any] | str:
    """The first of `WAYS` by which a network takes images of a size; the reason if none does.

    Each is tried without memory: shapes tell.
    """
    timm = library("timm")
    reason = ""
    for way in WAYS:
        options = way(size)
        try:
            # whose random weights nobody sees
            with torch.random.fork_rng(devices=[]), without_memory(), torch.no_grad():
                network = timm.create_model(model, num_classes=0, **options).eval()
                network(torch.zeros(1, 3, size, size))
        except TypeError as error:
            if "unexpected keyword" not in str(error):
                reason = str(error)
        except Exception as error:  # whatever networks of all kinds raise
            reason = str(error)
        else:
            return options
    return (reason.splitlines() or ["it does not say why"])[0]


def resampled(network: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a network of timm's with positions for the size of the images that it takes.

    Args:
        network: of timm; others leave the weights as they are.
        weights: of a network of the same make, for images of any size, by the network's names.

    Returns:
        The weights. Those that are no grid of positions stay of another shape: of layers that mix
        pixels, say, which cannot be had for another size.
    """
    own = network.state_dict()

    def fit(found: Mapping[str, Tensor]) -> bool:
        return all(name not in own or own[name].shape == v.shape for name, v in found.items())

    if fit(weights) or not hasattr(network, "pretrained_cfg"):
        return dict(weights)
    family: Any = sys.modules.get(type(network).__module__)
    with contextlib.suppress(Exception):  # it may know files of its own names alone
        changed: dict[str, Tensor] = family.checkpoint_filter_fn(dict(weights), network)
        weights = changed if changed.keys() == weights.keys() else weights
    return {name: _positions(v, own[name]) if name in own else v for name, v in weights.items()}


def _positions(value: Tensor, like: Tensor) -> Tensor:
    """Positions [1, C, H, W], or of square grids [1, T, C], as those of another grid."""
    from timm.layers import resample_abs_pos_embed

    if value.shape == like.shape or len(value) != 1 or value.ndim != like.ndim:
        return value
    if value.ndim == 4 and value.shape[1] == like.shape[1]:
        size = (like.shape[2], like.shape[3])
        return nn.functional.interpolate(value, size, mode="bicubic", antialias=True)
    if value.ndim == 3 and value.shape[2] == like.shape[2]:
        before, side = value.shape[1] - isqrt(value.shape[1]) ** 2, isqrt(like.shape[1])
        if like.shape[1] - side**2 == before:  # tokens that are no pixels: of the class
            found: Tensor = resample_abs_pos_embed(value, [side, side], num_prefix_tokens=before)
            return found
    return value
