"""Train an encoder several times, with other seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from maskcon.commands._train import train
from maskcon.commands.choice import is_open
from maskcon.commands.sources import name_of, resolved, resumed
from maskcon.config import MACHINE_FIELDS, Config
from maskcon.data import Found
from maskcon.errors import InputError
from maskcon.runs import folder as runs
from maskcon.runs.callbacks import Callback
from maskcon.runtime import distributed
from maskcon.runtime.progress import Progress, Silent, follower

# What a run chooses for its set where nobody says it, and its record then has.
CHOSEN = ("image_size", "batch_size", "warmup_epochs", "query_view", "key_view")


def train_seeds(
    seeds: Sequence[int],
    *,
    out: str | Path,
    data: str | Path | Found | None = None,
    recipe: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    callbacks: Sequence[Callback | str] = (),
    progress: Progress | None = None,
    **options: Any,
) -> list[dict[str, Any]]:
    """Train an encoder once with each seed, one after the other.

    Args:
        seeds: of the runs; that of seed N is OUT/seed-N, a run folder as any other.
        out: folder of the run folders.
        data: as `train` takes it.
        recipe: as `train` takes it.
        resume: go on with the run that was broken off; finished ones are left as they are, and
            those that were not begun are begun, with the same options as the others.
        overwrite: delete the runs of these seeds that are there.
        callbacks: told of each run in turn, as `train` takes them.
        progress: told how the runs go.
        options: as `train` takes them, but for the seed.

    Returns:
        The content of each run.json; nothing in processes that are not the first of several.

    Raises:
        InputError: something given cannot be used; nothing was changed.
        TrainingError, Interrupted: as `train` raises them; later seeds are not begun.
    """
    _check(seeds, Path(out), options)
    given = {**options, **({} if data is None else {"data": name_of(data)})}
    folders = {seed: Path(out) / f"seed-{seed}" for seed in seeds}
    done = []
    with distributed.process_group() as ranks:
        if overwrite and ranks.size > 1:  # after a restart nobody would know which are old
            raise InputError(
                "--overwrite does not go with --seeds on several processes: delete the runs first"
            )
        told = follower(progress) if ranks.is_main else Silent()
        again = resume or distributed.restarted()
        begun = [s for s, folder in folders.items() if again and (folder / runs.RUN_FILE).exists()]
        begun = ranks.broadcast_object(begun)
        ranks.main_only(lambda: _check_folders(folders, begun, resume, overwrite))
        if begun and len(begun) < len(folders):
            _check_same(folders[begun[0]], given, recipe)
        for seed, folder in folders.items():
            told.note(f"seed {seed}: {folder}")
            run = run_or_go_on(
                folder,
                {**options, "data": data, "seed": seed},
                recipe,
                resume=seed in begun,
                overwrite=overwrite,
                callbacks=callbacks,
                progress=told,
            )
            done.append(run)
    return done if ranks.is_main else []


def run_or_go_on(
    folder: Path,
    given: Mapping[str, Any],
    recipe: str | Path | None,
    *,
    resume: bool,
    progress: Progress,
    overwrite: bool = False,
    callbacks: Sequence[Callback | str] = (),
) -> dict[str, Any]:
    """Train; or go on with a run that is there, or take it as it is where it is finished.

    Args:
        folder: of the run.
        given: `data` and options, as `train` takes them.
        recipe: likewise.
        resume: likewise.
        progress: likewise.
        overwrite: likewise.
        callbacks: likewise.
    """
    if resume and runs.read(folder)["status"] == "finished":
        named = {"data": name_of(data)} if (data := given.get("data")) is not None else {}
        told = {name: value for name, value in given.items() if name != "data"}
        resumed(folder, {**told, **named}, recipe)  # refuses one of other options
        progress.note(f"{folder} is finished")
        return runs.read(folder)
    return train(
        out=folder,
        recipe=recipe,
        resume=resume,
        overwrite=overwrite,
        callbacks=callbacks,
        progress=progress,
        **given,
    )


def check_seeds(seeds: Sequence[int]) -> None:
    """Refuse seeds that are none, or twice there, before the first of them takes hours."""
    if not seeds or len({*seeds}) < len(seeds) or min(seeds) < 0:
        shown = ",".join(map(str, seeds))
        raise InputError(
            f"--seeds is {shown!r}: expected different numbers, 0 or more, such as 0,1,2"
        )


def _check(seeds: Sequence[int], out: Path, options: Mapping[str, Any]) -> None:
    """Refuse seeds that cannot be run, and a folder that is a run itself."""
    if options.get("seed") is not None:
        raise InputError(
            f"--seed {options['seed']} beside --seeds: leave it out, since --seeds names them all"
        )
    check_seeds(seeds)
    if (out / runs.RUN_FILE).exists():
        raise InputError(
            f"{out} is a run folder, where --seeds makes folders of runs: give another --out"
        )


def _check_folders(
    folders: Mapping[int, Path], begun: Sequence[int], resume: bool, overwrite: bool
) -> None:
    """See that each run can go into its folder, before the first of them takes hours."""
    if resume and not begun:
        names = ", ".join(map(str, folders.values()))
        raise InputError(f"there is no run in any of {names}: leave out --resume to begin them")
    for seed, folder in folders.items():
        runs.check(folder, resume=seed in begun, overwrite=overwrite)


def _check_same(folder: Path, options: Mapping[str, Any], recipe: str | Path | None) -> None:
    """See that seeds that are to be begun now get the options that the others have."""
    config, before = resolved(options, recipe).as_dict(), runs.read(folder)["config"]
    opened = {f.name for f in fields(Config) if f.name in CHOSEN and config[f.name] == f.default}
    looked_at = config if not is_open(options, recipe) else {**config, **before, **options}
    differing = [
        f"{name} is {before[name]!r} there, not {value!r}"
        for name, value in looked_at.items()
        if name in before and before[name] != value
        if name not in {*MACHINE_FIELDS, *opened, "seed"}
    ]
    if differing:
        raise InputError(
            f"some of the seeds were not begun yet, and would have other options than the run in "
            f"{folder}: {'; '.join(differing)}. Give the options that it was begun with"
        )
