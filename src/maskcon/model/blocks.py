"""The blocks of a backbone, of which the last may learn while the others stay as they are."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from maskcon.errors import InputError


def before_last(backbone: nn.Module, count: int) -> tuple[str, ...]:
    """Names of what lies in front of the last blocks: modules, and parameters of the whole.

    Blocks are the members of the lists that a network is made of (`nn.Sequential` and
    `nn.ModuleList`; kinds of these where there are no plain ones), in their order: residual blocks
    of a ResNet, transformer blocks, stages elsewhere. What follows the last list, such as a norm,
    learns with the last block. Of networks side by side these are the names of each.

    Raises:
        InputError: there are not more blocks than that.
    """
    return tuple(
        start + name
        for start, network in networks(backbone)
        for name in _before_last(network, count)
    )


def networks(backbone: nn.Module, start: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The networks in a backbone, each as its library made it; and how names of it begin."""
    if isinstance(backbone, Joined):
        for n, one in enumerate(backbone.backbones):
            yield from networks(one, f"{start}backbones.{n}.")
    elif isinstance(backbone, Layered | Mirrored):
        yield from networks(backbone.backbone, f"{start}backbone.")
    else:
        yield start, backbone


def _before_last(backbone: nn.Module, count: int) -> tuple[str, ...]:
    """Of one network."""
    parts = _parts(backbone)
    blocks = [place for place, (_, is_block) in enumerate(parts) if is_block]
    if count >= len(blocks):
        raise InputError(
            f"unfreeze is {count}, and the backbone has {len(blocks)} blocks: give fewer, or leave "
            "--unfreeze out to train all of it"
        )
    whole = [name for name, _ in backbone.named_parameters(recurse=False)]
    return (*whole, *(name for name, _ in parts[: blocks[-count]]))


def last(backbone: nn.Module, count: int) -> tuple[str, ...]:
    """Names of the last blocks, as `before_last` counts them.

    Raises:
        InputError: there are fewer.
    """
    blocks = [name for name, is_block in _parts(backbone) if is_block]
    if count > len(blocks):
        raise InputError(
            f"layers is {count}, and the backbone has {len(blocks)} blocks: set --layers to fewer"
        )
    return tuple(blocks[len(blocks) - count :])


class Layered(nn.Module):
    """A backbone whose vectors also say what its last blocks found: [blocks ... | vector].

    What a block puts out (of several tensors, the first with a row for each image) is averaged
    over the picture: pixels [N, C, H, W], or tokens [N, T, C]. Earlier layers know shapes and
    textures that the last one has given up.

    Args:
        backbone: images [N, 3, H, W] to vectors [N, F].
        names: of the blocks.
    """

    def __init__(self, backbone: nn.Module, names: Sequence[str]):
        super().__init__()
        self.backbone, self.names = backbone, tuple(names)

    def forward(self, images: Tensor) -> Tensor:
        """Vectors [N, sum of the widths]."""
        return torch.cat(self.parts(images), 1)

    def parts(self, images: Tensor) -> list[Tensor]:
        """What each block says, and the backbone's own vector: [N, C] each."""
        found: dict[str, Tensor] = {}

        def keep(name: str) -> Callable[..., None]:
            def hook(module: nn.Module, given: object, output: Any) -> None:
                several = output if isinstance(output, tuple | list) else [output]
                # not by len, which fixes the number of images of a graph that is exported
                of_images = next(one for one in several if one.shape[0] == images.shape[0])
                found[name] = _over_picture(of_images).float()

            return hook

        hooks = [
            self.backbone.get_submodule(name).register_forward_hook(keep(name))
            for name in self.names
        ]
        try:
            vector = self.backbone(images)
        finally:
            for hook in hooks:
                hook.remove()
        return [*(found[name] for name in self.names), vector.float()]


class Joined(nn.Module):
    """Backbones that look at the same pictures, side by side: [vectors of the first | next ...].

    Networks of other sizes make other mistakes, so that their vectors together say more.
    """

    def __init__(self, backbones: Sequence[nn.Module]):
        super().__init__()
        self.backbones = nn.ModuleList(backbones)

    def forward(self, images: Tensor) -> Tensor:
        """Vectors [N, sum of the widths] of images [N, 3, H, W]."""
        return torch.cat([backbone(images) for backbone in self.backbones], 1)


class Mirrored(nn.Module):
    """A backbone that sees each picture and its mirror image; a vector is the mean of the two."""

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> Tensor:
        """Vectors [N, F] of images [N, 3, H, W]."""
        return (self.backbone(images) + self.backbone(images.flip(3))) / 2


def _over_picture(output: Tensor) -> Tensor:
    """The mean over pixels [N, C, H, W] (or [N, H, W, C], H = W) or tokens [N, T, C]: [N, C]."""
    if output.ndim < 4:
        return output.mean(1)
    _, first, middle, last = output.shape
    return output.mean((1, 2) if first == middle != last else (2, 3))


def _parts(backbone: nn.Module) -> list[tuple[str, bool]]:
    """(name, whether it is a block) of the parts of a network that have parameters."""
    parts = list(_opened(backbone, "", plain=True))
    if not any(is_block for _, is_block in parts):  # kinds of lists may be all that there is (PiT)
        parts = list(_opened(backbone, "", plain=False))
    return parts


def _opened(
    module: nn.Module, prefix: str, *, plain: bool, is_list: bool = False
) -> Iterator[tuple[str, bool]]:
    lists = (nn.Sequential, nn.ModuleList)
    for name, child in module.named_children():
        if next(child.parameters(), None) is None:
            continue
        if type(child) in lists if plain else isinstance(child, lists):
            yield from _opened(child, f"{prefix}{name}.", plain=plain, is_list=True)
        else:
            yield prefix + name, is_list and not isinstance(child, nn.Linear)  # of a classifier
