"""Apple's device, played by tensors that say they are there and refuse what it has not.

Nothing here runs on such a machine, and no training step. What is shown is that the views which
compute in float64 ask none of the device, that no operation of theirs mixes it with the processor,
and that their numbers are those of a processor.
"""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

from maskcon.data.augment.autoaugment import OPERATIONS, cifar10_policy
from maskcon.data.augment.photo import perspective
from maskcon.errors import InputError
from maskcon.runtime import device
from maskcon.runtime.device import Precision, pick_device, sent, where_exact

DEVICE = "meta"  # stands for Apple's, of which PyTorch elsewhere has not even the name
MPS = torch.device(DEVICE)
MIXES = ("copy_", "_to_copy", "index", "index_put_", "_index_put_impl_")  # what may take both


class There(Tensor):
    """A tensor that says it is on the device; its numbers are on the processor."""

    here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> "There":
        if here.dtype == torch.float64:
            raise TypeError("the MPS framework doesn't support float64")
        made = Tensor._make_wrapper_subclass(
            cls, here.shape, strides=here.stride(), dtype=here.dtype, device=MPS
        )
        made.here = here
        return made

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):  # type: ignore[override]
        return computed(function, args, kwargs or {})


class Machine(TorchFunctionMode):
    """Where such a device is: what is made on it or sent to it is made here, and says so."""

    def __torch_function__(self, function, types, args=(), kwargs=None):  # type: ignore[override]
        given, name = (args, kwargs or {}), getattr(function, "__name__", "")
        flat, _ = tree_flatten(given)
        named = any(is_there(x) for x in flat)
        like = name.startswith("new_") or name.endswith("_like")
        if name == "to" and isinstance(args[0], There):  # to another type or layout
            like = not any(isinstance(x, str | torch.device) for x in flat)
        if name in ("device", "_parse_to") or not (named or like):
            return function(*args, **given[1])
        there = named or isinstance(args[0], There)
        args, options = tree_map(lambda x: torch.device("cpu") if is_there(x) else x, given)
        if there and args and isinstance(args[0], There):
            assert not (args[0].requires_grad and torch.is_grad_enabled())
            args = (args[0].here, *args[1:])
        made = function(*args, **options)
        return There(made) if there else made


def is_there(x: Any) -> bool:
    """Whether it is the device, or its name."""
    return (isinstance(x, str) and x == DEVICE) or (
        isinstance(x, torch.device) and x.type == DEVICE
    )


def computed(function: Any, args: Any, kwargs: Any) -> Any:
    """An operation as the machine has it."""
    flat, _ = tree_flatten((args, kwargs))
    there = [x for x in flat if isinstance(x, There)]
    name, asked = function._schema.name.removeprefix("aten::"), kwargs.get("device")
    asked = None if asked is None else torch.device(asked).type
    if there and name not in MIXES:
        near = [x for x in flat if isinstance(x, Tensor) and not isinstance(x, There) and x.ndim]
        assert not near, f"{name} of a tensor on the device and one on the processor"
    args, kwargs = tree_map(lambda x: x.here if isinstance(x, There) else x, (args, kwargs))
    if asked == DEVICE:  # as tensors like others are
        kwargs["device"] = torch.device("cpu")
    out = function(*args, **kwargs)
    if asked == "cpu" or not (there or asked == DEVICE):
        return out
    same = {id(x.here): x for x in there}  # in place: what was given comes back

    def told(x: Any) -> Any:
        if not isinstance(x, Tensor):
            return x
        return same[id(x)] if id(x) in same else There(x)

    return tree_map(told, out)


@pytest.fixture(autouse=True)
def as_apple(monkeypatch):
    """Let the device count as one without float64."""
    monkeypatch.setattr(device, "WITHOUT_FLOAT64", ["mps", DEVICE])


def test_the_player_refuses_what_the_device_has_not():
    with Machine():
        x = torch.ones(3, device=DEVICE)
        assert x.device == MPS
        assert (x + 1).sum().item() == 6
        with pytest.raises(TypeError, match="float64"):
            x.double()
        with pytest.raises(TypeError, match="float64"):
            torch.zeros(3, device=DEVICE, dtype=torch.float64)
        with pytest.raises(AssertionError, match="add"):
            x + torch.ones(3)
        assert type(where_exact(x)) is Tensor
        assert sent(torch.ones(2).double(), MPS).dtype == torch.float32
        assert Precision.pick("auto", torch.device("mps")).name == "fp32"


def test_without_the_device_it_is_refused():
    if not torch.backends.mps.is_available():
        with pytest.raises(InputError, match="device 'mps' cannot be used here"):
            pick_device("mps")
    assert pick_device("auto").type in ("cpu", "cuda")


@pytest.mark.parametrize("change", [cifar10_policy, perspective])
def test_views_are_those_of_a_processor(change, photographs):
    images = photographs[:48]
    drawn = change.draw(48, torch.Generator().manual_seed(3))
    with Machine():
        found = change.apply(images.to(DEVICE), drawn).cpu()
    # strengths in float32 and not in float64: a level here and there
    assert (found.int() - change.apply(images, drawn).int()).abs().float().mean() < 0.02


@pytest.mark.parametrize("name", ["rotate", "translate_x", "contrast", "autocontrast"])
def test_operations_are_exact_there_too(name, photographs):
    images, (operation, _, strengths) = photographs[:10], OPERATIONS[name]
    with Machine():
        found = operation(images.to(DEVICE), strengths.float().to(DEVICE)).cpu()
    assert torch.equal(found, operation(images, strengths.float()))
