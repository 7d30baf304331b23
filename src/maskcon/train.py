"""The training loop: one step, and the run that repeats it."""

import errno
import json
import math
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import ResNet

from maskcon import checkpoint
from maskcon.augment import VIEWS
from maskcon.bank import MemoryBank
from maskcon.config import SMALL_IMAGE, Config
from maskcon.data import IMAGE_SIZES, DataSet, Photos
from maskcon.device import Precision, pick_device, reuse_memory
from maskcon.errors import DivergedError, InputError, Interrupted, TrainingError
from maskcon.evaluate import Preparation, embed, recall_of
from maskcon.feed import (
    CropRule,
    Plan,
    PrefillPlan,
    Squares,
    StepPlan,
    first_squares,
    sizes_of,
    squares,
)
from maskcon.methods import METHODS, Step, check_hyper_parameters
from maskcon.model import Architecture, Encoder, EncoderPair
from maskcon.progress import Progress, Silent, duration
from maskcon.seeds import generator, seed_of

CHECKPOINT = "last.ckpt"
METRICS = "metrics.jsonl"
CHECKPOINT_FORMAT = 1


class Training:
    """Everything that changes while a run trains: networks, bank, optimizer, step count.

    Attributes:
        encoder: the query encoder.
        pair: the query and key encoder; None for methods without keys.
        bank: earlier keys; None for methods without keys.
        steps: optimizer steps done.
        last: the last evaluation, {"recall@1": r, ...}.
        best: the best one by recall@1, with its "epoch".
    """

    def __init__(self, config: Config, data: DataSet, notify: Progress | None = None):
        notify = notify or Silent()
        reuse_memory()
        images = data.train.images
        side = images.shape[2] if isinstance(images, Tensor) else IMAGE_SIZES[-1]
        config = config.settled(len(data.train), side)
        _check(config, data)
        self.config = config
        self.method = METHODS[config.method]
        self.device = pick_device(config.device)
        self.precision = Precision.pick(config.precision, self.device)
        self.preparation = Preparation(config.image_size, *data.normalisation())

        self.fingerprint = data.train.fingerprint()
        self.images = images if isinstance(images, Photos) else images.to(self.device)
        self._probe = first_squares(images, config.batch_size, config.image_size)
        label, names = data.train.coarse, data.coarse_names
        if config.label == "fine":
            assert data.train.fine is not None  # _check has seen to it
            label, names = data.train.fine, data.fine_names
        self.label = label.to(self.device)
        rule = CropRule(config.crop_area, config.flip, sizes_of(images))
        self._kinds: tuple[str, ...] = (config.query_view,)
        if self.method.key == "momentum":
            self._kinds = (config.query_view, config.key_view)
        self._plan = StepPlan(rule, self._kinds, config.batch_size, config.seed)
        self.steps_per_epoch = self._plan.steps_per_epoch
        self.total_steps = config.epochs * self.steps_per_epoch

        torch.manual_seed(seed_of(config.seed, "weights"))
        stem = config.stem
        if stem == "auto":
            stem = "small" if config.image_size <= SMALL_IMAGE else "large"
        architecture = Architecture(
            backbone=config.backbone,
            stem=stem,
            heads=self.method.heads,
            projection=config.projection,
            classes=len(names),
        )
        encoder = Encoder(architecture, init=config.init)
        _check_network(encoder, config)
        self.encoder = encoder.to(self.device).to(memory_format=torch.channels_last)
        self.pair: EncoderPair | None = None
        self.bank: MemoryBank | None = None
        if self.method.key == "momentum":
            self.pair = EncoderPair(self.encoder, config.ema)
            size = config.bank_size
            if size > len(self.images):
                size = len(self.images)
                notify.note(
                    f"bank: {size:,} rows in place of {config.bank_size:,}, one for each train "
                    "image: in a larger bank every image would meet its own old key"
                )
            self.bank = MemoryBank(size, config.projection).to(self.device)
        self.optimizer = torch.optim.SGD(
            self.encoder.parameters(),
            lr=config.lr,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
        )
        self.scaler = self.precision.scaler()
        self.steps = 0
        self.last: dict[str, float] = {}
        self.best: dict[str, float] = {}
        self._stream: Squares | None = None  # from this step on
        self._losses: list[Tensor] = []  # since the last line of metrics; on the device

    def fill_bank(self) -> None:
        """Fill the bank with keys of train images drawn at random, before the first step."""
        if self.bank is None:
            return
        config = self.config
        plan = PrefillPlan(
            self._plan.rule, config.key_view, len(self.bank), config.batch_size, config.seed
        )
        filled = 0
        for number, (rows, (view,)) in enumerate(self._squares(plan, range(len(plan.starts)))):
            random = generator(config.seed, "prefill", 2 + 2 * number)
            z = self._key(self._changed(view, config.key_view, random))
            new = filled - plan.starts[number]
            self.bank.enqueue(z[new:], self.label[rows.to(self.device)][new:])
            filled = plan.starts[number] + config.batch_size

    def batch(self) -> tuple[Tensor, Tensor | None, Tensor]:
        """Query images, key images (None without keys) and labels of the next step."""
        if self._stream is None:
            self._stream = self._squares(self._plan, range(self.steps, self.total_steps))
        rows, views = next(self._stream)
        random = generator(self.config.seed, "views", self.steps)
        query, *key = (
            self._changed(view, kind, random) for view, kind in zip(views, self._kinds, strict=True)
        )
        return query, key[0] if key else None, self.label[rows.to(self.device)]

    def close(self) -> None:
        """End the processes that read pictures; the next batch starts new ones."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def step(self, query_images: Tensor, key_images: Tensor | None, label: Tensor) -> Tensor:
        """One optimizer step; returns the loss, still on the device.

        The key encoder follows first, and the keys enter the bank last, after the loss: no
        query meets its own key among its negatives.
        """
        self._set_lr()
        if self.pair is not None:
            self.pair.update_key()
        with self.precision.autocast():
            query = self.encoder(query_images)
        key = self._key_output(key_images) if key_images is not None else None
        bank = self.bank
        seen = Step(
            query=query,
            key=key,
            label=label,
            bank_z=bank.z if bank is not None else None,
            bank_label=bank.label if bank is not None else None,
        )
        loss = self.method.loss(seen, **self.config.hyper)
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if bank is not None and key is not None and key.z is not None:
            bank.enqueue(key.z, label)
        self.steps += 1
        self._losses.append(loss.detach())
        return loss.detach()

    def mean_loss(self) -> float:
        """Mean loss since the last call.

        Raises:
            DivergedError: one of the losses is not finite; the message names its step.
        """
        losses = self._finite_losses()
        self._losses = []
        return losses.mean().item()

    def check_finite(self) -> None:
        """See that this state is worth keeping, before it takes the place of an earlier one.

        Raises:
            DivergedError: a loss since the last line of metrics, or a feature, is not finite.
        """
        if self._losses:
            self._finite_losses()
        if not self.features(self._probe).isfinite().all():
            raise DivergedError(f"the features are not finite after step {self.steps - 1}")

    def _finite_losses(self) -> Tensor:
        losses = torch.stack(self._losses).cpu().double()
        broken = (~losses.isfinite()).nonzero()
        if len(broken):
            step = self.steps - len(losses) + int(broken[0])
            raise DivergedError(
                f"the loss is {losses[broken[0]].item()} at step {step} "
                f"(epoch {step // self.steps_per_epoch + 1})"
            )
        return losses

    def features(self, images: Tensor | Photos) -> Tensor:
        """Features of the query encoder: float32 [N, F], unit length."""
        return embed(self.encoder, images, self.preparation, self.precision, self.config.readers)

    def state_dict(self) -> dict[str, Any]:
        """All that an exact continuation needs."""
        state = {
            "format": CHECKPOINT_FORMAT,
            "data": self.fingerprint,
            "steps": self.steps,
            "last": self.last,
            "best": self.best,
            "encoder": self.encoder.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "losses": torch.stack(self._losses).cpu() if self._losses else torch.empty(0),
            "random": torch.get_rng_state(),
        }
        if self.device.type == "cuda":
            state["random_cuda"] = torch.cuda.get_rng_state(self.device)
        if self.pair is not None and self.bank is not None:
            state["key"] = self.pair.key.state_dict()
            state["bank"] = self.bank.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        if state.get("format") != CHECKPOINT_FORMAT:
            raise InputError(
                f"the checkpoint has format {state.get('format')}, this version of maskcon reads "
                f"{CHECKPOINT_FORMAT}: resume with the version that wrote it"
            )
        if state["data"] != self.fingerprint:
            raise InputError(
                "the data set is not the one that the run was started with: its images or labels "
                "differ. Give --data-dir with the same files, or start a new run"
            )
        self.encoder.load_state_dict(state["encoder"])
        if self.pair is not None and self.bank is not None:
            self.pair.key.load_state_dict(state["key"])
            self.bank.load_state_dict(state["bank"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.steps, self.last, self.best = state["steps"], state["last"], state["best"]
        self.close()
        self._losses = list(state["losses"].to(self.device))
        torch.set_rng_state(state["random"])
        if self.device.type == "cuda" and "random_cuda" in state:
            torch.cuda.set_rng_state(state["random_cuda"], self.device)

    def _squares(self, plan: Plan, numbers: range) -> Squares:
        size, workers = self.config.image_size, self.config.readers
        return squares(self.images, plan, numbers, size=size, workers=workers)

    def _changed(self, view: Tensor, kind: str, random: torch.Generator) -> Tensor:
        """Squares as the input of an encoder."""
        view = VIEWS[kind].change(view.to(self.device, non_blocking=True), random)
        return self.preparation.normalise(view)

    @torch.no_grad()
    def _key_output(self, images: Tensor):
        assert self.pair is not None
        with self.precision.autocast():
            return self.pair.key(images)

    def _key(self, images: Tensor) -> Tensor:
        return self._key_output(images).z

    def _set_lr(self) -> None:
        lr = self.config.lr * schedule(
            self.steps, self.total_steps, (self.config.warmup_epochs or 0) * self.steps_per_epoch
        )
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    @property
    def lr(self) -> float:
        """Learning rate of the last step."""
        return self.optimizer.param_groups[0]["lr"]


def schedule(step: int, total: int, warmup: float) -> float:
    """Share of the full learning rate at a step: linear warm-up, then a cosine to 0.

    The warm-up lies inside the total and reaches 1 at its end; the cosine begins there.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


