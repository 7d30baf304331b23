"""The commands of the command line, as Python functions of the same names and options.

from maskcon.commands import train
run = train(data="cifar100", method="maskcon", tau=0.05, out="runs/x")
run["results"]["recall@1"]
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from maskcon import checkpoint, paper, report, runs
from maskcon import ledger as ledgers
from maskcon.config import MACHINE_FIELDS, Config, read_recipe, reading, resolve
from maskcon.data import (
    DATA_SETS,
    Columns,
    DataSet,
    Found,
    find,
    fitting_size,
    hold,
    load,
)
from maskcon.data import pack as packs
from maskcon.data.check import Report
from maskcon.data.check import check as look_through
from maskcon.device import Precision, hardware, pick_device
from maskcon.errors import InputError, Interrupted, TrainingError
from maskcon.evaluate import Preparation, embed, pixel_recall, recall_of
from maskcon.fit import fit
from maskcon.methods import METHODS
from maskcon.progress import Progress, Silent
from maskcon.train import Training

# What `demo` trains: small enough for two cores and two minutes.
# Short runs want many steps and fresh keys, so batches, bank and momentum are
# smaller than for CIFAR-100; a character must not be mirrored or cut.
DEMO: Mapping[str, Any] = {
    "data": "glyphs",
    "method": "maskcon",
    "tau": 0.2,
    "query_view": "weak",
    "crop_area": 0.7,
    "flip": False,
    "backbone": "resnet10w16",
    "bank_size": 1024,
    "ema": 0.9,
    "epochs": 7,
    "warmup_epochs": 0.5,
    "batch_size": 32,
    "lr": 0.06,
    "eval_every": 1,
}


def train(
    *,
    out: str | Path,
    data: str | Path | Found | None = None,
    recipe: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Train an encoder and fill a run folder.

    Args:
        out: the run folder; refused if it exists, unless `resume` or `overwrite`.
        data: a data set's name or path; or arrays, as `maskcon.data.from_arrays` takes them.
        recipe: a TOML file of options; the options given here win over it.
        resume: go on from the folder's last checkpoint, with the run's own options.
        overwrite: delete the run that is there.
        progress: told how the run goes.
        options: fields of `maskcon.config.Config` and hyper-parameters of the method.

    Returns:
        The content of run.json; its "results" hold "recall@1" and so on, shares in [0, 1].

    Raises:
        InputError: something given cannot be used; nothing was changed.
        TrainingError: training had to stop; the last checkpoint is kept.
        Interrupted: SIGINT or SIGTERM; a checkpoint was written.
    """
    progress = progress or Silent()
    folder = Path(out)
    runs.check(folder, resume=resume, overwrite=overwrite)
    if data is not None:
        options["data"] = _name(data)
    config = _resumed(folder, options, recipe) if resume else _resolve(options, recipe)
    found = data if isinstance(data, Found) else _find(config, progress)
    fits = fitting_size(found)
    found = _split(found, config, progress)
    config = config.settled(len(found.parts["train"]), fits)
    loaded = _load(found, config, progress)
    if resume:
        run = runs.read(folder)
        # what "auto" meant where the run began; its weights are in the checkpoint
        as_before = replace(config, precision=run["precision"], init="scratch")
        training = Training(as_before, loaded, progress)
        run.pop("error", None)
        again = {**runs.provenance(), "hardware": hardware(training.device)}
        run.setdefault("resumed", []).append(again)
    else:
        training = Training(config, loaded, progress)
        runs.make(folder)
        runs.write_lists(folder, found, loaded)
        run = {
            **runs.provenance(),
            "config": config.as_dict(),
            "hardware": hardware(training.device),
            "precision": training.precision.name,
            "data": _describe(loaded, config),
            "results": {},
        }

    def record(status: str, **more: Any) -> None:
        run.update(status=status, **more)
        runs.write(folder, run)

    record("running")
    try:
        outcome = fit(training, loaded, folder, resume=resume, progress=progress)
    except Interrupted:
        with contextlib.suppress(TrainingError):  # a full disk: the checkpoint is written
            record("interrupted")
        raise
    except TrainingError as error:
        with contextlib.suppress(TrainingError):  # a full disk: the first error matters
            record("failed", error=str(error))
        raise
    pixels = pixel_recall(loaded.test, config.readers)
    results = {**training.last, "best": training.best, "pixels": pixels}
    outcome["compile_seconds"] = training.compile_seconds
    record("finished", results=results, training=outcome)
    features = training.features(loaded.test.images, progress).cpu()
    report.write(folder, run, loaded, features, progress)
    return run


