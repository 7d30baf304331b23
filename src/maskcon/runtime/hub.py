"""The Hugging Face hub: what its cache on this machine has, or is fetched where a person asks."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from maskcon.errors import InputError

PREFIX = "hf:"


def is_of_hub(name: object) -> bool:
    """Whether something is called as what lies on the hub is: hf:OWNER/NAME."""
    return isinstance(name, str | Path) and str(name).startswith(PREFIX)


def snapshot(
    name: str, kind: Literal["model", "dataset"], *, files: Sequence[str], download: bool
) -> tuple[str, Path]:
    """The name of one commit of a repository, hf:OWNER/NAME@COMMIT, and the folder of its files.

    Args:
        name: hf:OWNER/NAME, perhaps with @REVISION: a branch, a tag or a commit.
        kind: of the repository.
        files: patterns of those that are fetched; no other is.
        download: fetch what is not on this machine, or has changed since.

    Raises:
        InputError: it is no such name, not on this machine, or cannot be fetched.
    """
    found = re.fullmatch(rf"{PREFIX}([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", name)
    if found is None:
        what = "encoder" if kind == "model" else "data set"
        raise InputError(f"{name!r} names no {what} of the hub: expected hf:OWNER/NAME[@REVISION]")
    from huggingface_hub import snapshot_download

    try:
        folder = Path(
            snapshot_download(
                found[1],
                repo_type=kind,
                revision=found[2],
                allow_patterns=[*files],
                local_files_only=not download,
            )
        )
    except Exception as error:  # of the hub, the network or the disk
        if not download:
            raise InputError(
                f"{name} is not in the hub's cache on this machine: say --download in this "
                "command, or download=True, to fetch it"
            ) from error
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{name} cannot be fetched: {reason}") from error
    return f"{PREFIX}{found[1]}@{folder.name}", folder
