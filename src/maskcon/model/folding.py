"""Batch norms folded into the convolutions before them: fewer passes over the activations."""

import copy
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

# Of the largest component of a vector: rounding in another order moves one by about 1e-6 of it;
# folding what must not be folded by far more.
MAX_DIFFERENCE = 1e-4


@torch.no_grad()
def folded(network: nn.Module, example: Tensor) -> nn.Module:
    """A copy of a network that computes the same with fewer operations, for inference alone.

    Which norm follows which convolution is seen as the network runs, so it is no matter how it is
    written. The network itself is returned if there is nothing to fold, and if the copy's vectors
    differ by more than rounding: if something else reads a convolution as well, or one changes
    its own weights.

    Args:
        network: in evaluation mode; it stays as it is.
        example: images that it is tried on, float32 [n, 3, S, S].
    """
    if not any(_rest(module) is not None for module in network.modules()):
        return network
    new = copy.deepcopy(network)
    expected, pairs = _followed(new, example)
    for conv, norm in pairs:
        old = cast(nn.BatchNorm2d, new.get_submodule(norm))
        new.set_submodule(conv, fuse_conv_bn_eval(cast(nn.Conv2d, new.get_submodule(conv)), old))
        new.set_submodule(norm, cast(nn.Module, _rest(old)))
    if not pairs or not _alike(new(example), expected):
        return network
    return new


def _rest(module: nn.Module) -> nn.Module | None:
    """What is left of a norm when its scale and shift are a convolution's; None of what is none."""
    if not isinstance(module, nn.BatchNorm2d) or module.training or module.running_mean is None:
        return None
    parts = dict(module.named_children())
    if type(module) is nn.BatchNorm2d:
        return nn.Identity()
    # timm's, with an activation behind it
    return nn.Sequential(*parts.values()) if list(parts) == ["drop", "act"] else None


def _followed(network: nn.Module, example: Tensor) -> tuple[Tensor, list[tuple[str, str]]]:
    """What a network makes of images; and (convolution, norm), by name, where one always runs on
    the output of the other, and on nothing else.
    """
    made: list[tuple[str, Tensor]] = []
    runs: dict[str, int] = {}
    pairs: list[tuple[str, str]] = []

    def watch(name: str, module: nn.Module) -> Any:
        def hook(module: nn.Module, given: Sequence[Any], output: Any) -> None:
            runs[name] = runs.get(name, 0) + 1
            if isinstance(module, nn.Conv2d):
                made.append((name, output))  # kept alive, so that no other tensor is mistaken
            else:
                pairs.extend((conv, name) for conv, tensor in made if tensor is given[0])

        return module.register_forward_hook(hook)

    with ExitStack() as stack:
        for name, module in network.named_modules(remove_duplicate=False):
            if isinstance(module, nn.Conv2d) or _rest(module) is not None:
                stack.callback(watch(name, module).remove)
        expected = network(example)
    counted = Counter(pairs)
    return expected, [pair for pair in counted if all(runs[n] == counted[pair] for n in pair)]


def _alike(found: Tensor, expected: Tensor) -> bool:
    """Whether vectors [n, F] are equal to rounding; written so that NaN is not."""
    bound = MAX_DIFFERENCE * expected.abs().max()
    return bool((found - expected).abs().max() <= bound)
