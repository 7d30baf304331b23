"""Files that are whole or not there: atomic writes, the checkpoint, the encoder."""

import io
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from maskcon.errors import InputError, TrainingError
from maskcon.model import Architecture, Network
from maskcon.untrusted import parse_json

LARGEST = 4096  # side of an encoder's input, in pixels


def write_atomically(path: Path, content: bytes) -> None:
    """Write beside the file, flush to the disk, and only then take the file's place.

    Raises:
        TrainingError: the disk is full or read-only; the earlier file is untouched.
    """
    beside = path.with_name(path.name + ".part")
    try:
        with open(beside, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        kept = "the earlier one is kept" if path.exists() else "there is no earlier one"
        raise TrainingError(
            f"{path} ({len(content) / 2**20:.1f} MiB) could not be written: {error}; {kept}"
        ) from error


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a mapping as indented JSON, atomically."""
    write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write tensors and plain values, atomically."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    write_atomically(path, buffer.getvalue())


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the processor, without executing code from it.

    Raises:
        InputError: it is missing or damaged.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"there is no checkpoint {path}: nothing to resume") from error
    except Exception as error:  # a damaged archive can raise anything
        raise InputError(f"{path} is damaged and cannot be read: {error}") from error
    if not isinstance(state, dict) or "training" not in state:
        raise InputError(f"{path} is no checkpoint of maskcon")
    return state


def save_encoder(folder: Path, encoder: Network, preparation: Mapping[str, Any]) -> None:
    """Write encoder.safetensors and encoder.json: the weights, and how to use them.

    Args:
        folder: where.
        encoder: the query encoder.
        preparation: how images become its input: image_size, mean, deviation.
    """
    state = {name: value.contiguous().cpu() for name, value in encoder.state_dict().items()}
    write_atomically(folder / "encoder.safetensors", safetensors.torch.save(state))
    write_json(
        folder / "encoder.json",
        {"architecture": encoder.describe(), "feature": encoder.width, **preparation},
    )


def load_encoder(folder: Path) -> tuple[Network, dict[str, Any]]:
    """Build the encoder of a run folder; return it, in evaluation mode, and its encoder.json.

    Raises:
        InputError: the folder has no encoder, or a damaged one.
    """
    try:
        description = parse_json((folder / "encoder.json").read_text(encoding="utf-8"))
        state = safetensors.torch.load_file(folder / "encoder.safetensors")
        architecture = Architecture.of(description["architecture"])
        with torch.device("meta"):  # as large as it says, without memory: does it fit the weights?
            Network(architecture).load_state_dict(state, assign=True)
        encoder = Network(architecture)
        encoder.load_state_dict(state)
        _check_preparation(description)
    except FileNotFoundError as error:
        raise InputError(
            f"{folder} has no {Path(error.filename).name if error.filename else 'encoder'}: "
            "give the folder of a run that has finished at least one evaluation"
        ) from error
    except InputError:
        raise
    except Exception as error:  # a damaged file can raise anything
        raise InputError(f"the encoder in {folder} is damaged: {error}") from error
    # the layout that it was trained in: another one's kernels round otherwise
    return encoder.eval().to(memory_format=torch.channels_last), description


def _check_preparation(description: Mapping[str, Any]) -> None:
    """See that what is done to images are sensible numbers."""
    size = description["image_size"]
    if type(size) is not int or not 0 <= size <= LARGEST:
        raise ValueError(f"image_size is {size!r}: expected pixels, up to {LARGEST:,}")
    for name in ("mean", "deviation"):
        values = description[name]
        numbers = all(type(v) in (int, float) and math.isfinite(v) for v in values)
        if len(values) not in (0, 3) or not numbers:  # none where there are vectors alone
            raise ValueError(f"{name} is {values!r}: expected a number for each of three channels")
