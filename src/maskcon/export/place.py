"""Where an export goes: what must not be overwritten, and folders that are whole or not there."""

import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

from maskcon.errors import InputError, TrainingError
from maskcon.export import Target

MARK = ".maskcon-export"  # a file in folders that may be overwritten, since an export made them

# What a run folder needs; no export may take the place of any of these.
RUN_FILES = frozenset(
    {
        *("run.json", "metrics.jsonl", "last.ckpt", "encoder.safetensors", "encoder.json"),
        *("README.md", "curves.png", "map.png", "neighbours.png", "split.csv", "skipped.csv"),
    }
)


def settle(target: Target, run: Path, out: Path | None, *, overwrite: bool) -> tuple[Path, ...]:
    """The paths that an export is going to write, the first being the one that was asked for.

    Args:
        target: the form.
        run: the run folder.
        out: what a person asked for; None is the target's own name in the run folder.
        overwrite: an earlier export may be replaced.

    Raises:
        InputError: it has another ending, it exists, its folder does not, or it is a file
            that the run needs. Nothing was changed.
    """
    out = run / target.name if out is None else out
    if target.suffix and out.suffix != target.suffix:
        raise InputError(f"{out} does not end in {target.suffix}: give the file such a name")
    parent = out.absolute().parent
    if not parent.is_dir():
        raise InputError(f"{out.parent} is no folder: make it, or give another -o")
    paths = [out]
    if target.suffix == ".safetensors":
        paths.append(out.with_suffix(".json"))
    for path in paths:
        if (path.parent / "run.json").exists() and path.name in RUN_FILES:
            raise InputError(f"{path} is a file that the run needs: give another -o")
        if target.suffix and path.is_dir():
            raise InputError(f"{path} is a folder: give -o a file")
        if (path.exists() or path.is_symlink()) and not overwrite:
            raise InputError(f"{path} exists: give another -o, or --overwrite")
    if not target.suffix and out.exists() and not _replaceable(out):
        raise InputError(
            f"{out} holds files that no export made, and is not overwritten: delete it yourself, "
            "or give another -o"
        )
    return tuple(paths)


def _replaceable(folder: Path) -> bool:
    return folder.is_dir() and ((folder / MARK).exists() or not any(folder.iterdir()))


def write_folder(folder: Path, fill: Callable[[Path], None]) -> None:
    """Fill a folder beside, and put it into its place only when it is whole.

    Args:
        folder: may exist, after `settle`.
        fill: called with the folder to fill.

    Raises:
        TrainingError: it cannot be written; an earlier one is kept.
    """
    folder = folder.absolute()  # so that "." has a name
    beside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.part")
    old = beside.with_suffix(".old")
    try:
        beside.mkdir()
        fill(beside)
        (beside / MARK).touch()
        if folder.exists():
            folder.replace(old)
        beside.replace(folder)
    except OSError as error:
        if old.exists() and not folder.exists():
            old.replace(folder)
        raise TrainingError(f"{folder} could not be written: {error}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
