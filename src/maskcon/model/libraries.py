"""Networks' libraries, torchvision and timm, imported when asked for, without torch's compiler."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from torch import nn

from maskcon.model.resnet import ResNet

_COMPILER, _ASKED = "torch._dynamo.utils", "is_compile_supported"


def library(name: str) -> Any:
    """The module of a name, such as "timm"; it takes a second or two, so only where needed."""
    if name in sys.modules:
        return sys.modules[name]
    with _compiler_later(), _decorated_later():
        return import_module(name)


def is_resnet(network: nn.Module) -> bool:
    """Whether a network is a ResNet whose stem can be chosen: one of ours, or of torchvision."""
    theirs = sys.modules.get("torchvision")  # before it is imported there is no network of it
    return isinstance(network, ResNet) or (
        theirs is not None and isinstance(network, theirs.models.ResNet)
    )


@contextmanager
def _compiler_later() -> Iterator[None]:
    """Let torchvision have a function of torch's compiler without importing all of it.

    roi_align of torchvision imports `is_compile_supported`, which it calls where a GPU has to
    compute the same bits each time; and for that name alone torch imports its compiler, which takes
    longer than all of torchvision. While it is imported, a module stands there whose function
    imports the compiler when it is called. Asked for any other name, it imports it at once.
    """
    if _COMPILER in sys.modules:
        yield
        return
    stand_in = ModuleType(_COMPILER)

    def real() -> ModuleType:
        if sys.modules.get(_COMPILER) is stand_in:
            del sys.modules[_COMPILER]
        return import_module(_COMPILER)

    def is_compile_supported(device_type: Any) -> Any:
        return getattr(real(), _ASKED)(device_type)

    def others(name: str) -> Any:
        if name.startswith("__"):  # what importing itself looks for
            raise AttributeError(name)
        return getattr(real(), name)

    vars(stand_in).update({_ASKED: is_compile_supported, "__getattr__": others})
    sys.modules[_COMPILER] = stand_in
    try:
        yield
    finally:
        if sys.modules.get(_COMPILER) is stand_in:
            del sys.modules[_COMPILER]


@contextmanager
def _decorated_later() -> Iterator[None]:
    """Let timm say which functions are not to be compiled without importing torch's compiler.

    `torch.compiler.disable`, with which its naflexvit decorates some, imports the compiler when it
    decorates. torch has another for its own functions, which does so when they are called; while
    timm is imported it takes that one's place. Where a torch has none, nothing is changed.
    """
    later: Callable[..., Any] | None = getattr(
        getattr(torch, "_compile", None), "_disable_dynamo", None
    )
    compiler: Any = torch.compiler
    before = compiler.disable

    def disable(fn: Any = None, recursive: bool = True, **more: Any) -> Any:
        if later is None or fn is None or more:
            return before(fn, recursive, **more)
        return later(fn, recursive)

    compiler.disable = disable
    try:
        yield
    finally:
        compiler.disable = before
