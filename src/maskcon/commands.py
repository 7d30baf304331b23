"""The commands of the command line, as Python functions of the same names and options.

from maskcon.commands import train
run = train(data="cifar100", method="maskcon", tau=0.05, out="runs/x")
run["results"]["recall@1"]
"""

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from maskcon import checkpoint, report, runs
from maskcon.config import MACHINE_FIELDS, Config, read_recipe, resolve
from maskcon.data import DATA_SETS, DataSet, load
from maskcon.device import Precision, hardware, pick_device
from maskcon.errors import InputError, Interrupted, TrainingError
from maskcon.evaluate import Preparation, embed, pixel_recall, recall_of
from maskcon.methods import METHODS
from maskcon.progress import Progress, Silent
from maskcon.train import Training, fit

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
    recipe: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Train an encoder and fill a run folder.

    Args:
        out: the run folder; refused if it exists, unless `resume` or `overwrite`.
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
    config = _resumed(folder, options, recipe) if resume else _resolve(options, recipe)
    data = _load(config, progress)
    if resume:
        run = runs.read(folder)
        # what "auto" meant where the run began; its weights are in the checkpoint
        as_before = replace(config, precision=run["precision"], init="scratch")
        training = Training(as_before, data, progress)
        run.pop("error", None)
        again = {**runs.provenance(), "hardware": hardware(training.device)}
        run.setdefault("resumed", []).append(again)
    else:
        training = Training(config, data, progress)
        runs.make(folder)
        run = {
            **runs.provenance(),
            "config": config.as_dict(),
            "hardware": hardware(training.device),
            "precision": training.precision.name,
            "data": _describe(data),
            "results": {},
        }

    def record(status: str, **more: Any) -> None:
        run.update(status=status, **more)
        runs.write(folder, run)

    record("running")
    try:
        outcome = fit(training, data, folder, resume=resume, progress=progress)
    except Interrupted:
        with contextlib.suppress(TrainingError):  # a full disk: the checkpoint is written
            record("interrupted")
        raise
    except TrainingError as error:
        with contextlib.suppress(TrainingError):  # a full disk: the first error matters
            record("failed", error=str(error))
        raise
    results: dict[str, Any] = {**training.last}
    if results:
        results |= {"best": training.best, "pixels": pixel_recall(data.test)}
    record("finished", results=results, training=outcome)
    report.write(folder, run, data, training.features(data.test.images).cpu(), progress)
    return run


def eval(
    run: str | Path,
    *,
    data: str | None = None,
    data_dir: str | Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    download: bool = False,
    json: str | Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Recall@1, 2, 5, 10 of a run's encoder on a test split's fine labels.

    Args:
        run: a run folder.
        data: a data set's name or path; by default the run's own.
        data_dir: where a named data set lies.
        device: where to compute.
        precision: of the network.
        download: fetch a named data set that is not there.
        json: a file to write the results to.
        progress: told how it goes.

    Returns:
        {"recall@1": share in [0, 1], ..., "pixels": the same of raw pixels, "images": count}

    Raises:
        InputError: no run there, no such data, or no fine labels in it.
    """
    progress = progress or Silent()
    folder = Path(run)
    config = runs.read(folder)["config"]
    encoder, description = checkpoint.load_encoder(folder)
    where = pick_device(device)
    numbers = Precision.pick(precision, where)
    if json is not None and not Path(json).absolute().parent.is_dir():
        raise InputError(f"{Path(json).parent} is no folder: make it, or give another --json")
    if data is None:
        data, data_dir = config["data"], data_dir or config["data_dir"]
    loaded = load(
        data,
        data_dir=Path(data_dir) if data_dir else None,
        download=download,
        image_size=description["image_size"],
    )
    if loaded.test.fine is None:
        raise InputError(f"{data} has no fine labels: there is nothing to evaluate against")
    progress.update(f"embedding {len(loaded.test):,} images")
    features = embed(
        encoder.to(where),
        loaded.test.images,
        Preparation.of(description),
        numbers,
    )
    progress.close()
    results = {
        **recall_of(features, loaded.test),
        "pixels": pixel_recall(loaded.test),
        "images": len(loaded.test),
    }
    if json is not None:
        checkpoint.write_json(Path(json), results)
    return results


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


def methods() -> dict[str, str]:
    """Name and summary of every method."""
    return {name: method.summary for name, method in METHODS.items()}


def datasets() -> dict[str, str]:
    """Name and summary of every data set that maskcon knows by name."""
    return {name: known.summary for name, known in DATA_SETS.items()}


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


def _load(config: Config, progress: Progress) -> DataSet:
    progress.update(f"reading {config.data}")
    data = load(
        config.data,
        data_dir=Path(config.data_dir) if config.data_dir else None,
        download=config.download,
        image_size=config.image_size,
        workers=config.workers,
    )
    progress.note(
        f"{data.name}: {len(data.train):,} train and {len(data.test):,} test images, "
        f"{len(data.coarse_names)} coarse and {len(data.fine_names) or 'no'} fine classes"
    )
    return data


def _describe(data: DataSet) -> dict[str, Any]:
    return {
        "name": data.name,
        "train": len(data.train),
        "test": len(data.test),
        "coarse": list(data.coarse_names),
        "fine": len(data.fine_names),
    }
