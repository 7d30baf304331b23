"""Files that are whole or not there: atomic writes, the checkpoint, the encoder."""

import contextlib
import hashlib
import io
import json
import math
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from maskcon.errors import InputError, TrainingError
from maskcon.model.network import Architecture, Network
from maskcon.runtime.progress import Progress
from maskcon.runtime.untrusted import check_unpacked, parse_json

PART = ".part"  # behind the name of a file that is being written
NEWEST, BEFORE = "last.ckpt", "previous.ckpt"
# The first line of a checkpoint is this and the SHA-256 of all that follows, in hexadecimal.
MAGIC = b"maskcon checkpoint "
HEAD = len(MAGIC) + 2 * hashlib.sha256().digest_size + 1
LARGEST = 4096  # side of an encoder's input, in pixels


def write_atomically(path: Path, *content: bytes | memoryview, before: Path | None = None) -> None:
    """Write beside the file, flush to the disk, and only then take the file's place.

    A name is on the disk only when its folder is, which is why that is flushed as well.

    Args:
        path: the file.
        content: what goes into it, one after the other.
        before: the name that the earlier file gets; by default it is gone.

    Raises:
        TrainingError: the disk is full or read-only; the earlier file is untouched.
    """
    beside = path.with_name(path.name + PART)
    try:
        with open(beside, "wb") as file:
            for part in content:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        if before is not None and path.exists():
            os.replace(path, before)
        os.replace(beside, path)
        flush_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):  # the first error matters
            beside.unlink(missing_ok=True)
        kept = "the earlier one is kept" if path.exists() else "there is no earlier one"
        size = sum(map(len, content)) / 2**20
        raise TrainingError(
            f"{path} ({size:.1f} MiB) could not be written: {error}; {kept}"
        ) from error


def flush_folder(folder: Path) -> None:
    """See that the names of a folder's files are on the disk."""
    if os.name == "nt":  # where folders cannot be opened, and need not be
        return
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a mapping as indented JSON, atomically."""
    write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())


def save_checkpoint(folder: Path, state: Mapping[str, Any]) -> None:
    """Write tensors and plain values to a run folder, atomically; the earlier one is kept too.

    Raises:
        TrainingError: the disk is full or read-only; the earlier ones are untouched.
    """
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    content = buffer.getbuffer()
    head = MAGIC + hashlib.sha256(content).hexdigest().encode() + b"\n"
    write_atomically(folder / NEWEST, head, content, before=folder / BEFORE)


def has_checkpoint(folder: Path) -> bool:
    """Whether there is one, whole or not."""
    return (folder / NEWEST).exists() or (folder / BEFORE).exists()


def newest_checkpoint(folder: Path, notify: Progress) -> dict[str, Any]:
    """The newest checkpoint of a run folder that is whole; `notify` is told of one that is not.

    Raises:
        InputError: there is none, or each is damaged.
    """
    try:
        return load_checkpoint(folder / NEWEST)
    except InputError as error:
        if not (folder / BEFORE).exists():
            raise
        state = load_checkpoint(folder / BEFORE)
        notify.note(f"{error}; going on from the one before, {folder / BEFORE}")
        return state


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the processor, without executing code from it.

    Raises:
        InputError: it is missing or damaged.
    """
    try:
        content = memoryview(path.read_bytes())
    except FileNotFoundError as error:
        raise InputError(f"there is no checkpoint {path}: nothing to resume") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    head, body = bytes(content[:HEAD]), content[HEAD:]
    if not head.startswith(MAGIC):
        raise InputError(
            f"{path} is no checkpoint of this version of maskcon: resume with the version that "
            "wrote it, or start a new run"
        )
    if head[len(MAGIC) :] != hashlib.sha256(body).hexdigest().encode() + b"\n":
        raise InputError(f"{path} is damaged: its checksum is another than when it was written")
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            check_unpacked(path, sum(entry.file_size for entry in archive.infolist()))
        state = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    except InputError:
        raise
    except Exception as error:  # an archive that somebody made can raise anything
        raise InputError(f"{path} is damaged and cannot be read: {error}") from error
    if not isinstance(state, dict) or not isinstance(state.get("training"), dict):
        raise InputError(f"{path} is no checkpoint of maskcon")
    return state


def save_encoder(folder: Path, encoder: Network, preprocessing: Mapping[str, Any]) -> None:
    """Write encoder.safetensors and encoder.json: the weights, and how to use them.

    Args:
        folder: where.
        encoder: the query encoder.
        preprocessing: how images become its input: image_size, mean, std.
    """
    state = {name: value.contiguous().cpu() for name, value in encoder.state_dict().items()}
    write_atomically(folder / "encoder.safetensors", safetensors.torch.save(state))
    write_json(
        folder / "encoder.json",
        {"architecture": encoder.describe(), "feature": encoder.width, **preprocessing},
    )


def load_encoder(folder: Path) -> tuple[Network, dict[str, Any]]:
    """Build the encoder of a run folder; return it, in evaluation mode, and its encoder.json.

    Raises:
        InputError: the folder has no encoder, or a damaged one.
    """
    try:
        description = parse_json((folder / "encoder.json").read_text(encoding="utf-8"))
        if "deviation" in description:  # as 0.1 called it
            description["std"] = description.pop("deviation")
        state = safetensors.torch.load_file(folder / "encoder.safetensors")
        architecture = Architecture.of(description["architecture"])
        with torch.device("meta"):  # as large as it says, without memory: does it fit the weights?
            Network(architecture).load_state_dict(state, assign=True)
        encoder = Network(architecture)
        encoder.load_state_dict(state)
        _check_preprocessing(description)
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


def _check_preprocessing(description: Mapping[str, Any]) -> None:
    """See that what is done to images are sensible numbers."""
    size = description["image_size"]
    if type(size) is not int or not 0 <= size <= LARGEST:
        raise ValueError(f"image_size is {size!r}: expected pixels, up to {LARGEST:,}")
    for name in ("mean", "std"):
        values = description[name]
        numbers = all(type(v) in (int, float) and math.isfinite(v) for v in values)
        if len(values) not in (0, 3) or not numbers:  # none where there are vectors alone
            raise ValueError(f"{name} is {values!r}: expected a number for each of three channels")
