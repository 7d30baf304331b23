"""Views of people's own: torchvision's transforms v2, or any function of a picture."""

import hashlib
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Generator, Tensor

from maskcon.data.augment.change import Change
from maskcon.data.augment.view import VIEWS, View
from maskcon.errors import InputError

SHOWN = 120  # letters of a transform's name

_GIVEN: dict[str, View] = {}  # those that were given as objects, under their names


def view_of(name: str) -> View:
    """The view of a name.

    Args:
        name: in `VIEWS`; that of an object that was given; or module:attribute, a `View` or a
            transform of pictures, as `with_named_views` describes them.

    Raises:
        InputError: there is none.
    """
    if name in VIEWS:
        return VIEWS[name]
    if name in _GIVEN:
        return _GIVEN[name]
    if name.startswith("("):
        raise InputError(f"the view {name} was given as an object: give it again")
    if is_imported(name):
        return _imported(name)
    raise InputError(
        f"there is no view {name!r}: choose one of {', '.join(VIEWS)}, or module:attribute of your "
        "own"
    )


def is_imported(name: str) -> bool:
    """Whether a name stands for what a module has, module:attribute."""
    return name not in VIEWS and not name.startswith("(") and ":" in name


def with_named_views(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a run with names for views that were given as objects.

    A view is a `View`, or a function from uint8 [3, S, S] to the same (or to floats in 0..1),
    such as a transform of torchvision.transforms.v2. The function is given the whole picture,
    resized to a square, and torch's random numbers are seeded for each picture. `view_of` finds
    them from then on, under names in parentheses.
    """
    named = dict(options)
    taken: dict[str, Any] = {}
    for option in ("query_view", "key_view"):
        given = options.get(option)
        if isinstance(given, View) or _transforms(given):
            name = f"({given.summary if isinstance(given, View) else _shown(given)})"
            if taken.setdefault(name, given) is not given:  # as two lambdas are called alike
                name = f"{name[:-1]}, of {option})"
            _GIVEN[name] = _as_view(given, name)
            named[option] = name
    return named


def _transforms(given: Any) -> bool:
    return callable(given) and not isinstance(given, type)


def _as_view(given: Any, name: str) -> View:
    if isinstance(given, View):
        return given
    transformed = _Transformed(name, given)
    return View(f"the transform {name}", None, (Change(_seeds, transformed),))


@cache
def _imported(name: str) -> View:
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # whatever the code of others raises
        raise InputError(
            f"the view {name!r} cannot be imported ({type(error).__name__}: {error}): expected "
            "module:attribute of an installed module, or of one in a folder of PYTHONPATH"
        ) from error
    if isinstance(found, View) or _transforms(found):
        return _as_view(found, name)
    raise InputError(
        f"the view {name!r} is {_shown(found)}: expected a View or a transform of pictures, such "
        "as v2.Compose([...]) of torchvision.transforms"
    )


def _shown(given: Any) -> str:
    """A line that tells a transform from others, the same in every process."""
    named = getattr(given, "__qualname__", None)
    text = " ".join((f"{given.__module__}.{named}" if named else repr(given)).split())
    if " at 0x" in text:  # an address tells nothing
        text = f"{type(given).__module__}.{type(given).__qualname__}"
    if len(text) > SHOWN:
        text = f"{text[:SHOWN]}... {hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}"
    return text


def _seeds(n: int, generator: Generator | None) -> Tensor:
    """A seed for each image, int64 [N]."""
    device = generator.device if generator is not None else torch.device("cpu")
    return torch.randint(2**62, (n,), generator=generator, device=device).cpu()


@dataclass(frozen=True)
class _Transformed:
    """A transform of one picture, on each of a batch in its turn.

    The global generator is seeded for each picture and left as it was, so that a view depends
    on nothing but what its picture drew.
    """

    name: str
    transform: Callable[[Tensor], Tensor]

    def __call__(self, images: Tensor, seeds: Tensor) -> Tensor:
        devices = [images.device] if images.device.type == "cuda" else []
        made = []
        with torch.random.fork_rng(devices):
            for image, seed in zip(images, seeds.tolist(), strict=True):
                torch.manual_seed(seed)
                made.append(self._levels(image))
        return torch.stack(made) if made else images

    def _levels(self, image: Tensor) -> Tensor:
        """The transformed picture, uint8 [3, S, S]."""
        try:
            out = self.transform(image.clone())  # which it may change in place
        except Exception as error:  # whatever the code of others raises
            raise InputError(
                f"the view {self.name} fails on a picture uint8 {list(image.shape)}: "
                f"{type(error).__name__}: {error}"
            ) from error
        if not isinstance(out, Tensor) or out.shape != image.shape:
            got = list(out.shape) if isinstance(out, Tensor) else type(out).__name__
            raise InputError(
                f"the view {self.name} makes {got} of a picture {list(image.shape)}: expected a "
                f"tensor of the same shape; let it end with v2.Resize({list(image.shape[1:])}), or "
                "set --image-size"
            )
        if out.dtype == torch.uint8:
            return out.as_subclass(Tensor).to(image.device)
        if not out.is_floating_point() or not (out >= 0).all() or not (out <= 1).all():
            raise InputError(
                f"the view {self.name} makes {out.dtype} from {out.min():g} to {out.max():g}: "
                "expected uint8, or floats in 0..1; leave v2.Normalize out: maskcon normalises"
            )
        return out.as_subclass(Tensor).mul(255).round().to(image.device, torch.uint8)
