"""The loop: step, log, evaluate, save."""

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from maskcon.data import DataSet
from maskcon.errors import Interrupted, TrainingError
from maskcon.runtime.distributed import Agreement
from maskcon.runtime.progress import Progress, Silent
from maskcon.runtime.threads import shared_by
from maskcon.train.best import deciding
from maskcon.train.clock import Clock
from maskcon.train.explain import explained
from maskcon.train.state import Training
from maskcon.train.step import Batch
from maskcon.train.watch import Watch


class Recorder(Protocol):
    """What keeps metrics and checkpoints; `maskcon.runs.recorder` writes them to a run folder.

    Attributes:
        loss: the last mean loss that was written; NaN before the first.
    """

    loss: float

    def begin(
        self, training: Training, watch: Watch, *, resume: bool, progress: Progress
    ) -> Mapping[str, float]:
        """Open the metrics; go on from the newest checkpoint, whose times are returned."""
        ...

    def step(self, training: Training, rates: Mapping[str, float]) -> None:
        """After each step, with the rates that it had."""
        ...

    def evaluation(self, training: Training, epoch: int, *, keep: bool) -> None:
        """After each evaluation; whether its encoder takes the place of the one before."""
        ...

    def save(self, training: Training, times: Mapping[str, float]) -> None:
        """Write a checkpoint."""
        ...

    def kept(self) -> str:
        """What there is to go on from, in words."""
        ...

    def close(self) -> None:
        """The run has ended, however it did."""
        ...


def fit(
    training: Training,
    data: DataSet,
    record: Recorder,
    *,
    resume: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train to the end, or to an interruption; evaluate; leave a checkpoint each epoch.

    Of several processes each calls this; the first writes the files.

    Args:
        training: fresh, or to be resumed.
        data: its data set; the test split is evaluated on, and the validation split, if there is
            one, chooses the best epoch.
        record: keeps metrics, checkpoints and the encoder.
        resume: go on from the newest checkpoint that is whole.
        progress: told how the run goes.

    Returns:
        "seconds" of training without evaluations and checkpoints, "images_per_second", and
        "waiting_for_data", a share of the seconds; "stopped", the epoch after which it ended
        early, or None. The evaluations are in `training.last` and `training.best`.

    Raises:
        Interrupted: SIGINT, SIGTERM or SIGHUP; the step at hand was finished and saved.
        TrainingError: a loss that is not finite, or a file that cannot be written.
    """
    progress = progress or Silent()
    asked, watch = Agreement(training.ranks), Watch(progress.note, training.config.lr)
    few = shared_by(training.threads)
    with explained(training, record, progress), _signals() as received, few:
        before = record.begin(training, watch, resume=resume, progress=progress)
        clock = Clock(training, **before)
        if not resume:
            with clock.paused():
                progress.update("filling the bank")
                training.fill_bank()
                record.save(training, clock.times)
        while training.steps < training.total_steps and not training.stops:
            stop = asked(received[0] if received else 0)
            if stop:
                record.save(training, clock.times)
                raise Interrupted(stop)
            batch = _next_batch(training, record, clock, received)
            rates = training.rates()
            training.step(batch)
            record.step(training, rates)
            if clock.due():
                progress.update(clock.line(record.loss))
                if expectation := clock.expectation():
                    progress.note(expectation)
            if training.epoch_ends:
                with clock.paused():
                    _evaluate(training, data, record, watch, progress)
                    record.save(training, clock.times)
                watch.scale(training.scaler.get_scale())
        asked.close()
        training.end_with_best()
    return {**clock.summary(), "stopped": _stopped(training, progress)}


def fit_silently(
    training: Training, each_epoch: Callable[[int, float], object] | None = None
) -> None:
    """Train to the end, and nothing else: no evaluation, no file, no answer to a signal.

    Args:
        training: fresh.
        each_epoch: told at the end of each its number, from 1, and the mean of its losses.

    Raises:
        DivergedError: a loss or a feature is not finite.
    """
    try:
        with shared_by(training.threads):
            training.fill_bank()
            while training.steps < training.total_steps:
                training.step(training.batch())
                if training.epoch_ends and each_epoch is not None:
                    epoch = training.steps // training.steps_per_epoch
                    each_epoch(epoch, training.take_losses().mean())
        training.check_finite()
    finally:
        training.close()


def _stopped(training: Training, progress: Progress) -> int | None:
    """The epoch after which training ended early, which is told; None if it did not."""
    if training.steps == training.total_steps:
        return None
    epoch, best = training.steps // training.steps_per_epoch, training.best
    progress.note(
        f"stopped after epoch {epoch}: {best.waited} evaluations were no better than that of epoch "
        f"{best.results['epoch']}, by the validation images"
    )
    return epoch


def _next_batch(training: Training, record: Recorder, clock: Clock, received: list[int]) -> Batch:
    """The next batch; a signal that went to all processes may have ended the readers first."""
    try:
        with clock.waiting():
            return training.batch()
    except TrainingError:
        if received and training.ranks.size == 1:
            record.save(training, clock.times)
            raise Interrupted(received[0]) from None
        raise


def _evaluate(
    training: Training, data: DataSet, record: Recorder, watch: Watch, progress: Progress
) -> None:
    """At the end of an epoch: evaluate, where it is time to."""
    config, epoch = training.config, training.steps // training.steps_per_epoch
    if epoch % config.eval_every and epoch != config.epochs:
        return
    progress.update(f"epoch {epoch}/{config.epochs}: evaluating")
    features = training.features(data.test.images, progress)
    watch.embeddings(features)
    better = training.evaluate(epoch, data, features, progress)
    record.evaluation(training, epoch, keep=better or not training.validation)
    figures = {**training.last, **deciding(training.validation)}
    shown = "  ".join(f"{k} {v:.2%}" for k, v in figures.items())
    progress.note(f"epoch {epoch}/{config.epochs}: {shown}")


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect what asks a run to stop, so that a step is never cut; a second one acts at once."""
    received: list[int] = []

    def handle(number: int, frame: Any) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    numbers = [signal.SIGINT, signal.SIGTERM]
    hangup = getattr(signal, "SIGHUP", None)  # of a terminal that was closed; not on Windows
    if hangup is not None and signal.getsignal(hangup) != signal.SIG_IGN:  # as nohup has it
        numbers.append(hangup)
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