def eval(
    run: str | Path,
    *,
    data: str | Path | Found | None = None,
    json: str | Path | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Recall@1, 2, 5, 10 of a run's encoder on a test split's fine labels.

    Args:
        run: a run folder.
        data: a data set's name or path, or arrays; by default the run's own. All of its images
            are tested with where it has no test split.
        json: a file to write the results to.
        progress: told how it goes.
        options: how to read the data, fields `READING_FIELDS` of Config; device, and precision,
            which is the run's own unless given, so that the run's own recall comes out again.

    Returns:
        {"recall@1": share in [0, 1], ..., "pixels": the same of raw pixels, "images": count};
        "recall@1/coarse" and so on where there are no fine labels.

    Raises:
        InputError: no run there, or no such data.
    """
    progress = progress or Silent()
    folder = Path(run)
    trained = runs.read(folder)
    before = trained["config"]
    encoder, description = checkpoint.load_encoder(folder)
    given = reading({k: v for k, v in options.items() if k not in ("device", "precision")})
    where = pick_device(options.get("device", "auto"))
    numbers = Precision.pick(options.get("precision", trained["precision"]), where)
    if json is not None and not Path(json).absolute().parent.is_dir():
        raise InputError(f"{Path(json).parent} is no folder: make it, or give another --json")
    if data is None:
        config = _resolve({**before, **given}, None)
        found = _split(_find(config, progress), config, progress)
    else:
        config = _resolve({"data": _name(data), **given}, None)
        found = data if isinstance(data, Found) else _find(config, progress)
    part = found.parts.get("test") or found.parts["train"]
    split, skipped = hold(
        part, description["image_size"], config.readers, config.skip_unreadable, progress
    )
    for name, _ in skipped:
        progress.note(f"left out: {name}")
    preparation = Preparation.of(description)
    readers = config.readers
    features = embed(encoder.to(where), split.images, preparation, numbers, readers, progress)
    progress.close()
    results = {
        **recall_of(features, split),
        "pixels": pixel_recall(split, config.readers),
        "images": len(split),
    }
    if json is not None:
        checkpoint.write_json(Path(json), results)
    return results


def reproduce(
    data: str | None = None,
    method: str | None = None,
    *,
    seeds: Sequence[int] = (0,),
    out: str | Path = "runs",
    upper_bound: str = paper.UPPER_BOUND_METHODS[0],
    resume: bool = False,
    ledger: str | Path | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Run a row of the paper's tables, and set what comes out beside what was published.

    Args:
        data: a data set of the paper; without one, nothing is run and the rows are returned.
        method: as the paper calls it; "supfine" is the upper bound.
        seeds: one run each.
        out: folder of the run folders, DATA-METHOD-...-seedN.
        upper_bound: what supfine trains with, "supcon" or "supce"; the paper does not state it.
        resume: go on with runs that were broken off; finished ones are not run again.
        ledger: file that finished runs are appended to; by default that of the source tree.
        progress: told how it goes.
        options: "w" and "tau" choose the row; others change the recipe, and the comparison says
            so. Initial weights are those of ImageNet unless `init` says otherwise.

    Returns:
        "rows" alone, or "row", "runs" (their run.json), and "not_comparable": why not.

    Raises:
        InputError: there is no such row, or something given cannot be used.
    """
    if data is None:
        return {"rows": [asdict(row) | {"name": row.name} for row in paper.rows()]}
    if method is None:
        rows = [row.name for row in paper.rows() if row.data == data]
        raise InputError(f"give a method of the rows of {data}: {'; '.join(rows)}")
    progress = progress or Silent()
    if "seed" in options:
        raise InputError(f"seed is {options['seed']}: give seeds=({options['seed']},)")
    stated: list[str] = [name for name in ("w", "tau") if name in options]
    hyper = {name: options.pop(name) for name in stated}
    row = paper.row_of(data, method, hyper)
    if upper_bound not in paper.UPPER_BOUND_METHODS:
        raise InputError(
            f"upper_bound is {upper_bound!r}: expected {' or '.join(paper.UPPER_BOUND_METHODS)}"
        )
    recipe = DATA_SETS[data].recipe
    assert recipe is not None  # every set of the paper has one
    as_published: dict[str, Any] = {"init": "imagenet", **hyper, **row.hyper, "data": data}
    as_published["method"] = row.method
    name = row.name
    if row.method == paper.UPPER_BOUND:
        as_published |= {"method": upper_bound, "label": "fine"}
        name = f"{name} {upper_bound}"
    reference = _resolve(as_published, recipe).as_dict()
    given = {**as_published, **options}
    file = Path(ledger) if ledger is not None else ledgers.home()
    ledgers.check(file)
    done = []
    for seed in seeds:
        folder = Path(out) / "-".join([data, *name.replace("=", "").split(), f"seed{seed}"])
        before = resume and folder.exists()
        if before and runs.read(folder)["status"] == "finished":
            _resumed(folder, {**given, "seed": seed}, recipe)  # refuses one of other options
            run = runs.read(folder)
            progress.note(f"{folder} is finished")
        else:
            progress.note(f"{row.name} on {data}, seed {seed}: {folder}")
            run = train(
                out=folder, recipe=recipe, resume=before, progress=progress, **given, seed=seed
            )
        ledgers.add(file, [run])
        done.append(run)
    progress.note(f"the ledger is {file}")
    reasons = paper.differences(done[0]["config"], reference)
    return {"row": asdict(row), "runs": done, "not_comparable": reasons}


def demo(
    *,
    out: str | Path = "glyphs-demo",
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train on glyphs, evaluate and draw: about two minutes on two cores.

    Args:
        out: the run folder.
        resume: go on from the folder's last checkpoint.
        overwrite: delete the run that is there.
        progress: told how it goes.

    Returns:
        The content of run.json.
    """
    return train(out=out, resume=resume, overwrite=overwrite, progress=progress, **DEMO)


def check(data: str | Path | Found, *, progress: Progress | None = None, **options: Any) -> Report:
    """Read every picture of a data set once, and report what is there and what is wrong.

    Args:
        data: a data set's name or path, or arrays.
        progress: told how it goes.
        options: how to read the data, and any other option of `train`.

    Returns:
        The report; training would be wrong where `wrong` is not empty.

    Raises:
        InputError: there is no such data set.
    """
    progress = progress or Silent()
    config = _resolve({"data": _name(data), **options}, None)
    there = isinstance(data, Found) or str(data) in DATA_SETS or Path(data).exists()
    try:
        found = data if isinstance(data, Found) else _find(config, progress)
        fits = fitting_size(found)
        split = found.with_test(config.test_share, config.seed)
        return look_through(split, config, fits, progress)
    except InputError as error:
        if not there:
            raise
        return Report((str(error),), (), {"name": _name(data)}, ())
    finally:
        progress.close()


def pack(
    data: str | Path | Found,
    out: str | Path,
    *,
    size: int = 256,
    overwrite: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Decode every picture once, make it small, and write all into one file that is mapped.

    A set without a test split is packed without one.

    Args:
        data: a data set's name or path, or arrays.
        out: the file, NAME.pack, which `data` may then name.
        size: short side of the packed pictures in pixels; smaller ones stay as they are.
        overwrite: replace the file.
        progress: told how it goes.
        options: how to read the data, fields `READING_FIELDS` of Config.

    Returns:
        "images" packed, "skipped" (reasons), "bytes" of the file.

    Raises:
        InputError: there is no such data set, or a picture cannot be read, or the file exists.
        TrainingError: the file cannot be written.
    """
    progress = progress or Silent()
    out = Path(out)
    if out.suffix != packs.SUFFIX:
        raise InputError(f"{out} does not end in {packs.SUFFIX}: give the pack such a name")
    if out.exists() and not overwrite:
        raise InputError(f"{out} exists: give another name, or --overwrite")
    if not out.absolute().parent.is_dir():
        raise InputError(f"{out.parent} is no folder: make it, or give another name")
    if size < 1:
        raise InputError(f"size is {size}: expected pixels, 1 or more")
    config = _resolve({"data": _name(data), **reading(options)}, None)
    found = data if isinstance(data, Found) else _find(config, progress)
    images, skipped = packs.write(
        found,
        out,
        size=size,
        workers=config.readers,
        skip_unreadable=config.skip_unreadable,
        progress=progress,
    )
    return {"images": images, "skipped": skipped, "bytes": out.stat().st_size}


def methods() -> dict[str, str]:
    """Name and summary of every method."""
    return {name: method.summary for name, method in METHODS.items()}


def datasets() -> dict[str, str]:
    """Every data set that maskcon knows by name: what it is, its recipe, and MaskCon's best."""
    best = {row.data: row for row in paper.rows() if row.best and row.method == "maskcon"}
    described = {}
    for name, known in DATA_SETS.items():
        described[name] = known.summary
        if known.recipe is not None:
            hyper = ", ".join(f"{key} {value:g}" for key, value in best[name].hyper.items())
            described[name] += f"\nrecipe {known.recipe}" + (f"; best: {hyper}" if hyper else "")
    return described


def _name(data: str | Path | Found) -> str:
    """What a configuration calls the data; arrays have a name that no path and no set has."""
    return f"({data.name})" if isinstance(data, Found) else str(data)


def _resolve(options: Mapping[str, Any], recipe: str | Path | None) -> Config:
    known = {name: method.hyper_parameters for name, method in METHODS.items()}
    config = resolve(options, hyper_parameters=known, recipe=recipe)
    # A run must find its files again from any folder.
    if config.data_dir is not None:
        config = replace(config, data_dir=str(Path(config.data_dir).resolve()))
    if config.data not in DATA_SETS and Path(config.data).exists():
        config = replace(config, data=str(Path(config.data).resolve()))
    if config.init not in ("scratch", "imagenet"):
        config = replace(config, init=str(Path(config.init).resolve()))
    return config


def _resumed(folder: Path, options: Mapping[str, Any], recipe: str | Path | None) -> Config:
    """The run's own configuration; options may repeat it, and change where it runs."""
    before = runs.read(folder)["config"]
    given = {**(read_recipe(recipe) if recipe is not None else {}), **options}
    if given.get("method", before["method"]) != before["method"]:
        raise InputError(
            f"the run in {folder} is one of {before['method']} and cannot go on with "
            f"{given['method']}: start a new run"
        )
    config = _resolve({**before, **given}, None)
    changed = [
        f"{name} is {before.get(name)!r}, not {value!r}"
        for name, value in config.as_dict().items()
        if value != before.get(name) and name not in MACHINE_FIELDS
    ]
    if changed:
        raise InputError(
            f"the run in {folder} cannot go on with other options: {'; '.join(changed)}. "
            "Resume without them, or start a new run"
        )
    return config


def _find(config: Config, progress: Progress) -> Found:
    progress.update(f"looking for {config.data}")
    return find(
        config.data,
        data_dir=Path(config.data_dir) if config.data_dir else None,
        download=config.download,
        columns=Columns(
            config.image_column, config.coarse_column, config.fine_column, config.split_column
        ),
        progress=progress,
    )


def _split(found: Found, config: Config, progress: Progress) -> Found:
    """The set with a test split, and what there is to say of it."""
    for note in found.notes:
        progress.note(note)
    found = found.with_test(config.test_share, config.seed)
    if found.made_split:
        progress.note(
            f"{found.name} has no test split: {len(found.parts['test']):,} images drawn from seed "
            f"{config.seed} are left out of training to test with"
        )
    return found


def _load(found: Found, config: Config, progress: Progress) -> DataSet:
    data = load(
        found,
        image_size=config.image_size,
        workers=config.readers,
        skip_unreadable=config.skip_unreadable,
        progress=progress,
    )
    if data.skipped:
        progress.note(f"left out: {len(data.skipped):,} pictures that cannot be read")
    progress.note(
        f"{data.name}: {len(data.train):,} train and {len(data.test):,} test images, "
        f"{len(data.coarse_names)} coarse and {len(data.fine_names) or 'no'} fine classes; "
        f"views of {config.image_size} px"
    )
    return data


def _describe(data: DataSet, config: Config) -> dict[str, Any]:
    made = {"share": config.test_share, "seed": config.seed} if data.made_split else None
    return {
        "name": data.name,
        "train": len(data.train),
        "test": len(data.test),
        "coarse": list(data.coarse_names),
        "fine": len(data.fine_names),
        "made_split": made,
        "skipped": len(data.skipped),
    }
