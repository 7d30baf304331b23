"""The run that repeats the step: evaluations, checkpoints, signals, and what goes wrong."""

import errno
import io
import json
import math
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from maskcon.data import DataSet
from maskcon.errors import DivergedError, InputError, Interrupted, TrainingError
from maskcon.runs import checkpoint
from maskcon.runs.folder import METRICS
from maskcon.runtime.distributed import Agreement, Ranks
from maskcon.runtime.progress import Progress, Silent, duration
from maskcon.train.training import Losses, Training
from maskcon.train.watch import Watch

TELL_EVERY = 1.0  # seconds between looks at the speed
RECENT = 20  # of them that the speed on the screen is the mean of


def fit(
    training: Training,
    data: DataSet,
    folder: Path,
    *,
    resume: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train to the end, or to an interruption; evaluate; leave a checkpoint each epoch.

    Of several processes each calls this; the first writes the files.

    Args:
        training: fresh, or to be resumed.
        data: its data set; the test split is evaluated on.
        folder: of the run, for the checkpoints, metrics.jsonl and the encoder.
        resume: go on from the folder's newest checkpoint that is whole.
        progress: told how the run goes.

    Returns:
        "seconds" of training without evaluations and checkpoints, "images_per_second", and
        "waiting_for_data", a share of the seconds. The evaluations are in `training.last` and
        `training.best`, empty without fine labels.

    Raises:
        Interrupted: SIGINT or SIGTERM; the step at hand was finished and saved.
        TrainingError: a loss that is not finite, or a file that cannot be written.
    """
    progress = progress or Silent()
    config, ranks = training.config, training.ranks
    clock = _Clock(training)
    asked = Agreement(ranks)
    watch = Watch(progress.note, config.lr)
    try:
        if resume:
            saved = checkpoint.newest_checkpoint(folder, progress)
            training.load_state_dict(saved["training"])
            if ranks.is_main:
                _truncate(folder / METRICS, saved["metrics_bytes"])
            clock = _Clock(training, saved["seconds"], saved["waited"])
            progress.note(f"resumed after step {training.steps:,} of {training.total_steps:,}")
        # with what else their line says: the step and its rate, and values that change
        under_way: list[tuple[Losses, dict[str, float]]] = []
        loss = math.nan
        with _signals() as received, _metrics(folder, resume, ranks) as metrics:

            def write(line: dict[str, Any]) -> None:
                metrics.write(json.dumps(line) + "\n")
                metrics.flush()

            def write_losses() -> None:
                nonlocal loss
                if under_way:
                    losses, state = under_way.pop()
                    loss = losses.mean()
                    watch.loss(int(state["step"]), loss)
                    write({"step": state.pop("step"), "loss": loss, **state})

            def save() -> None:
                write_losses()
                training.check_finite()
                state = training.state_dict()
                if not ranks.is_main:
                    return
                metrics.flush()
                os.fsync(metrics.fileno())
                checkpoint.save_checkpoint(
                    folder,
                    {
                        "training": state,
                        "metrics_bytes": metrics.tell(),
                        "seconds": clock.seconds,
                        "waited": clock.wait,
                    },
                )

            if not resume:
                with clock.paused():
                    progress.update("filling the bank")
                    training.fill_bank()
                    save()
            while training.steps < training.total_steps:
                number = asked(received[0] if received else 0)
                if number:
                    save()
                    raise Interrupted(number)
                try:
                    with clock.waiting():
                        batch = training.batch()
                except TrainingError:
                    if received and ranks.size == 1:  # a signal to all ended the workers first
                        save()
                        raise Interrupted(received[0]) from None
                    raise
                state = {"lr": training.lr, **training.scheduled_values()}
                training.step(batch)
                epoch, position = divmod(training.steps, training.steps_per_epoch)
                epoch_ends = position == 0
                if training.steps % config.log_every == 0 or epoch_ends:
                    write_losses()
                    # They are read when they have arrived: the device does not stand still.
                    under_way.append((training.take_losses(), {"step": training.steps, **state}))
                    if epoch_ends or under_way[0][0].here:
                        write_losses()
                if clock.due():
                    progress.update(clock.line(loss))
                if epoch_ends:
                    if epoch % config.eval_every == 0 or epoch == config.epochs:
                        progress.update(f"epoch {epoch}/{config.epochs}: evaluating")
                        with clock.paused():
                            features = training.features(data.test.images, progress)
                            watch.embeddings(features)
                            last = training.last = training.recall_of(features, data.test)
                            if ranks.is_main:
                                checkpoint.save_encoder(
                                    folder, training.encoder, asdict(training.preprocessing)
                                )
                        if last:
                            write({"step": training.steps, "epoch": epoch, **last})
                            first = next(iter(last))  # recall@1, of fine labels if there are any
                            if last[first] > training.best.get(first, -1.0):
                                training.best = {"epoch": epoch, **last}
                            shown = "  ".join(f"{k} {v:.2%}" for k, v in last.items())
                            progress.note(f"epoch {epoch}/{config.epochs}: {shown}")
                    with clock.paused():
                        save()
                    watch.scale(training.scaler.get_scale())
            asked.close()
    except DivergedError as error:
        raise TrainingError(_advice(str(error), folder, training)) from error
    except TrainingError as error:  # a file that could not be written, or read
        mend = "Make room" if isinstance(error.__cause__, OSError) else "Mend that"
        raise TrainingError(f"{error}. {mend}, then go on with --resume") from error
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        raise TrainingError(
            f"{error}; the last checkpoint is kept in {folder}: "
            f"{'make room' if full else 'mend that'}, then go on with --resume"
        ) from error
    except RuntimeError as error:
        if ranks.size == 1:
            raise
        raise TrainingError(  # the words of another library's, where a connection is lost
            f"rank {ranks.rank} of {ranks.size} has stopped, most likely because another one did, "
            f"which tells why ({str(error).strip().splitlines()[-1].split('. ')[0]})"
        ) from error
    finally:
        training.close()
        progress.close()
    return clock.summary()


def _metrics(folder: Path, resume: bool, ranks: Ranks) -> TextIO:
    """The file of metrics, which the first process writes."""
    return open(folder / METRICS, "a" if resume else "w") if ranks.is_main else io.StringIO()


def _advice(message: str, folder: Path, training: Training) -> str:
    kept = "no checkpoint was written yet"
    if checkpoint.has_checkpoint(folder):
        step = checkpoint.newest_checkpoint(folder, Silent())["training"]["steps"]
        kept = f"the last good checkpoint, of step {step}, is kept in {folder}"
    return f"{message}; {kept}. Start again with a lower --lr than {training.config.lr:g}" + (
        ", or --precision fp32" if training.precision.name != "fp32" else ""
    )


def _truncate(path: Path, size: int) -> None:
    """Drop the lines that were written after the checkpoint."""
    if not path.exists() or path.stat().st_size < size:
        raise InputError(
            f"{path} is missing or shorter than when the checkpoint was written: put it back, "
            "or start a new run"
        )
    with open(path, "r+b") as file:
        file.truncate(size)


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM, so that a step is never cut; a second one acts at once."""
    received: list[int] = []

    def handle(number: int, frame: Any) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    numbers = (signal.SIGINT, signal.SIGTERM)
    try:
        before = [signal.signal(number, handle) for number in numbers]
    except ValueError:  # not the main thread: whoever is there handles signals
        yield received
        return
    try:
        yield received
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


class _Clock:
    """Speed, time left and share of time spent waiting for data."""

    def __init__(self, training: Training, before: float = 0.0, waited: float = 0.0):
        self.training = training
        self.start = time.perf_counter() - before  # seconds of the run before it was resumed
        self.wait = waited
        self.pause = 0.0
        self.recent: list[tuple[float, int]] = [(before, training.steps)]

    @contextmanager
    def waiting(self) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.wait += time.perf_counter() - start

    @contextmanager
    def paused(self) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.pause += time.perf_counter() - start

    @property
    def seconds(self) -> float:
        """Time spent training, without evaluations and checkpoints."""
        return time.perf_counter() - self.start - self.pause

    def due(self) -> bool:
        """Whether it is time to tell how it goes; remembers how far it is."""
        now = self.seconds
        if now - self.recent[-1][0] < TELL_EVERY:
            return False
        self.recent = [*self.recent[-RECENT:], (now, self.training.steps)]
        return True

    def line(self, loss: float) -> str:
        training = self.training
        (t0, s0), (t1, s1) = self.recent[0], self.recent[-1]
        speed = (s1 - s0) / max(t1 - t0, 1e-9)  # steps a second
        left = (training.total_steps - training.steps) / max(speed, 1e-9)
        epoch = (training.steps - 1) // training.steps_per_epoch + 1
        return (
            f"epoch {epoch}/{training.config.epochs}  "
            f"{'' if math.isnan(loss) else f'loss {loss:.4f}  '}"
            f"{speed * training.config.batch_size:,.0f} images/s  {duration(left)} left  "
            f"waiting for data {self.wait / max(self.seconds, 1e-9):.1%}"
        )

    def summary(self) -> dict[str, float]:
        images = self.training.steps * self.training.config.batch_size
        return {
            "seconds": round(self.seconds, 2),
            "images_per_second": round(images / max(self.seconds, 1e-9), 1),
            "waiting_for_data": round(self.wait / max(self.seconds, 1e-9), 4),
        }
