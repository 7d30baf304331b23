"""The run folder: what a training run leaves, and how to read it again."""

import contextlib
import csv
import io
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from maskcon.data import DataSet, Found
from maskcon.errors import InputError, TrainingError
from maskcon.model.preprocessing import Preprocessing
from maskcon.model.saved import DESCRIPTION, WEIGHTS, check_preprocessing, load_encoder
from maskcon.runs import checkpoint, pictures
from maskcon.runs.record import Record, line_of, run_of
from maskcon.runtime import files
from maskcon.runtime.files import parse_json

RUN_FILE = "run.json"
METRICS = "metrics.jsonl"
TRACKERS = "trackers"  # a folder: what programs that follow a run write of it, a folder each
FOLLOWED = ("tensorboard", "wandb", "mlflow")  # these folders
# What a run has before its first epoch is over.
BEGUN = {RUN_FILE, METRICS, checkpoint.NEWEST, "split.csv", "skipped.csv", pictures.FILE, TRACKERS}
LOCK = "run.lock"  # of the process that trains
# Every name that a run writes. Overwriting deletes these and nothing else, and no other command
# writes to them.
NAMES = (
    *(RUN_FILE, METRICS, checkpoint.NEWEST, checkpoint.BEFORE, WEIGHTS, DESCRIPTION),
    *("README.md", "curves.png", "map.png", "neighbours.png", "split.csv", "skipped.csv"),
    pictures.FILE,
)


def check(folder: Path, *, resume: bool, overwrite: bool) -> None:
    """See that a run can go into the folder, and change nothing.

    Raises:
        InputError: it exists, has steps to go on from and neither was asked for; there is no run
            to resume; or overwriting would delete files that are no run.
    """
    if resume and overwrite:
        raise InputError("--resume and --overwrite exclude each other")
    if resume:
        if not (folder / RUN_FILE).exists():
            raise InputError(
                f"{folder} is no run folder: it has no {RUN_FILE}; leave out --resume to begin one"
            )
        read(folder)
        return
    if not folder.exists():
        return
    holds = folder.is_dir() and not all(map(files.is_temporary, folder.iterdir()))
    files.check_output(
        folder,
        folder=True,
        earlier=[folder] if holds else [],
        overwrite=overwrite or (holds and _nothing_kept(folder)),
        instead="--resume to go on",
    )
    if not holds:
        return
    if not (folder / RUN_FILE).exists():
        raise InputError(
            f"{folder} holds files that are no run, and is not overwritten: delete it yourself, or "
            "give another --out"
        )
    try:
        read(folder)
    except InputError as error:  # a file of that name that somebody else's program wrote?
        raise InputError(
            f"{error}; it is not overwritten: delete it yourself, or give another --out"
        ) from error
    for path in written(folder):
        if path.is_dir() and not path.is_symlink():
            raise InputError(f"{path} is a folder, where a run writes a file: give another --out")


def _nothing_kept(folder: Path) -> bool:
    """Whether a run failed there before there was anything to go on from, and is all there is."""
    with contextlib.suppress(InputError):
        run = read(folder)
        others = {path.name for path in folder.iterdir() if path.suffix != ".lock"} - BEGUN
        return run.get("status") == "failed" and run.get("steps_kept") == 0 and not others
    return False


@contextmanager
def claimed(folder: Path, *, resume: bool, overwrite: bool) -> Iterator[None]:
    """Have a run folder to oneself, after `check`; it is made, and goes again if it stays empty.

    Raises:
        InputError: another process has it, it cannot be written, or `check` says no.
    """
    check(folder, resume=resume, overwrite=overwrite)
    with contextlib.ExitStack() as stack:
        try:
            for path in reversed(files.make_folder(folder)):
                stack.callback(_remove_if_empty, path)
            stack.enter_context(files.locked(folder / "run", f"the run folder {folder}"))
            files.clear_temporary(folder)
        except (OSError, TrainingError) as error:
            why = error.__cause__ or error
            raise InputError(f"the folder {folder} cannot be written: {why}") from error
        check(folder, resume=resume, overwrite=overwrite)  # another may have been quicker
        yield


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):  # it is not
        folder.rmdir()


def written(folder: Path) -> list[Path]:
    """The files that a run writes to its folder, whether they are there or not."""
    return [folder / name for name in NAMES]


def clear(folder: Path) -> list[str]:
    """Delete the run in a claimed folder; return the names of what else is there, and stays.

    Raises:
        InputError: something of the run cannot be deleted.
    """
    try:
        for path in written(folder):
            path.unlink(missing_ok=True)
        trackers = folder / TRACKERS
        for path in () if trackers.is_symlink() else map(trackers.joinpath, FOLLOWED):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
        _remove_if_empty(trackers)
    except OSError as error:
        raise InputError(f"the run in {folder} cannot be deleted: {error}") from error
    return sorted(path.name for path in folder.iterdir() if not files.is_temporary(path))


