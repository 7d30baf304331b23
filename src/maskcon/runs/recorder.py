"""Metrics and checkpoints of a run folder, as the loop hands them over."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from maskcon.errors import InputError, TrainingError
from maskcon.model.saved import save_encoder
from maskcon.runs import checkpoint
from maskcon.runs.callbacks import Begun, Callbacks
from maskcon.runs.folder import METRICS, metrics
from maskcon.runtime.files import appending, flush
from maskcon.runtime.progress import Progress, Silent
from maskcon.train.loss_log import Losses
from maskcon.train.state import Training
from maskcon.train.watch import Watch


class FolderRecorder:
    """Writes metrics.jsonl, the checkpoints and the encoder; of several processes the first does.

    Args:
        folder: of the run.
        callbacks: told what is written.

    Attributes:
        loss: the last mean loss that was written.
    """

    def __init__(self, folder: Path, callbacks: Callbacks | None = None):
        self.folder, self._callbacks = folder, callbacks or Callbacks()
        self.loss = math.nan
        self._metrics: BinaryIO | None = None  # of the first process
        self._watch: Watch | None = None
        # losses on their way from the device, with what else their line says
        self._under_way: tuple[Losses, dict[str, float]] | None = None

    def begin(
        self, training: Training, watch: Watch, *, resume: bool, progress: Progress
    ) -> dict[str, float]:
        """Open the metrics; where a run is resumed, go on from its newest checkpoint.

        Returns:
            "seconds" and "waited" of the run so far.
        """
        self._watch = watch
        times: dict[str, float] = {}
        if resume:
            saved = checkpoint.newest_checkpoint(self.folder, progress)
            training.load_state_dict(saved["training"])
            times = {"seconds": saved["seconds"], "waited": saved["waited"]}
            progress.note(f"resumed after step {training.steps:,} of {training.total_steps:,}")
        if training.ranks.is_main:
            size = saved["metrics_bytes"] if resume else 0
            self._metrics = _metrics(self.folder / METRICS, size)
            config, before = training.config.as_dict(), metrics(self.folder)
            run = Begun(
                self.folder, self._callbacks.id, config, training.steps, training.total_steps
            )
            self._callbacks.begin(run, before, progress)
        return times

    def step(self, training: Training, rates: Mapping[str, float]) -> None:
        """Every so many steps: the losses since then, when they have arrived.

        The device does not stand still for them: they are read while it goes on.
        """
        if training.steps % training.config.log_every and not training.epoch_ends:
            return
        self._write_losses()
        losses = training.take_losses()
        self._under_way = losses, {"step": training.steps, **rates}
        if training.epoch_ends or losses.here:
            self._write_losses()

    def evaluation(self, training: Training, epoch: int, *, keep: bool) -> None:
        """The encoder, if it is to be kept, and a line of what it is worth."""
        if training.ranks.is_main and keep:
            save_encoder(self.folder, training.encoder, training.preprocessing.described())
        line = {"step": training.steps, "epoch": epoch}
        self._write({**line, **training.last, **training.validation})

    def save(self, training: Training, times: Mapping[str, float]) -> None:
        """A checkpoint, after the metrics that it counts are on the disk."""
        self._write_losses()
        training.check_finite()
        state = training.state_dict()
        if self._metrics is None:
            return
        flush(self._metrics)
        written = {"metrics_bytes": self._metrics.tell(), **times}
        checkpoint.save_checkpoint(self.folder, {"training": state, **written})
        self._callbacks.checkpoint(training.steps, self.folder)

    def kept(self) -> str:
        """What there is to go on from."""
        step = self.steps_kept()
        if not step:
            return "no epoch was finished, so that there is nothing to keep"
        return f"the last good checkpoint, of step {step}, is kept in {self.folder}"

    def steps_kept(self) -> int:
        """The steps of the newest checkpoint; 0 where there is none."""
        if not checkpoint.has_checkpoint(self.folder):
            return 0
        return int(checkpoint.newest_checkpoint(self.folder, Silent())["training"]["steps"])

    def close(self) -> None:
        """Close the metrics."""
        if self._metrics is not None:
            self._metrics.close()
            self._metrics = None

    def _write_losses(self) -> None:
        if self._under_way is not None:
            losses, line = self._under_way
            self._under_way = None
            self.loss = losses.mean()
            if self._watch is not None:
                self._watch.loss(int(line["step"]), self.loss)
            self._write({"step": line.pop("step"), "loss": self.loss, **line})

    def _write(self, line: Mapping[str, Any]) -> None:
        if self._metrics is None:
            return
        try:
            self._metrics.write((json.dumps(line) + "\n").encode())
            self._metrics.flush()
        except OSError as error:
            raise TrainingError(
                f"{self.folder / METRICS} could not be written: {error}; {self.kept()}"
            ) from error
        self._callbacks.line(line)


def _metrics(path: Path, size: int) -> BinaryIO:
    """The file to go on with, without the lines that were written after the checkpoint."""
    if size and (not path.exists() or path.stat().st_size < size):
        raise InputError(
            f"{path} is missing or shorter than when the checkpoint was written: put it back, "
            "or start a new run"
        )
    try:
        return appending(path, size=size)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error}") from error
