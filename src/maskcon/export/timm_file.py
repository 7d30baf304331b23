"""Weights that timm loads by the name of its own network of the same make."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from maskcon.encoder import Encoder
from maskcon.errors import InputError
from maskcon.export import Request
from maskcon.export.describe import describe
from maskcon.export.weights import SMALL_STEM, agreement_of, state_of, write_state
from maskcon.model import timm_network
from maskcon.model.libraries import is_resnet, library

POSSIBLE = (
    "a backbone of timm (--backbone timm/NAME), or a resnet18, resnet34, resnet50 or other "
    "ResNet, ResNeXt or Wide ResNet of torchvision"
)


def model_name(encoder: Encoder) -> str:
    """What timm calls a network with the same weights, apart from its stem.

    Raises:
        InputError: it has none; the message says which are possible.
    """
    name = encoder.network.architecture.backbone
    model = name.rpartition("/")[2] if name.startswith("torchvision/") else name
    model = model.removeprefix("timm/")
    if encoder.network.architecture.head is not None:
        raise InputError(
            f"there is a head behind {name}, which timm's network has not: --to onnx and "
            "--to safetensors take any"
        )
    if library("timm").is_model(model):
        network = timm_network.make(model, _size(encoder))
        if small_stem(encoder):
            _make_small(network)
        theirs = {key: value.shape for key, value in network.state_dict().items()}
        ours = encoder.network.backbone.state_dict()
        if theirs == {key: value.shape for key, value in ours.items()}:
            return model
    raise InputError(
        f"timm has no network that takes the weights of {name}: possible are {POSSIBLE}. "
        "--to onnx and --to safetensors take any"
    )


def small_stem(encoder: Encoder) -> bool:
    """Whether the backbone has the stem for small images, which timm's own networks lack."""
    backbone: Any = encoder.network.backbone
    return is_resnet(backbone) and backbone.conv1.stride == (1, 1)


def _make_small(network: nn.Module) -> None:
    """Give a ResNet of timm the stem for small images, as `SMALL_STEM` writes it."""
    network.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    network.maxpool = nn.Identity()


def lines(encoder: Encoder, model: str, file: str) -> str:
    """Python that loads the checkpoint with timm alone."""
    if not small_stem(encoder):
        made = timm_network.spelled(model, _size(encoder), f'checkpoint_path="{file}"')
        return f"import timm\nnetwork = {made}\nnetwork.eval()"
    return "\n".join(
        [
            "import timm, torch",
            f'network = timm.create_model("{model}", num_classes=0)',
            *SMALL_STEM,
            f'timm.models.load_checkpoint(network, "{file}")',
            "network.eval()",
        ]
    )


def pretrained_cfg(encoder: Encoder) -> dict[str, Any]:
    """The input of the encoder in the words of timm: resize to a square, no crop."""
    size = encoder.preprocessing.image_size
    return {
        "input_size": [3, size, size],
        "interpolation": "bilinear",
        "crop_pct": 1.0,
        "crop_mode": "squash",
        "mean": list(encoder.preprocessing.mean),
        "std": list(encoder.preprocessing.std),
        "num_classes": 0,
    }


def config(encoder: Encoder, model: str) -> dict[str, Any]:
    """config.json of a model folder as timm and the hub have it."""
    options = timm_network.options_for(model, _size(encoder))
    return {
        "architecture": model,
        "num_classes": 0,
        "num_features": encoder.width,
        **({"model_args": options} if options else {}),
        "pretrained_cfg": pretrained_cfg(encoder),
    }


def _size(encoder: Encoder) -> int:
    """The size of images that its network was made for; 0 where it takes any."""
    return encoder.network.architecture.image_size


def checked(encoder: Encoder, images: Tensor) -> tuple[str, Any]:
    """The name of timm's network, and how near its vectors are with these weights.

    Raises:
        InputError: timm has none, or it computes something else.
    """
    model = model_name(encoder)
    with torch.random.fork_rng(devices=[]):  # whose initial weights nobody sees
        network = timm_network.make(model, _size(encoder))
    if small_stem(encoder):
        _make_small(network)
    network.load_state_dict(copy.deepcopy(state_of(encoder)))
    return model, agreement_of(encoder, network, images).check(f"timm's {model}")


def write(request: Request) -> dict[str, Any]:
    """Write a checkpoint of timm, after seeing that timm's network gives the same vectors.

    Args:
        request: the encoder, and pictures to compare on. Beside the file comes a .json with timm's
            configuration.

    Returns:
        "agreement", "model" (timm's name), "bytes", "load": Python that loads it.

    Raises:
        InputError: timm has no such network.
    """
    encoder, out = request.encoder, request.out
    model, agreement = checked(encoder, request.images)
    load = lines(encoder, model, out.name)
    facts = {**describe(encoder), **config(encoder, model), "small_stem": small_stem(encoder)}
    return {
        "agreement": agreement,
        "model": model,
        **write_state(out, state_of(encoder), facts, load),
    }
