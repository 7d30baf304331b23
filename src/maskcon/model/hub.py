"""Where a run is: a folder of this machine, or one of the Hugging Face hub."""

from dataclasses import dataclass
from pathlib import Path

from maskcon.errors import InputError
from maskcon.model import words
from maskcon.model.saved import DESCRIPTION, WEIGHTS
from maskcon.runtime import hub

# no other is fetched, and none that runs code
FILES = (WEIGHTS, DESCRIPTION, "run.json", *words.FILES)


@dataclass(frozen=True)
class Located:
    """Where a run is.

    Attributes:
        name: what to note of it: its folder, or hf:OWNER/NAME@COMMIT, which is found again.
        folder: its files.
        of_hub: nothing may be written to the folder, which is the hub's cache.
    """

    name: str
    folder: Path
    of_hub: bool = False


def is_named(run: object) -> bool:
    """Whether a run is called by a name, and no path: of the hub, or of open_clip's networks."""
    return hub.is_of_hub(run) or words.is_called(run)


def located(run: str | Path, *, download: bool = False) -> Located:
    """The place of a run folder, of an encoder.safetensors in one, or of a run of the hub.

    Args:
        run: its path, or hf:OWNER/NAME, perhaps with @REVISION: a branch, a tag or a commit; or
            open_clip/MODEL@WEIGHTS, a network with a text side, wherever the hub has it.
        download: fetch what is not on this machine, or has changed since.

    Raises:
        InputError: a run of the hub is not on this machine, or cannot be fetched.
    """
    if words.is_called(run):
        run = words.repository(str(run))
    if hub.is_of_hub(run):
        name, folder = hub.snapshot(str(run), "model", files=FILES, download=download)
        return Located(name, folder, of_hub=True)
    path = Path(run)
    folder = path.parent if path.suffix == ".safetensors" else path
    return Located(str(folder.absolute()), folder)


def writable(place: Located, out: object, what: str) -> Path:
    """The folder of a run that something is written to, if no other place was given.

    Raises:
        InputError: it is the hub's cache.
    """
    if place.of_hub and out is None:
        raise InputError(f"{what} of {place.name} needs a place of its own: give --out")
    return place.folder