def read(folder: Path) -> Record:
    """run.json of a run folder, which tells what it lacks where that is asked for.

    Raises:
        InputError: there is none, it cannot be read, or a field is of another kind.
    """
    path = folder / RUN_FILE
    try:
        run = parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{folder} is no run folder: it has no {RUN_FILE}") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is damaged: {error}") from error
    return run_of(run, path)


def preprocessing(folder: Path) -> Preprocessing | None:
    """How images become the input of a run that has begun; None where nothing says it.

    Earlier versions noted it beside the encoder alone.

    Raises:
        InputError: it is damaged.
    """
    told = read(folder).get("preprocessing")
    if told is None:
        if not (folder / DESCRIPTION).exists():
            return None
        told = load_encoder(folder)[1]
    try:
        check_preprocessing(told, pictures=bool(told["mean"]))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder / RUN_FILE}: its preprocessing is damaged: {error}") from error
    return Preprocessing.of(told)


def metrics(folder: Path) -> list[dict[str, float]]:
    """The lines of metrics.jsonl; none where there is none. A broken last line is left out.

    Raises:
        InputError: a line is damaged, or has no numbers.
    """
    path = folder / METRICS
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is damaged: {error}") from error
    found = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(line_of(parse_json(line), f"{path}, line {number}"))
        except ValueError as error:
            if isinstance(error, InputError):
                raise
            if number < len(lines):
                raise InputError(f"{path}, line {number} is damaged: {error}") from error
    return found


def write(folder: Path, content: Mapping[str, Any]) -> None:
    """Write run.json, whole; evaluations that were noted meanwhile stay.

    Raises:
        TrainingError: the disk is full or read-only; the earlier record is untouched.
    """
    path = folder / RUN_FILE
    with files.locked(path, wait=files.WAIT):
        files.clear_left(path)
        noted = read(folder).get("evaluations") if path.exists() else None
        files.write_json(path, {**content, "evaluations": noted} if noted else content)


def note_evaluation(
    folder: Path, data: str, results: Mapping[str, Any], judged: Mapping[str, Any] | None = None
) -> None:
    """Add the results of an evaluation to run.json, under the name of the data.

    Those of other protocols stay. A folder that cannot be written is left as it is, and so is the
    record of another run than the one that was `judged`, which has taken its place meanwhile.
    """
    about = {"maskcon": metadata.version("maskcon"), "commit": source_commit()}
    with (
        contextlib.suppress(TrainingError),  # somebody else's run
        files.locked(folder / RUN_FILE, wait=files.WAIT),
    ):
        files.clear_left(folder / RUN_FILE)
        run = read(folder)
        if judged is not None and judged.get("started") != run.get("started"):
            return
        kept = run.setdefault("evaluations", {}).get(data, {})
        spans = {**kept.get("intervals", {}), **results.get("intervals", {})}
        noted = {**kept, **results, **({"intervals": spans} if spans else {})}
        run["evaluations"][data] = {**noted, "measured": about}
        files.write_json(folder / RUN_FILE, run)


def write_lists(folder: Path, found: Found, data: DataSet) -> None:
    """Write down what a person could not know: split.csv and skipped.csv, where there is such.

    Args:
        folder: of the run.
        found: the set with its splits.
        data: what was read of it.
    """
    if found.made_split or found.made_validation:
        rows = [
            (part.pictures.name(row), name)
            for name, part in found.parts.items()
            for row in range(len(part))
        ]
        _write_csv(folder / "split.csv", ("image", "split"), rows)
    if data.skipped:
        _write_csv(folder / "skipped.csv", ("image", "reason"), data.skipped)


def _write_csv(path: Path, head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    text = io.StringIO()
    csv.writer(text).writerows([head, *rows])
    files.write(path, text.getvalue().encode())


def provenance() -> dict[str, Any]:
    """Versions, source commit, time and command, for run.json."""
    packages = ("maskcon", "torch", "torchvision", "timm", "numpy", "pillow", "scikit-learn")
    return {
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "commit": source_commit(),
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in packages},
        },
    }


def source_commit() -> str | None:
    """Git commit of maskcon's own source, "+" behind it if changed; None if it is installed."""
    here = Path(__file__).parents[1]

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(here), *words], capture_output=True, encoding="utf-8", timeout=10
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    if git("ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    commit = git("rev-parse", "HEAD")
    return f"{commit}{'+' if git('status', '--porcelain', '--', str(here)) else ''}"
