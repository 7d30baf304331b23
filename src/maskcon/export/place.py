"""Where an export goes: what must not be overwritten."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from maskcon.errors import InputError
from maskcon.export import Target
from maskcon.runs.folder import NAMES
from maskcon.runtime.files import check_output, reserved

MARK = ".maskcon-export"  # a file in folders that may be overwritten, since an export made them


@contextmanager
def settled(
    target: Target, run: Path, out: Path | None, *, overwrite: bool
) -> Iterator[tuple[Path, ...]]:
    """Have the paths of an export to oneself: those of `settle`, which says what may be given."""
    paths = settle(target, run, out, overwrite=overwrite)
    with reserved(paths, lambda: settle(target, run, out, overwrite=overwrite)):
        yield paths


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
    suffixes = (target.suffix,) if target.suffix else ()
    paths = [out]
    if target.suffix == ".safetensors":
        paths.append(out.with_suffix(".json"))
    for path in paths:
        if (path.parent / "run.json").exists() and path.name in NAMES:
            raise InputError(f"{path} is a file that the run needs: give another --out")
    check_output(
        out,
        suffixes=suffixes,
        folder=not suffixes,
        earlier=paths,
        overwrite=overwrite,
    )
    if not target.suffix and out.exists() and not _replaceable(out):
        raise InputError(
            f"{out} holds files that no export made, and is not overwritten: delete it yourself, "
            "or give another --out"
        )
    return tuple(paths)


def _replaceable(folder: Path) -> bool:
    return folder.is_dir() and ((folder / MARK).exists() or not any(folder.iterdir()))
