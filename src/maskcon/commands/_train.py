"""Train an encoder."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from maskcon.commands import choice
from maskcon.commands._teach import taught
from maskcon.commands.sources import (
    find_set,
    inputs_of,
    load_set,
    name_of,
    resolved,
    resumed,
    split_set,
    tell_of,
)
from maskcon.config import Config, refuse_idle, with_recipe
from maskcon.data import DataSet, Found, Split, fitting_size
from maskcon.errors import DivergedError, InputError, Interrupted, TrainingError
from maskcon.eval.recall import pixel_recall
from maskcon.model.fetching import fetching
from maskcon.report import card
from maskcon.runs import checkpoint, pictures
from maskcon.runs import folder as runs
from maskcon.runs.callbacks import Callback, Callbacks, Overheard
from maskcon.runs.recorder import FolderRecorder
from maskcon.runs.trackers import callbacks_of
from maskcon.runtime import distributed
from maskcon.runtime.device import deterministic, hardware
from maskcon.runtime.distributed import Ranks
from maskcon.runtime.files import check_apart
from maskcon.runtime.progress import Progress, Silent, follower
from maskcon.runtime.seeds import kept_random_state
from maskcon.train import build
from maskcon.train import frozen as freezing
from maskcon.train.explain import explained
from maskcon.train.loop import fit
from maskcon.train.state import Training


def train(
    *,
    out: str | Path,
    data: str | Path | Found | None = None,
    recipe: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    callbacks: Sequence[Callback | str] = (),
    progress: Progress | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Train an encoder and fill a run folder.

    Args:
        out: the run folder; refused if it exists, unless `resume` or `overwrite`.
        data: a data set's name or path; or arrays, as `maskcon.data.from_arrays` takes them.
        recipe: a TOML file of options; the options given here win over it.
        resume: go on from the folder's last checkpoint, with the run's own options.
        overwrite: delete the run that is there; other files in the folder stay.
        callbacks: told of each step, evaluation and so on: your own (`maskcon.runs.callbacks`), or
            "tensorboard", "wandb", "mlflow", "trackio".
        progress: told how the run goes; by default a line of the notebook, and nobody elsewhere.
        options: fields of `maskcon.config.Config` and hyper-parameters of the method.

    Returns:
        The content of run.json; its "results" hold "recall@1" and so on, shares in [0, 1].

    Raises:
        InputError: something given cannot be used; nothing was changed.
        TrainingError: training had to stop; the last checkpoint is kept.
        Interrupted: SIGINT, SIGTERM or SIGHUP; a checkpoint was written.
    """
    folder = Path(out)
    if data is not None:
        options["data"] = name_of(data)
    chosen: Mapping[str, Any] | None = None
    with distributed.process_group() as ranks, contextlib.ExitStack() as stack:
        told = follower(progress) if ranks.is_main else Silent()
        made: list[Callback] = []
        ranks.main_only(lambda: made.extend(callbacks_of(callbacks)))
        if distributed.restarted() and (folder / runs.RUN_FILE).exists():
            resume, overwrite = True, False

        def claim() -> None:
            stack.enter_context(runs.claimed(folder, resume=resume, overwrite=overwrite))

        ranks.main_only(claim)
        if resume:
            config = resumed(folder, options, recipe)
            given = with_recipe(options, recipe)
            if data is None and given.get("features") is None:
                tell_of(config.features or config.data, folder, told)
        else:
            config = freezing.of_run(resolved(options, recipe), with_recipe(options, recipe))
            if choice.is_open(options, recipe):
                chosen = options
            # of weights, and of a frozen network, that may be chosen
            later = ("download", "backend", "answers", "known") if chosen is not None else ()
            early = {name: value for name, value in options.items() if name not in later}
            refuse_idle(early, config)
            recipes = [recipe] if recipe is not None and Path(recipe).is_file() else []
            read = (*inputs_of(config), *recipes)
            ranks.main_only(lambda: check_apart([folder], read))
            if told_so := choice.unchosen(config, options, recipe):
                told.note(told_so)
        stack.enter_context(fetching(config.download))
        stack.enter_context(deterministic(config.deterministic))
        stack.enter_context(kept_random_state())
        return _train(config, folder, data, resume, ranks, told, Callbacks(made), chosen)