def _check(config: Config, data: DataSet) -> None:
    """Refuse what cannot train, before anything is built."""
    method = METHODS[config.method]
    check_hyper_parameters(method, config.hyper)
    for name in ("query_view", "key_view"):
        if getattr(config, name) not in VIEWS:
            raise InputError(
                f"{name} is {getattr(config, name)!r}: expected one of {', '.join(VIEWS)}"
            )
    label = data.train.coarse if config.label == "coarse" else data.train.fine
    if label is None:
        raise InputError(f"{data.name} has no fine labels: train with --label coarse")
    if method.labels and label.unique().numel() < 2:
        raise InputError(
            f"all {len(label):,} train images of {data.name} have one {config.label} label: "
            f"{config.method} needs at least two classes; selfcon needs no labels"
        )
    if len(data.test) < 2:
        raise InputError(f"{data.name} has one test image: an evaluation needs two or more")
    if len(data.train) < config.batch_size:
        raise InputError(
            f"{data.name} has {len(data.train)} train images, fewer than a batch of "
            f"{config.batch_size}: set --batch-size {max(len(data.train) // 4, 2)} or so, "
            "or leave it out"
        )


def _check_network(encoder: Encoder, config: Config) -> None:
    """Refuse a network that cannot train on these images, or not as asked."""
    if config.stem != "auto" and not isinstance(encoder.backbone, ResNet):
        raise InputError(f"stem is {config.stem!r}, but {config.backbone} has no stem to choose")
    size = config.image_size
    try:
        with torch.no_grad():
            encoder.eval()(torch.zeros(2, 3, size, size))
    except Exception as error:  # whatever a network of another library raises
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{config.backbone} cannot take images of {size} px ({reason}): "
            "set another --image-size or --backbone"
        ) from error
    encoder.train()
    has_batch_norm = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in encoder.modules())
    if has_batch_norm and config.batch_size < 2:
        raise InputError(
            "a batch of one image and a network with batch norm: statistics of one image mean "
            "nothing; set --batch-size 2 or more"
        )


