"""Backbones: networks from images to features, by name, and their weights."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, cast

import safetensors.torch
import torch
from torch import Tensor, nn

from maskcon.config import similar
from maskcon.errors import InputError, brief
from maskcon.model import timm_network
from maskcon.model.blocks import Joined, Layered, Mirrored, last, networks
from maskcon.model.fetching import weights_of
from maskcon.model.here import IMAGENET, packaged
from maskcon.model.libraries import is_resnet, library
from maskcon.model.own import OWN
from maskcon.model.recommended import JOIN, RECOMMENDED, true_name
from maskcon.model.resnet import RESNETS, ResNet
from maskcon.runtime.files import check_unpacked

PROBE = 224  # pixels of an image that networks of all kinds take


def build_backbone(
    name: str,
    *,
    init: str = "scratch",
    stem: Literal["small", "large"] = "small",
    size: int = 0,
) -> tuple[nn.Module, int]:
    """A network that maps images to features, and the features' width F.

    Args:
        name: "resnet18", "resnet34" or "resnet50"; "resnet10w16", "resnet10w32" or
            "vgg7w48" for a few cores; "resnet12" of few-shot papers; "torchvision/NAME" or
            "timm/NAME" for any classifier of those libraries, which are imported for these alone;
            or a short name of `RECOMMENDED`.
        init: "scratch", "imagenet" (the pretrained weights: those of an installed
            package, else the library's own, fetched inside `fetching` alone) or the path of a
            weights file (.safetensors, or a torch file of tensors).
        stem: of the ResNets: "small" replaces the first convolution by a 3x3 one of stride 1
            and drops the max-pool (its weights are random whatever `init` says); "large" is
            the original.
        size: side in pixels of the images that a network of timm's is to take; 0 is its own.

    Raises:
        InputError: no such network, it cannot take such images, or the weights do not fit it.
    """
    for theirs in ("timm", "torchvision"):
        if name.startswith(f"{theirs}:"):  # another way in which people write it
            name = name.replace(":", "/", 1)
    name = true_name(name)
    init = _init_of(name, init)
    imagenet = init == "imagenet"
    if name in OWN:
        if imagenet:
            raise InputError(
                f"{name} has no ImageNet weights: use init 'scratch' or one of {', '.join(RESNETS)}"
            )
        own = OWN[name]()
        backbone: nn.Module = own
        width = own.num_features
    elif name.startswith("timm/"):
        with weights_of(name, imagenet):
            backbone = timm_network.make(name.removeprefix("timm/"), size, pretrained=imagenet)
        width = cast(int, backbone.num_features)
    elif name in RESNETS:
        resnet = ResNet(*RESNETS[name])
        if imagenet:
            with weights_of(name, imagenet):
                trained = library("torchvision").models.get_model(name, weights=IMAGENET)
            trained.fc = nn.Identity()
            resnet.load_state_dict(trained.state_dict())
        backbone, width = resnet, resnet.num_features
    elif name.startswith("torchvision/"):
        model, torchvision = name.removeprefix("torchvision/"), library("torchvision")
        known = torchvision.models.list_models(torchvision.models)
        if model not in known:
            raise InputError(f"torchvision has no classifier {model!r}{similar(model, known)}")
        with weights_of(name, imagenet):
            backbone = torchvision.models.get_model(model, weights=IMAGENET if imagenet else None)
        width = _drop_classifier(backbone, model)
    else:
        choices = [*dict.fromkeys([*RESNETS, *OWN, *RECOMMENDED])]
        raise InputError(
            f"there is no backbone {brief(name)}{similar(name, choices)}: choose one of "
            f"{', '.join(choices)}, torchvision/NAME or timm/NAME"
        )
    if stem == "small" and is_resnet(backbone):
        first = backbone.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(first.weight, mode="fan_out", nonlinearity="relu")
        backbone.maxpool = nn.Identity()
    if init not in ("scratch", "imagenet"):
        load_backbone_weights(backbone, Path(init))
    return backbone, width


def _init_of(name: str, init: str) -> str:
    """The same; of "imagenet" the file of an installed package that has the network's weights."""
    weights = packaged(name) if init == "imagenet" else None
    return str(weights.path) if weights is not None else init


def _drop_classifier(network: nn.Module, model: str) -> int:
    """Replace a classifier's last linear layer by the identity; return the width it took."""
    linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise InputError(f"{model} does not end in a linear layer: choose another network")
    parent, _, child = linear[-1].rpartition(".")
    width = cast(nn.Linear, network.get_submodule(linear[-1])).in_features
    setattr(network.get_submodule(parent), child, nn.Identity())
    return width


def load_backbone_weights(backbone: nn.Module, path: Path) -> None:
    """Load a local weights file into a backbone.

    Names may carry a "module." or "backbone." prefix; a classifier's weights are passed over,
    and so is a ResNet's first convolution of another shape (the small-image stem stays random).
    Where no name fits at all, tensors are taken in the order of the file, if all have the right
    shapes: another program's names for the same network.

    Raises:
        InputError: the file is missing or no weights file, or its weights do not fit.
    """
    if not path.is_file():
        raise InputError(
            f"there is no weights file {path}: init is 'scratch', 'imagenet' or a path"
        )
    weights = read_weights(path)
    for prefix in ("module.", "backbone."):
        if any(name.startswith(prefix) for name in weights):
            weights = {
                name.removeprefix(prefix): value
                for name, value in weights.items()
                if name.startswith(prefix)
            }
    own = backbone.state_dict()
    if not own.keys() & weights.keys():
        weights = _renamed(weights, own)
    weights = timm_network.resampled(backbone, weights)
    fitting = {n: v for n, v in weights.items() if n in own and v.shape == own[n].shape}
    stem = "conv1.weight" if is_resnet(backbone) and "conv1.weight" in weights else ""
    missing = [n for n in own if n not in fitting and n != stem]
    if missing:
        raise InputError(
            f"{path} does not fit the backbone: {len(missing)} of its {len(own)} tensors are "
            f"missing or of another shape, {missing[0]} first. Was it saved from another network?"
        )
    backbone.load_state_dict(fitting, strict=False)


def _renamed(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights under a network's own names, where each has the shape of that in its place.

    Tensors behind the network's last are those of a classifier.
    """
    pairs = list(zip(own, weights, strict=False))
    if len(pairs) < len(own) or any(own[a].shape != weights[b].shape for a, b in pairs):
        return dict(weights)
    return {a: weights[b] for a, b in pairs}


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a .safetensors or torch file, without executing code from it."""
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                check_unpacked(path, sum(entry.file_size for entry in archive.infolist()))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(f"{path} cannot be read as weights: {error}") from error
    content = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise InputError(f"{path} holds no dictionary of tensors")
    return content


def layered(
    name: str,
    layers: int,
    *,
    init: str = "scratch",
    stem: Literal["small", "large"] = "small",
    size: int = 0,
    mirrored: bool = False,
) -> tuple[nn.Module, tuple[int, ...]]:
    """A backbone whose vectors also say what its last blocks found; and the widths of the parts.

    Args:
        name: as `build_backbone` takes it; several joined by "+" stand side by side.
        layers: how many blocks, of each; 0 is the backbone itself.
        init: as `build_backbone` takes it; of several no file, which has one network's weights.
        stem: likewise.
        size: likewise.
        mirrored: whether the vectors are those of `Mirrored`.

    Raises:
        InputError: as `build_backbone`; or a file is to be of several networks.
    """
    if mirrored:
        seen, widths = layered(name, layers, init=init, stem=stem, size=size)
        return Mirrored(seen), widths
    if JOIN in name:
        if init not in ("scratch", "imagenet"):
            raise InputError(
                f"init is {init}, the weights of one network, and the backbone is {name}: give "
                "--init imagenet, or one network"
            )
        several = [
            layered(one, layers, init=init, stem=stem, size=size) for one in name.split(JOIN)
        ]
        return Joined([one for one, _ in several]), tuple(w for _, parts in several for w in parts)
    backbone, width = build_backbone(name, init=init, stem=stem, size=size)
    if not layers:
        return backbone, (width,)
    with_layers = Layered(backbone, last(backbone, layers))
    with torch.no_grad():
        parts = with_layers.eval().parts(torch.zeros(1, 3, size or PROBE, size or PROBE))
    return with_layers, tuple(part.shape[1] for part in parts)


Normalisation = tuple[tuple[float, ...], tuple[float, ...]]


def normalisation_of(backbone: nn.Module, otherwise: Normalisation) -> Normalisation:
    """The mean and std that a network of timm's was trained with; of others `otherwise`.

    Its weights say nothing sensible of images that are normalised otherwise.

    Raises:
        InputError: of networks that stand side by side, each was trained with another.
    """
    found = []
    for _, network in networks(backbone):
        told = getattr(network, "pretrained_cfg", None) or {}
        says = "mean" in told and "std" in told
        found.append((tuple(told["mean"]), tuple(told["std"])) if says else otherwise)
    if len({*found}) > 1:
        raise InputError(
            "the networks that are joined were trained on pictures of other normalisations "
            f"({', '.join(map(str, dict.fromkeys(found)))}, mean and std): join networks that "
            "share one"
        )
    return found[0]
