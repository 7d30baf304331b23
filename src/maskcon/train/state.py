"""Everything that changes while a run trains, and how it is saved."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from maskcon.config import Config
from maskcon.data import DataSet, Images, Split
from maskcon.data.image_file import content_hash
from maskcon.data.images import InOrder, of_tensor
from maskcon.errors import DivergedError, InputError
from maskcon.eval.recall import recall_of
from maskcon.methods import Lots
from maskcon.methods.bank import MemoryBank
from maskcon.methods.schedules import learning_rate, scheduled
from maskcon.model.graph import computing
from maskcon.model.network import Network
from maskcon.model.pair import EncoderPair
from maskcon.model.preprocessing import Preprocessing
from maskcon.runtime.device import Precision, pick_device, reuse_memory
from maskcon.runtime.distributed import ALONE, Ranks
from maskcon.runtime.progress import Progress, Silent
from maskcon.runtime.seeds import seed_of
from maskcon.runtime.threads import threads_of
from maskcon.train import build
from maskcon.train.batches import Batches
from maskcon.train.best import PREFIX, Best
from maskcon.train.cuda_graph import Captured
from maskcon.train.encoders import Encoders
from maskcon.train.loss_log import Losses, LossLog
from maskcon.train.memory import check_activations
from maskcon.train.optimizer import capturable, optimizer_of, set_rate
from maskcon.train.parallel import with_shared_statistics
from maskcon.train.step import Batch, step
from maskcon.train.verdict import validated
from maskcon.vectors.once import embed

CHECKPOINT_FORMAT = 2


class Training:
    """Everything that changes while a run trains: networks, bank, optimizer, step count.

    All of it is the same in all `ranks`; each makes the views and the outputs of its part of a
    batch, and what a loss needs of the others' is gathered.

    Args:
        config: of the run.
        data: to train on, and to test with.
        notify: told what a person should know.
        ranks: who share a batch.
        stored: how images become the input, where a run goes on that has begun.
        lots: that people's answers make of classes, and the lot of each train image [N].

    Attributes:
        encoder: the query encoder.
        pair: the query and key encoder; None for methods without keys.
        encoders: both, as a step uses them.
        bank: earlier keys; None for methods without keys.
        label: that training sees of each image [N]; with `lots`, its lot.
        lots: what people said of kinds; None where they said nothing.
        batches: what the steps see.
        hyper: hyper-parameters; those that change are tensors, which a CUDA graph reads anew.
        steps: optimizer steps done.
        threads: that share an operator while it trains.
        last: the last evaluation, {"recall@1": r, ...}; of the test images.
        validation: the same of validation images, {"validation/recall@1": r, ...}, and where they
            have no fine labels "validation/stable"; empty without.
        best: the best epoch so far.
    """

    lots: Lots | None

    def __init__(
        self,
        config: Config,
        data: DataSet,
        notify: Progress | None = None,
        ranks: Ranks = ALONE,
        stored: Preprocessing | None = None,
        lots: tuple[Lots, Tensor] | None = None,
    ):
        reuse_memory()
        images = data.train.images
        config = config.settled(len(data.train), images.side)
        self.config, self.ranks, self._notify = config, ranks, notify or Silent()
        self.objective = build.check(config, data)
        self.method = self.objective.method
        self.device = pick_device(config.device)
        self.precision = _precision(config, self.device)
        self.fingerprints = _fingerprints(data, lots)
        label, names = build.labels_of(config, data)
        self.lots, label = (None, label) if lots is None else (lots[0].to(self.device), lots[1])
        built = build.network_of(config, self.objective, len(names), data, stored)
        network, self.preprocessing = built
        check_activations(network, config, ranks)
        self._probe = images.probe(config.batch_size, config.image_size)
        build.check_network(network, config, self._probe, self.method.crops, ranks)
        with_shared_statistics(network, ranks, self.device.type == "cuda", self._notify)
        self.encoder = network.to(self.device).to(memory_format=torch.channels_last)
        self.threads = threads_of(self.encoder, self._probe)
        self.images = build.fit_head(self.encoder, images.to(self.device), config)
        ranks.broadcast(list(self.encoder.state_dict().values()))
        self.label = label.to(self.device)
        self.batches = Batches(
            self.images, self.label, config, self.objective, self.preprocessing, ranks
        )
        self.steps_per_epoch = self.batches.steps_per_epoch
        self.total_steps = config.epochs * self.steps_per_epoch
        self.pair = EncoderPair(self.encoder, config.ema) if self.method.key == "momentum" else None
        self.bank: MemoryBank | None = None
        if self.method.bank:
            self.bank = build.bank_of(config, len(images), self._notify).to(self.device)
        self.schedules = scheduled(config.hyper)
        changing = {name: torch.zeros((), device=self.device) for name in self.schedules}
        self.hyper: dict[str, Any] = {**config.hyper, **changing}
        self.scaler = self.precision.scaler()
        scaled = self.scaler.is_enabled()
        self.optimizer = optimizer_of(self.encoder, config, self.device, scaled=scaled)
        self._set_shares()
        self.steps, self.best = 0, Best()
        self.last: dict[str, float] = {}
        self.validation: dict[str, float] = {}
        self._losses = LossLog(self.device, ranks, self.steps_per_epoch)
        self._run = self._runner()
        self.encoders = Encoders(
            self.encoder, self.pair, self.preprocessing, self.precision, config.micro_batch
        )
        if config.compile:
            self._notify.update("compiling the networks")
            images_of_part = self._probe[ranks.part(len(self._probe))].to(self.device)
            self.encoders.compile(torch.zeros_like(images_of_part))
        self.encoders.share(ranks)

    def _set_shares(self) -> None:
        """What of the whole batch's loss is this process's, and of its gradient.

        Gradients become the mean of the processes', and shall be the whole batch's.
        """
        part = self.ranks.part(self.config.batch_size)
        self.own_rows = torch.arange(part.start, part.stop, device=self.device)
        self.loss_share = len(self.own_rows) / self.config.batch_size
        whole = self.method.key == "shared"  # each process computes the loss of all rows
        self.gradient_share = self.ranks.size * (1.0 if whole else self.loss_share)

    def _runner(self) -> Callable[..., Tensor]:
        """The step, as a CUDA graph where that is possible.

        Loss scaling waits for the device, and so do parts of a batch, whose dropout has to be
        drawn twice alike; and what processes exchange is not recorded. LARS has no rate that a
        graph could read anew.
        """
        graph = self.device.type == "cuda" and not self.scaler.is_enabled()
        if not graph or self.config.micro_batch or self.ranks.size > 1:
            return step
        if not capturable(self.optimizer):
            self._notify.note(
                f"no CUDA graph of the step (the rate of {self.config.optimizer} is a number, "
                "which a graph would not read anew): it runs without, slower"
            )
            return step
        return Captured(step, self.device, self._notify)

    @property
    def compile_seconds(self) -> float:
        """That `torch.compile` took; 0.0 if it was not asked for."""
        return self.encoders.compile_seconds

    def fill_bank(self) -> None:
        """Fill the bank with keys of train images drawn at random, before the first step."""
        if self.bank is None:
            return
        whole = self.config.batch_size
        for label, views, known in self.batches.to_fill(len(self.bank)):
            entering = self.encoders.graph if self.method.crops else self._keys
            z, label = (self.ranks.all_gather(x, whole) for x in (entering(views), label))
            self.bank.enqueue(z[known:], label[known:])

    def _keys(self, views: Tensor) -> Tensor:
        z = self.encoders.key(views).z
        assert z is not None
        return z

    def batch(self) -> Batch:
        """What the next step sees; good until the next batch."""
        return self.batches.next(self.steps)

    def close(self) -> None:
        """End the processes that read pictures; the next batch starts new ones."""
        self.batches.close()

    def step(self, batch: Batch) -> Tensor:
        """One optimizer step; returns the loss, still on the device: this process's share of it.

        What a step depends on besides its batch (rates, and what a network drops) is a function of
        its number, and is set here, outside of what a CUDA graph repeats.
        """
        ranks = self.ranks
        torch.manual_seed(seed_of(self.config.seed, "drop", self.steps * ranks.size + ranks.rank))
        rates = self.rates()
        set_rate(self.optimizer, rates.pop("lr"))
        for name, value in rates.items():
            self.hyper[name].fill_(value)
        loss = self._run(self, batch).clone()  # whose memory the next step uses again
        self.steps += 1
        self._losses.add(loss)
        return loss

    @property
    def lr(self) -> float:
        """Learning rate of the next step."""
        warmup = (self.config.warmup_epochs or 0) * self.steps_per_epoch
        return self.config.lr * learning_rate(self.steps, self.total_steps, warmup)

    def rates(self) -> dict[str, float]:
        """The learning rate, "lr", and hyper-parameters that change, of the next step."""
        done = self.steps / self.total_steps
        return {"lr": self.lr, **{name: value(done) for name, value in self.schedules.items()}}

    @property
    def epoch_ends(self) -> bool:
        """Whether the last step ended an epoch."""
        return self.steps % self.steps_per_epoch == 0

    def take_losses(self) -> Losses:
        """The losses since the last call, on their way to the processor; waits for nothing."""
        return self._losses.take(self.steps)

    def check_finite(self) -> None:
        """See that this state is worth keeping, before it takes the place of an earlier one.

        Raises:
            DivergedError: a loss that was not taken yet, or a feature, is not finite.
        """
        self._losses.check_finite(self.steps)
        self.features(of_tensor(self._probe))

    def features(self, images: Images, progress: Progress | None = None) -> Tensor:
        """Features of the query encoder: float32 [N, F], unit length."""
        return self.features_of(self.encoder, images, progress)

    def features_of(
        self, encoder: Network, images: InOrder, progress: Progress | None = None
    ) -> Tensor:
        """Features of an encoder, computed as the run computes.

        Raises:
            DivergedError: one is not finite.
        """
        self._settle()
        workers = self.config.readers
        found = embed(
            encoder, images, self.preprocessing, self.precision, workers, progress, self.ranks
        )
        if not found.isfinite().all():
            raise DivergedError(f"the features are not finite after step {self.steps - 1}")
        return found

    def recall_of(self, features: Tensor, split: Split) -> dict[str, float]:
        """`maskcon.eval.recall.recall_of`, the work shared."""
        return recall_of(features, split, self.ranks)

    def evaluate(self, epoch: int, data: DataSet, features: Tensor, progress: Progress) -> bool:
        """Judge the encoder; whether it is the best so far.

        Args:
            epoch: that has just ended.
            data: whose validation images choose; of the test images the figures are noted.
            features: of the test images.
            progress: told how it goes.
        """
        self.last = self.recall_of(features, data.test)
        self.validation = {}
        if data.validation is not None:
            found = validated(self, data.validation, progress)
            self.validation = {PREFIX + name: value for name, value in found.items()}
        return self.best.take(epoch, self.last, self.validation, _learned(self.encoder))

    @property
    def stops(self) -> bool:
        """Whether enough evaluations were no better than the best."""
        return 0 < self.config.stop_after <= self.best.waited

    def end_with_best(self) -> None:
        """Take the encoder of the epoch that validation images chose, if they did."""
        if self.best.weights is not None:
            self.encoder.load_state_dict({**_frozen(self.encoder), **self.best.weights})
            self.last = self.best.test

    def _settle(self) -> None:
        """Give all processes one network: statistics of batch norms are of a part of a batch."""
        networks = [self.encoder] if self.pair is None else [self.encoder, self.pair.key]
        self.ranks.broadcast([buffer for network in networks for buffer in network.buffers()])

    def state_dict(self) -> dict[str, Any]:
        """All that an exact continuation needs; of several processes each must ask."""
        self._settle()
        state = {
            "format": CHECKPOINT_FORMAT,
            **self.fingerprints,
            "steps": self.steps,
            "last": self.last,
            **self.best.state_dict(),
            "encoder": _learned(self.encoder),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "losses": self._losses.total().cpu(),
        }
        if self.pair is not None:
            state["key"] = _learned(self.pair.key)
        if self.bank is not None:
            state["bank"] = self.bank.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        if state.get("format") != CHECKPOINT_FORMAT:
            raise InputError(
                f"the checkpoint has format {state.get('format')}, this version of maskcon reads "
                f"{CHECKPOINT_FORMAT}: resume with the version that wrote it"
            )
        for name, now in {"answers": None, **self.fingerprints}.items():
            before = state.get(name, now if name != "answers" else None)
            if before != now:  # 0.1 noted nothing of the test split
                raise InputError(_changed(name))
        saved = {**_frozen(self.encoder), **state["encoder"]}
        _check_parts(self.encoder.state_dict(), saved, self.config.method)
        self.encoder.load_state_dict(saved)
        if self.pair is not None:
            self.pair.key.load_state_dict({**_frozen(self.pair.key), **state["key"]})
        if self.bank is not None:
            self.bank.load_state_dict(state["bank"])
        groups = self.optimizer.state_dict()["param_groups"]  # of this configuration and device
        self.optimizer.load_state_dict({**state["optimizer"], "param_groups": groups})
        self.scaler.load_state_dict(state["scaler"])
        self.steps, self.last = state["steps"], state["last"]
        self.best.load_state_dict(state)
        self.close()
        self._run = self._runner()  # a graph writes to the momenta of before
        self._losses.restore(state["losses"])


def _precision(config: Config, device: torch.device) -> Precision:
    """Of training and of what makes vectors alike, so that a run that goes on has it again."""
    name = computing("auto", config.precision, config.device, config.backend).name
    return Precision.pick(name, device)


def _fingerprints(data: DataSet, lots: tuple[Lots, Tensor] | None) -> dict[str, str]:
    """What tells the images and labels of a run, and what people said of them, from others."""
    splits = {"data": data.train, "test": data.test, "validation": data.validation}
    found = {name: split.fingerprint() for name, split in splits.items() if split is not None}
    if lots is not None:
        said = (lots[0].relation, lots[1])
        found["answers"] = "".join(content_hash(part.numpy()).hex() for part in said)
    return found


def _changed(name: str) -> str:
    """What to say where a fingerprint is another one."""
    if name == "answers":
        return (
            "the answers and names are not those that the run was started with: put the tables "
            "back as they were, or start a new run"
        )
    return (
        "the data set is not the one that the run was started with: its images or labels differ"
        f"{'' if name == 'data' else f' in the {name} split'}. Give --data-dir with the same "
        "files, or start a new run"
    )


def _check_parts(own: Mapping[str, Tensor], saved: Mapping[str, Tensor], method: str) -> None:
    """Refuse the weights of another network than a run's configuration has now.

    Raises:
        InputError: a tensor is missing, too many, or of another shape.
    """
    for name in {**own, **saved}:
        now, then = (list(part[name].shape) if name in part else None for part in (own, saved))
        if now != then:
            raise InputError(
                f"the checkpoint is of another network: {name} is {then or 'missing'}, and "
                f"{now or 'not there'} in {method} of this version of maskcon. Resume with the "
                "version that wrote it, or start a new run"
            )


def _learned(network: Network) -> dict[str, Tensor]:
    """The state of a network without what is frozen, which need not be saved every epoch."""
    fixed = _frozen(network)
    return {name: value for name, value in network.state_dict().items() if name not in fixed}


def _frozen(network: Network) -> dict[str, Tensor]:
    starts = tuple(f"{name}." for name in network.architecture.frozen)
    state = network.state_dict().items()
    return {name: value for name, value in state if f"{name}.".startswith(starts)}
