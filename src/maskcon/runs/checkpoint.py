"""The checkpoint of a run: everything that a step depends on, with its checksum."""

import hashlib
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from maskcon.errors import InputError
from maskcon.runtime.files import check_unpacked, write
from maskcon.runtime.progress import Progress

NEWEST, BEFORE = "last.ckpt", "previous.ckpt"
# The first line of a checkpoint is this and the SHA-256 of all that follows, in hexadecimal.
MAGIC = b"maskcon checkpoint "
HEAD = len(MAGIC) + 2 * hashlib.sha256().digest_size + 1


def save_checkpoint(folder: Path, state: Mapping[str, Any]) -> None:
    """Write tensors and plain values to a run folder, atomically; the earlier one is kept too.

    Raises:
        TrainingError: the disk is full or read-only; the earlier ones are untouched.
    """
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    content = buffer.getbuffer()
    head = MAGIC + hashlib.sha256(content).hexdigest().encode() + b"\n"
    write(folder / NEWEST, head, content, earlier=folder / BEFORE)


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
