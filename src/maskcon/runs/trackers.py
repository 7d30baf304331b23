"""Callbacks that write a run's curves for TensorBoard, Weights & Biases, MLflow and Trackio.

All but Trackio write to RUN/trackers/NAME. None sends anything unless its own variable of the
environment says so: WANDB_MODE=online, MLFLOW_TRACKING_URI, TRACKIO_SPACE_ID or TRACKIO_SERVER_URL.
"""

import importlib
import io
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from maskcon.config import similar
from maskcon.errors import InputError
from maskcon.runs.callbacks import Begun, Callback, name_of
from maskcon.runs.folder import TRACKERS
from maskcon.runtime.files import make_folder

PROJECT = "maskcon"  # where runs are collected, unless the program's own variable says another


def _package(name: str, extra: str) -> Any:
    """A tracker's package, imported.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"--log {extra} needs the package {name.partition('.')[0]}, which cannot be imported "
            f"({error}): pip install 'maskcon[{extra}]'"
        ) from error


def _folder(run: Begun, name: str) -> Path:
    """Where a tracker writes."""
    folder = run.folder / TRACKERS / name
    make_folder(folder)
    return folder.resolve()


def _texts(config: Mapping[str, Any]) -> dict[str, Any]:
    """Options as every tracker takes them."""
    return {k: v if isinstance(v, bool | int | float | str) else str(v) for k, v in config.items()}


class TensorBoard(Callback):
    """Event files; each process that goes on with a run adds one."""

    def __init__(self) -> None:
        _package("tensorboard", "tensorboard")
        self._writer = importlib.import_module("torch.utils.tensorboard").SummaryWriter

    def begin(self, run: Begun) -> str:
        folder = _folder(run, "tensorboard")
        self._events = self._writer(str(folder))
        if not run.step:
            rows = "\n".join(f"| {k} | {v} |" for k, v in sorted(run.config.items()))
            self._events.add_text("options", f"| option | value |\n|---|---|\n{rows}", 0)
        return f"tensorboard --logdir {folder}"

    def step(self, step: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self._events.add_scalar(name, value, step)
        self._events.flush()  # so that a run that is killed has written what it has told

    evaluation = step

    def notice(self, step: int, line: str) -> None:
        self._events.add_text("notices", line, step)

    def end(self, status: str, results: Mapping[str, Any]) -> None:
        self._events.close()


class Wandb(Callback):
    """Weights & Biases; offline unless WANDB_MODE says otherwise. Source and screen are not kept.

    A run that was resumed offline is several folders of one id.
    """

    def __init__(self) -> None:
        self._wandb = _package("wandb", "wandb")

    def begin(self, run: Begun) -> str:
        folder, mode = _folder(run, "wandb"), os.environ.get("WANDB_MODE", "offline")
        quiet = self._wandb.Settings(silent=True, console="off", disable_git=True)
        self._run = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=run.id,
            name=run.folder.name,
            dir=str(folder),
            config=_texts(run.config),
            mode=mode,
            reinit="create_new",  # beside one that the caller has
            resume="allow" if mode == "online" else None,
            settings=quiet,
        )
        self._run.define_metric("*", step_metric="step")
        return f"{mode}, in {folder}" if mode != "online" else str(self._run.url)

    # Rows of one number would wait for each other, and the last be lost in a kill.
    def step(self, step: int, figures: Mapping[str, float]) -> None:
        self._run.log({"step": step, **figures}, step=2 * step, commit=True)

    def evaluation(self, step: int, figures: Mapping[str, float]) -> None:
        self._run.log({"step": step, **figures}, step=2 * step + 1, commit=True)

    def end(self, status: str, results: Mapping[str, Any]) -> None:
        self._run.finish(exit_code=0 if status == "finished" else 1)


class MLflow(Callback):
    """A database of MLflow, or where MLFLOW_TRACKING_URI says."""

    def __init__(self) -> None:
        self._mlflow = _package("mlflow", "mlflow")
        _package("sqlalchemy", "mlflow")

    def begin(self, run: Begun) -> str:
        where, artifacts = os.environ.get("MLFLOW_TRACKING_URI"), None
        if not where:
            folder = _folder(run, "mlflow")
            where, artifacts = f"sqlite:///{folder}/mlflow.db", folder.as_uri()
        self._client = self._mlflow.MlflowClient(where)
        found = self._client.get_experiment_by_name(PROJECT)
        place = found.experiment_id if found else self._client.create_experiment(PROJECT, artifacts)
        earlier = self._client.search_runs([place], f"tags.maskcon_run = '{run.id}'")
        if earlier:
            self._id = earlier[0].info.run_id
            self._client.update_run(self._id, status="RUNNING")
            return where
        made = self._client.create_run(
            place, run_name=run.folder.name, tags={"maskcon_run": run.id}
        )
        self._id = made.info.run_id
        for name, value in run.config.items():
            self._client.log_param(self._id, name, str(value)[:500])
        return where

    def step(self, step: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():  # names have no @ there
            self._client.log_metric(self._id, re.sub(r"[^\w/. -]", "_", name), value, step=step)

    evaluation = step

    def end(self, status: str, results: Mapping[str, Any]) -> None:
        ended = {"finished": "FINISHED", "interrupted": "KILLED"}.get(status, "FAILED")
        self._client.set_terminated(self._id, ended)


class Trackio(Callback):
    """Trackio's database, which `trackio show` reads, or a space of the hub.

    Its package alone decides where they are, when it is imported (TRACKIO_DIR, TRACKIO_SPACE_ID).
    """

    def __init__(self) -> None:
        self._trackio = _package("trackio", "trackio")

    def begin(self, run: Begun) -> str:
        with redirect_stdout(io.StringIO()):  # what it prints is said below
            self._run = self._trackio.init(
                project=PROJECT,
                name=f"{run.folder.name}-{run.id[:6]}",
                config=_texts(run.config),
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
        where = os.environ.get("TRACKIO_SPACE_ID") or os.environ.get("TRACKIO_SERVER_URL")
        return f"in {where or self._trackio.utils.TRACKIO_DIR}; trackio show --project {PROJECT}"

    def step(self, step: int, figures: Mapping[str, float]) -> None:
        self._run.log({**figures}, step=step)

    evaluation = step

    def end(self, status: str, results: Mapping[str, Any]) -> None:
        with redirect_stdout(io.StringIO()):
            self._run.finish()


MADE: dict[str, type[Callback]] = {
    "tensorboard": TensorBoard,
    "wandb": Wandb,
    "mlflow": MLflow,
    "trackio": Trackio,
}


def callbacks_of(given: Sequence[Callback | str]) -> list[Callback]:
    """Callbacks, those that were named made.

    Args:
        given: callbacks, and names of `MADE`.

    Raises:
        InputError: a name is none of these, is there twice, or its package is not installed.
    """
    if isinstance(given, str):
        raise InputError(f"callbacks is {given!r}: expected a list of callbacks or names")
    made: list[Callback] = []
    for one in given:
        if isinstance(one, str) and one not in MADE:
            raise InputError(
                f"there is no tracker {one!r}{similar(one, list(MADE))}: choose of "
                f"{', '.join(MADE)}"
            )
        made.append(MADE[one]() if isinstance(one, str) else one)
    names = [name_of(callback) for callback in made]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"there are two callbacks {twice[0]}: give each of them once")
    return made