def _train(
    config: Config,
    folder: Path,
    data: str | Path | Found | None,
    resume: bool,
    ranks: Ranks,
    progress: Progress,
    callbacks: Callbacks,
    chosen: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Train in a folder that is this run's alone; with `chosen` options all else is chosen."""
    freezing.check(config)
    known = pictures.read(folder) if resume else None
    config, sets = read_sets(config, data, not resume, known, ranks, progress, chosen)
    begun = resume and checkpoint.has_checkpoint(folder)
    whole = not (config.freeze or config.unfreeze or config.from_run)
    if begun and whole:  # all weights are in the checkpoint
        config = replace(config, init="scratch")
    if resume:  # what "auto" meant where the run began
        config = replace(config, precision=runs.read(folder)["precision"])
    stored = runs.preprocessing(folder) if begun else None
    lots, lesson = taught(config, *sets[:4], ranks, progress)
    training = Training(config, sets.seen, progress, ranks, stored, lots)
    run = _record(folder, training, sets.loaded, resume, callbacks)

    def record(status: str, **more: Any) -> None:
        if ranks.is_main:
            run.update(status=status, **more)
            runs.write(folder, run)
            callbacks.status(status, run["results"])

    def begin() -> None:
        if not resume:
            if any(path.exists() for path in runs.written(folder)):
                check_apart([folder], inputs_of(config, sets.found))
            if left := runs.clear(folder):
                progress.note(f"what no run wrote stays in {folder}: {', '.join(left)}")
        record("running")
        if not begun:
            runs.write_lists(folder, sets.found, sets.loaded)
            pictures.write(folder, sets.digests)

    ranks.main_only(begin)
    kept, progress = FolderRecorder(folder, callbacks), Overheard(progress, callbacks)
    with _recorded(record, kept):
        outcome = fit(training, sets.seen, kept, resume=begun, progress=progress)
        with explained(training, kept, progress):
            outcome |= freezing.judge(training, sets.held, sets.seen.test, folder, progress)
            features = training.features(sets.seen.test.images, progress).cpu()
    if not ranks.is_main:
        return run
    pixels = pixel_recall(sets.loaded.test, config.readers)
    results = {**training.last, "best": training.best.results, "pixels": pixels}
    if config.computes_vectors:
        results["frozen"] = pixel_recall(sets.seen.test)
    outcome |= {**lesson, "compile_seconds": training.compile_seconds}
    record("finished", results=results, training=outcome)
    card.write(folder, run, sets.loaded, features, progress)
    return run


class _Sets(NamedTuple):
    """The data of a run.

    Attributes:
        found: with both splits, not read.
        loaded: read.
        seen: what is trained on: the same, or vectors of a frozen backbone.
        held: train images left out to judge a head on.
        digests: of the pictures that were found.
    """

    found: Found
    loaded: DataSet
    seen: DataSet
    held: Split | None
    digests: pictures.Digests


def read_sets(
    config: Config,
    data: str | Path | Found | None,
    new: bool,
    known: pictures.Digests | None,
    ranks: Ranks,
    progress: Progress,
    chosen: Mapping[str, Any] | None,
) -> tuple[Config, _Sets]:
    """The data, and the configuration with what was left open chosen for them."""
    with ranks.main_first():  # which may download
        found = find_set(config, progress, data)
    if chosen is not None:
        made = choice.choose(config, found)
        config = made.settled(chosen)
        refuse_idle(chosen, config)
        for line in made.lines:
            progress.note(line)
    if new and "test" in found.parts and config.test_share != Config.test_share:
        raise InputError(
            f"--test-share has no effect: {found.name} has a test split of its own; leave it out. "
            "It belongs to data without one"
        )
    fits = freezing.input_size(config) if config.on_vectors else fitting_size(found)
    found = split_set(found, config, progress)
    if known is not None and "validation" not in known:  # a run that was begun without
        found = replace(found, parts={name: found.parts[name] for name in ("train", "test")})
    digests = pictures.of_parts(found, progress, ranks)
    if known is not None:
        found = pictures.arranged(found, known, digests, progress)
    config = config.settled(len(found.parts["train"]), fits)
    if chosen is not None and ranks.size == 1:
        progress.update("measuring how long it will take")
        if expectation := choice.expectation(config, found):
            progress.note(expectation)
    seen = loaded = load_set(found, config, progress, ranks)
    if config.computes_vectors:
        build.check(config, loaded)  # which may take minutes to be told after them
        with ranks.main_first():  # which keeps them for the others
            seen = freezing.vectors_of(loaded, config, progress)
    return config, _Sets(found, loaded, *freezing.set_apart(seen, config), digests)


def _record(
    folder: Path, training: Training, data: DataSet, resume: bool, callbacks: Callbacks
) -> dict[str, Any]:
    """The content of run.json where a run begins or goes on."""
    here = {"threads": training.threads, "ranks": training.ranks.size}
    where = {**hardware(training.device), **here}
    made = {**runs.provenance(), "hardware": where}
    if not resume:
        new = {
            **made,
            "config": training.config.as_dict(),
            "precision": training.precision.name,
            "preprocessing": training.preprocessing.described(),
            "data": _describe(data, training.config),
            "results": {},
        }
        callbacks.enter(new, lines=0)
        return new
    run = runs.read(folder)
    callbacks.enter(run, len(runs.metrics(folder)))
    run["config"] |= {name: getattr(training.config, name) for name in ("data", "features")}
    for name in ("error", "steps_kept"):
        run.pop(name, None)
    run.setdefault("resumed", []).append(made)
    return run


@contextlib.contextmanager
def _recorded(record: Callable[..., None], kept: FolderRecorder) -> Iterator[None]:
    """Record how a training ended that did not finish."""
    try:
        yield
    except Interrupted:
        with contextlib.suppress(TrainingError):  # a full disk: the checkpoint is written
            record("interrupted")
        raise
    except TrainingError as error:
        with contextlib.suppress(TrainingError):  # a full disk: the first error matters
            # read from the checkpoint, for which a process that loses another has no time
            steps = {"steps_kept": kept.steps_kept()} if isinstance(error, DivergedError) else {}
            record("failed", error=str(error), **steps)
        raise


def _describe(data: DataSet, config: Config) -> dict[str, Any]:
    made = {"share": config.test_share, "seed": config.seed} if data.made_split else None
    validation = None
    if data.validation is not None:
        validation = {"images": len(data.validation), "share": config.val_share or None}
    return {
        "name": data.name,
        "train": len(data.train),
        "test": len(data.test),
        "coarse": list(data.coarse_names),
        "fine": len(data.fine_names),
        "made_split": made,
        "validation": validation,
        "skipped": len(data.skipped),
    }