def fit(
    training: Training,
    data: DataSet,
    folder: Path,
    *,
    resume: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train to the end, or to an interruption; evaluate; leave a checkpoint each epoch.

    Args:
        training: fresh, or to be resumed.
        data: its data set; the test split is evaluated on.
        folder: of the run, for last.ckpt, metrics.jsonl and the encoder.
        resume: go on from the folder's checkpoint.
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
    config = training.config
    clock = _Clock(training)
    try:
        if resume:
            saved = checkpoint.load_checkpoint(folder / CHECKPOINT)
            training.load_state_dict(saved["training"])
            _truncate(folder / METRICS, saved["metrics_bytes"])
            clock = _Clock(training, saved["seconds"], saved["waited"])
            progress.note(f"resumed after step {training.steps:,} of {training.total_steps:,}")
        else:
            (folder / METRICS).write_bytes(b"")
        with _signals() as received, open(folder / METRICS, "a") as metrics:

            def write(line: dict[str, Any]) -> None:
                metrics.write(json.dumps(line) + "\n")
                metrics.flush()

            def save() -> None:
                training.check_finite()
                metrics.flush()
                os.fsync(metrics.fileno())
                checkpoint.save_checkpoint(
                    folder / CHECKPOINT,
                    {
                        "training": training.state_dict(),
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
                if received:
                    save()
                    raise Interrupted(received[0])
                try:
                    with clock.waiting():
                        batch = training.batch()
                except TrainingError:
                    if received:  # a signal to all processes ended the workers first
                        save()
                        raise Interrupted(received[0]) from None
                    raise
                training.step(*batch)
                epoch, position = divmod(training.steps, training.steps_per_epoch)
                epoch_ends = position == 0
                if training.steps % config.log_every == 0 or epoch_ends:
                    loss = training.mean_loss()
                    write({"step": training.steps, "loss": loss, "lr": training.lr})
                    clock.tick()
                    progress.update(clock.line(loss))
                if epoch_ends:
                    if epoch % config.eval_every == 0 or epoch == config.epochs:
                        progress.update(f"epoch {epoch}/{config.epochs}: evaluating")
                        with clock.paused():
                            last = training.last = recall_of(
                                training.features(data.test.images), data.test
                            )
                            checkpoint.save_encoder(
                                folder, training.encoder, asdict(training.preparation)
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
    except DivergedError as error:
        raise TrainingError(_advice(str(error), folder, training)) from error
    except TrainingError as error:  # a file that could not be written
        raise TrainingError(f"{error}. Make room, then go on with --resume") from error
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        raise TrainingError(
            f"{error}; the last checkpoint is kept in {folder}: "
            f"{'make room' if full else 'mend that'}, then go on with --resume"
        ) from error
    finally:
        training.close()
        progress.close()
    return clock.summary()


def _advice(message: str, folder: Path, training: Training) -> str:
    kept = "no checkpoint was written yet"
    if (folder / CHECKPOINT).exists():
        step = checkpoint.load_checkpoint(folder / CHECKPOINT)["training"]["steps"]
        kept = f"the last good checkpoint, of step {step}, is kept in {folder / CHECKPOINT}"
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

    def tick(self) -> None:
        self.recent = [*self.recent[-10:], (self.seconds, self.training.steps)]

    def line(self, loss: float) -> str:
        training = self.training
        (t0, s0), (t1, s1) = self.recent[0], self.recent[-1]
        speed = (s1 - s0) / max(t1 - t0, 1e-9)  # steps a second
        left = (training.total_steps - training.steps) / max(speed, 1e-9)
        epoch = (training.steps - 1) // training.steps_per_epoch + 1
        return (
            f"epoch {epoch}/{training.config.epochs}  loss {loss:.4f}  "
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
