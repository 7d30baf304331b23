"""An exported folder goes to the Hugging Face hub, where a person asks for it in this command."""

import re
from collections.abc import Collection
from pathlib import Path

from maskcon import __version__
from maskcon.errors import InputError, TrainingError


def check_name(name: str) -> None:
    """Raise `InputError` where a repository of the hub cannot be called so."""
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name) is None:
        raise InputError(f"--push is {name!r}: expected OWNER/NAME, as the hub has repositories")


def upload(folder: Path, name: str, files: Collection[str]) -> str:
    """Upload files of a folder as one commit, and return the commit's digest.

    A repository that is not there is made, and is private: who owns it makes it public on the
    hub. The token is the one that `hf auth login` kept, or $HF_TOKEN.

    Args:
        folder: of the files.
        name: of the repository, OWNER/NAME.
        files: names of those that are uploaded.

    Raises:
        TrainingError: the hub cannot be reached or refuses; the folder is as it was.
    """
    from huggingface_hub import HfApi

    hub = HfApi(library_name="maskcon", library_version=__version__)
    try:
        hub.create_repo(name, private=True, exist_ok=True)
        commit = hub.upload_folder(
            repo_id=name,
            folder_path=folder,
            allow_patterns=sorted(files),
            commit_message=f"Encoder of maskcon {__version__}",
        )
    except Exception as error:  # of the hub, the network or the disk
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise TrainingError(
            f"{folder} is written, and could not be pushed to {name}: {reason}. Log in with "
            "`hf auth login`, and say the same with --overwrite"
        ) from error
    return commit.oid
