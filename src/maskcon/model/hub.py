"""Encoders of the Hugging Face hub: in its cache here, or fetched where a person asks."""

import re
from pathlib import Path

from maskcon.errors import InputError
from maskcon.model.saved import DESCRIPTION, WEIGHTS

PREFIX = "hf:"
FILES = (WEIGHTS, DESCRIPTION, "run.json")  # no other is fetched, and none that runs code


def folder_of(name: str, *, download: bool) -> Path:
    """The folder of an encoder of the hub; it is called as the commit that it is of.

    Args:
        name: hf:OWNER/NAME, perhaps with @REVISION: a branch, a tag or a commit.
        download: fetch what is not on this machine, or has changed since.

    Raises:
        InputError: it is no such name, not on this machine, or cannot be fetched.
    """
    found = re.fullmatch(rf"{PREFIX}([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", name)
    if found is None:
        raise InputError(f"{name!r} names no encoder of the hub: expected hf:OWNER/NAME[@REVISION]")
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            found[1],
            revision=found[2],
            allow_patterns=[*FILES],
            local_files_only=not download,
        )
    except Exception as error:  # of the hub, the network or the disk
        if not download:
            raise InputError(
                f"{name} is not in the hub's cache on this machine: say download=True to fetch it"
            ) from error
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{name} cannot be fetched: {reason}") from error
    return Path(folder)
