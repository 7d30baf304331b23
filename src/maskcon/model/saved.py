"""An encoder as two files: encoder.safetensors has the weights, encoder.json how to use them."""

import hashlib
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from maskcon.config import LARGEST as LARGEST_OPTIONS
from maskcon.errors import InputError, brief
from maskcon.model import words
from maskcon.model.backbones import Normalisation
from maskcon.model.network import Architecture, Network
from maskcon.model.preprocessing import Preprocessing
from maskcon.runtime.device import without_memory
from maskcon.runtime.files import parse_json, together

WEIGHTS, DESCRIPTION = "encoder.safetensors", "encoder.json"
LARGEST = LARGEST_OPTIONS["image_size"]  # side of an encoder's input, in pixels


def save_encoder(folder: Path, encoder: Network, preprocessing: Mapping[str, Any]) -> None:
    """Write encoder.safetensors and encoder.json: the weights, and how to use them.

    Args:
        folder: where.
        encoder: the query encoder.
        preprocessing: how images become its input: image_size, mean, std.

    Raises:
        TrainingError: the disk is full or read-only; the earlier ones are untouched.
    """
    # cloned: a file of safetensors refuses tensors that share their memory, as those of CoaT do
    state = {
        name: value.clone(memory_format=torch.contiguous_format).cpu()
        for name, value in encoder.state_dict().items()
    }
    about = {"architecture": encoder.describe(), "feature": encoder.width, **preprocessing}
    with together() as new:
        new.write(folder / WEIGHTS, safetensors.torch.save(state))
        new.write_json(folder / DESCRIPTION, about)


def identity_of(encoder: Network, preprocessing: Preprocessing) -> str:
    """Tells an encoder's vectors from those of others: a digest of weights and input."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(preprocessing.digested.encode())
    state = encoder.backbone.state_dict()
    # as 0.1 called it
    named = {re.sub(r"(^|\.)head\.std$", r"\1head.deviation", n): v for n, v in state.items()}
    for name, value in sorted(named.items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def load_encoder(folder: Path) -> tuple[Network, dict[str, Any]]:
    """Build the encoder of a run folder; return it, in evaluation mode, and its encoder.json.

    Or the image side of a network of open_clip's, whose files a folder may have instead.

    Raises:
        InputError: the folder has no encoder, or a damaged one.
    """
    try:
        encoder, description = words.load(folder) if words.is_one(folder) else _own(folder)
        check_preprocessing(description, pictures=encoder.takes_pictures)
    except FileNotFoundError as error:
        raise InputError(
            f"{folder} has no {Path(error.filename).name if error.filename else 'encoder'}: "
            "give the folder of a run that has finished at least one evaluation"
        ) from error
    except InputError:
        raise
    except Exception as error:  # a damaged file can raise anything
        reason = str(error)[:300]
        raise InputError(f"the encoder in {folder} is damaged: {reason}") from error
    # the layout that it was trained in: another one's kernels round otherwise
    return encoder.eval().to(memory_format=torch.channels_last), description


def normalisation_in(weights: Path) -> Normalisation | None:
    """The mean and std that a run's weights were trained with; None of a file of no run."""
    description = weights.with_name(DESCRIPTION)
    if weights.name != WEIGHTS or not description.is_file():
        return None
    normal = Preprocessing.of(load_encoder(weights.parent)[1])
    return normal.mean, normal.std


def _own(folder: Path) -> tuple[Network, dict[str, Any]]:
    """An encoder of maskcon's; whatever damaged files raise is raised."""
    description = parse_json((folder / DESCRIPTION).read_text(encoding="utf-8"))
    if "deviation" in description:  # as 0.1 called it
        description["std"] = description.pop("deviation")
    state = safetensors.torch.load_file(folder / WEIGHTS)
    architecture = Architecture.of(description["architecture"])
    if architecture.image_size not in (0, description["image_size"]):
        raise ValueError(f"it was made for images of {brief(architecture.image_size)} px")
    return _with_weights(architecture, state), description


def _with_weights(architecture: Architecture, state: Mapping[str, Tensor]) -> Network:
    """A network of these weights, which draws none of its own to be written over."""
    with without_memory():  # as large as it says: does it fit the weights?
        network = Network(architecture)
    kinds = {name: value.dtype for name, value in network.state_dict().items()}
    # copied: the file is mapped, and its tensors lie where kernels round otherwise
    own = {n: v.to(kinds.get(n, v.dtype), copy=True) for n, v in state.items()}
    network.load_state_dict(own, assign=True)
    if any(_is_empty(part) for part in network.modules()):  # it has numbers that no file keeps
        network = Network(architecture)
        network.load_state_dict(own)
    return network


def _is_empty(module: nn.Module) -> bool:
    """Whether one of a module's own tensors, of whatever kind, has no memory."""
    held = (*vars(module).values(), *module._parameters.values(), *module._buffers.values())
    return any(isinstance(value, Tensor) and value.is_meta for value in held)


def check_preprocessing(description: Mapping[str, Any], *, pictures: bool) -> None:
    """See that what is done to images are sensible numbers.

    Raises:
        ValueError: they are not.
    """
    size, channels = description["image_size"], (3,) if pictures else (0, 3)
    if type(size) is not int or not pictures <= size <= LARGEST:
        raise ValueError(f"image_size is {brief(size)}: expected pixels, up to {LARGEST:,}")
    for name in ("mean", "std"):
        values = description[name]
        numbers = all(type(v) in (int, float) and math.isfinite(v) for v in values)
        positive = name == "mean" or (numbers and min(values, default=1) > 0)
        if len(values) not in channels or not numbers or not positive:
            raise ValueError(
                f"{name} is {brief(values)}: expected a number for each of three channels"
            )
