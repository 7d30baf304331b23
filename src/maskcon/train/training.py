"""The training step, and all that changes while it is repeated."""

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torchvision.models import ResNet

from maskcon.config import SMALL_IMAGE, Config
from maskcon.data import DataSet, Features, Images, InMemory, Split
from maskcon.data.augment import VIEWS
from maskcon.data.augment.crop import SMALL, small_boxes, small_crops
from maskcon.data.images import FeatureAugmentation, of_tensor
from maskcon.data.plans import Plan, PrefillPlan, Squares, StepPlan
from maskcon.errors import DivergedError, InputError
from maskcon.eval.recall import recall_of
from maskcon.methods import METHODS, Mixed, Output, Step, mixing
from maskcon.methods.bank import MemoryBank
from maskcon.methods.objective import Objective, check_hyper_parameters
from maskcon.methods.schedules import learning_rate, scheduled
from maskcon.model.blocks import Layered, before_last
from maskcon.model.network import Architecture, EncoderPair, Headed, Network
from maskcon.model.preprocessing import Preprocessing
from maskcon.model.residual_head import VECTORS, HeadShape
from maskcon.runs.checkpoint import load_encoder
from maskcon.runtime.device import Precision, pick_device, reuse_memory
from maskcon.runtime.distributed import ALONE, Ranks
from maskcon.runtime.progress import Progress, Silent
from maskcon.runtime.seeds import generator, seed_of
from maskcon.train.cuda_graph import Captured
from maskcon.train.gradient_cache import backward_in_parts, join, parts_of
from maskcon.vectors.encode import embed

CHECKPOINT_FORMAT = 2


@dataclass(frozen=True)
class Losses:
    """Losses of some steps, perhaps still on their way from the device.

    Attributes:
        first: the step of the first one.
        values: float32 on the processor, once they have `arrived`.
        arrived: None where they have been there from the beginning.
        steps_per_epoch: to say in which epoch one is not finite.
    """

    first: int
    values: Tensor
    arrived: torch.cuda.Event | None
    steps_per_epoch: int

    @property
    def here(self) -> bool:
        """Whether they can be read without waiting."""
        return self.arrived is None or self.arrived.query()

    def mean(self) -> float:
        """Their mean; waits for them.

        Raises:
            DivergedError: one of the losses is not finite; the message names its step.
        """
        if self.arrived is not None:
            self.arrived.synchronize()
        broken = (~self.values.isfinite()).nonzero()
        if len(broken):
            step = self.first + int(broken[0])
            raise DivergedError(
                f"the loss is {self.values[broken[0]].item()} at step {step} "
                f"(epoch {step // self.steps_per_epoch + 1})"
            )
        return self.values.double().mean().item()


class Batch(NamedTuple):
    """What one step sees, on the device: of several processes, this one's part of the batch.

    Attributes:
        label: [N].
        query: views uint8 [N, 3, S, S].
        key: views of the same images, likewise; None for methods without keys.
        crops: small crops of the key views, uint8 [N, 3, s, s].
        partner: row of the whole batch with whose key view each query view is mixed [N].
        share: of the query view in the mixture [N].
    """

    label: Tensor
    query: Tensor
    key: Tensor | None = None
    crops: Tensor | None = None
    partner: Tensor | None = None
    share: Tensor | None = None


class Training:
    """Everything that changes while a run trains: networks, bank, optimizer, step count.

    All of it is the same in all `ranks`; each makes the views and the outputs of its part of a
    batch, and what a loss needs of the others' is gathered.

    Attributes:
        encoder: the query encoder.
        pair: the query and key encoder; None for methods without keys.
        bank: earlier keys; None for methods without keys.
        steps: optimizer steps done.
        compile_seconds: that `torch.compile` took; 0.0 if it was not asked for.
        last: the last evaluation, {"recall@1": r, ...}.
        best: the best one by recall@1, with its "epoch".
    """

    def __init__(
        self,
        config: Config,
        data: DataSet,
        notify: Progress | None = None,
        ranks: Ranks = ALONE,
    ):
        notify = notify or Silent()
        self.ranks = ranks
        reuse_memory()
        images = data.train.images
        config = config.settled(len(data.train), images.side)
        _check(config, data)
        self.config = config
        self.objective = _objective(config)
        self.method = self.objective.method
        self.device = pick_device(config.device)
        self.precision = Precision.pick(config.precision, self.device)
        self.preprocessing = Preprocessing(config.image_size, *data.normalisation())

        self.fingerprint = data.train.fingerprint()
        self.images = images.to(self.device)
        self._probe = images.probe(config.batch_size, config.image_size)
        label, names = data.train.coarse, data.coarse_names
        if config.label == "fine":
            assert data.train.fine is not None  # _check has seen to it
            label, names = data.train.fine, data.fine_names
        self.label = label.to(self.device)
        rule = images.crop_rule(config.crop_scale, config.flip)
        self._kinds: tuple[str, ...] = (config.query_view,)
        if self.method.key != "none":
            self._kinds = (config.query_view, config.key_view)
        self._plan = StepPlan(rule, self._kinds, config.batch_size, config.seed)
        self.steps_per_epoch = self._plan.steps_per_epoch
        self.total_steps = config.epochs * self.steps_per_epoch

        torch.manual_seed(seed_of(config.seed, "weights"))
        encoder = self._network(len(names))
        _check_network(encoder, config, self._probe, self.method.crops, ranks)
        if ranks.size > 1 and self.device.type == "cuda":
            encoder = nn.SyncBatchNorm.convert_sync_batchnorm(encoder)
        elif ranks.size > 1 and _has_batch_norm(encoder):
            notify.note(
                f"batch norm: each of {ranks.size} processes normalises its own part of a batch, "
                "since SyncBatchNorm is for GPUs alone"
            )
        self.encoder = encoder.to(self.device).to(memory_format=torch.channels_last)
        if isinstance(self.images, Features) and isinstance(self.encoder.backbone, Headed):
            head = self.encoder.backbone.head
            head.fit(self.images.values[:, 0], *self.images.statistics)
            augmentation = FeatureAugmentation(
                config.feature_noise, config.feature_dropout, head.directions(), head.mean
            )
            self.images = replace(self.images, augmentation=augmentation)
        ranks.broadcast(list(self.encoder.state_dict().values()))
        # The networks, or what they are compiled to.
        self._query: nn.Module = self.encoder
        self.pair: EncoderPair | None = None
        self.bank: MemoryBank | None = None
        if self.method.key == "momentum":
            self.pair = EncoderPair(self.encoder, config.ema)
            self._key: Callable[[Tensor], Output] = self.pair.key
        if self.method.bank:
            size = config.bank_size
            if size > len(self.images):
                size = len(self.images)
                notify.note(
                    f"bank: {size:,} rows in place of {config.bank_size:,}, one for each train "
                    "image: in a larger bank every image would meet its own old key"
                )
            self.bank = MemoryBank(size, config.projection).to(self.device)
        # Hyper-parameters that change are tensors, which a CUDA graph reads anew.
        self.schedules = scheduled(config.hyper)
        self._hyper: dict[str, Any] = {
            **config.hyper,
            **{name: torch.zeros((), device=self.device) for name in self.schedules},
        }
        self.scaler = self.precision.scaler()
        self.optimizer = torch.optim.SGD(
            [p for p in self.encoder.parameters() if p.requires_grad],
            lr=torch.tensor(config.lr, device=self.device),  # which a CUDA graph reads anew
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            fused=not self.scaler.is_enabled(),  # the processor's fused step ignores the scale
        )
        self.steps = 0
        self.last: dict[str, float] = {}
        self.best: dict[str, float] = {}
        self._stream: Squares | None = None  # from this step on
        self._losses: list[Tensor] = []  # not taken yet; on the device
        self._notify = notify
        self._run = self._runner()
        self.compile_seconds = self._compile() if config.compile else 0.0
        self._query = ranks.data_parallel(self._query)

    def _network(self, classes: int) -> Network:
        """The query encoder before the first step: a new one, or that of an earlier run."""
        config = self.config
        architecture = _architecture(config, self.objective, classes, self.images)
        if not Path(config.init).is_dir():
            network = Network(architecture, init=config.init)
        else:
            earlier, description = load_encoder(Path(config.init))
            was = earlier.architecture
            network = Network(
                replace(
                    architecture,
                    backbone=was.backbone,
                    stem=was.stem,
                    layers=was.layers,
                    head=was.head,
                )
            )
            own, state = network.state_dict(), earlier.state_dict()
            network.load_state_dict(  # a projector or classifier of another size begins anew
                {n: v for n, v in state.items() if n in own and own[n].shape == v.shape},
                strict=False,
            )
            self.preprocessing = replace(
                Preprocessing.of(description), image_size=self.preprocessing.image_size
            )
        if config.unfreeze:
            backbone, start = network.backbone, "backbone."
            if isinstance(backbone, Headed) and backbone.trunk is not None:
                backbone, start = backbone.trunk, "backbone.trunk."
            if isinstance(backbone, Layered):
                backbone, start = backbone.backbone, f"{start}backbone."
            network.freeze([start + name for name in before_last(backbone, config.unfreeze)])
        return network

    def fill_bank(self) -> None:
        """Fill the bank with keys of train images drawn at random, before the first step."""
        if self.bank is None:
            return
        config = self.config
        plan = PrefillPlan(
            self._plan.rule, config.key_view, len(self.bank), config.batch_size, config.seed
        )
        filled = 0
        small = round(config.image_size * SMALL)
        for number, (rows, (view,)) in enumerate(self._views(plan, range(len(plan.starts)))):
            if self.method.crops:
                view = InMemory(view).probe(len(view), small)
            z, label = self._of_all(self._entering(view)), self._of_all(self.label[rows])
            new = filled - plan.starts[number]
            self.bank.enqueue(z[new:], label[new:])
            filled = plan.starts[number] + config.batch_size

    def batch(self) -> Batch:
        """What the next step sees; good until the next batch."""
        if self._stream is None:
            self._stream = self._views(self._plan, range(self.steps, self.total_steps))
        rows, made = next(self._stream)
        batch = Batch(self.label[rows], *made)
        config = self.config
        count, part = config.batch_size, self.ranks.part(config.batch_size)
        if self.method.crops:
            random = generator(config.seed, "small", self.steps)
            boxes = small_boxes(made[1].shape[2], count, random)[part]
            batch = batch._replace(crops=small_crops(made[1], boxes))
        if self.objective.mixes:
            drawn = mixing.draw(count, config.mixup_alpha, config.seed, self.steps)
            partner, share = (x[part].to(self.device, non_blocking=True) for x in drawn)
            batch = batch._replace(partner=partner, share=share)
        return batch

    def _of_all(self, rows: Tensor) -> Tensor:
        """The rows of the whole batch, from this process's part of it."""
        return self.ranks.all_gather(rows, self.config.batch_size)

    def close(self) -> None:
        """End the processes that read pictures; the next batch starts new ones."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def step(self, batch: Batch) -> Tensor:
        """One optimizer step; returns the loss, still on the device: this process's share of it.

        The key encoder follows first, and the keys enter the bank last, after the loss: no
        query meets its own key among its negatives.
        """
        # What a network drops is a function of the step, too, and not the same in all processes.
        ranks = self.ranks
        torch.manual_seed(seed_of(self.config.seed, "drop", self.steps * ranks.size + ranks.rank))
        rate = self.lr
        for group in self.optimizer.param_groups:
            group["lr"].fill_(rate)
        for name, value in self.scheduled_values().items():
            self._hyper[name].fill_(value)
        loss, *entering = self._run(*(tensor for tensor in batch if tensor is not None))
        if self.bank is not None:
            self.bank.enqueue(*entering)
        self.steps += 1
        loss = loss.clone()  # whose memory the next step uses again
        self._losses.append(loss)
        return loss

    def scheduled_values(self) -> dict[str, float]:
        """Hyper-parameters that change, as they are in the next step."""
        done = self.steps / self.total_steps
        return {name: schedule(done) for name, schedule in self.schedules.items()}

    def _compute(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """What a step does to the weights: the loss, and what enters the bank if there is one.

        Nothing here waits for the device or depends on the number of the step, so that a
        CUDA graph can stand in for it.

        Args:
            tensors: those of a `Batch` that are there.
        """
        batch = self._as_batch(tensors)
        bank, method, ranks = self.bank, self.method, self.ranks
        part = ranks.part(self.config.batch_size)
        key: Output | None = None
        keys: Tensor | None = None  # of the whole batch
        labels = self._of_all(batch.label) if bank is not None else batch.label
        entering: tuple[Tensor, ...] = ()
        if self.pair is not None and batch.key is not None:
            self.pair.update_key()
            key = self._encode_key(batch.key)
            assert key.z is not None
            keys = self._of_all(key.z)
            entering = (keys, labels)
        if batch.crops is not None:
            entering = (self._of_all(self._entering(batch.crops)), labels)
        batches = [batch.query]  # that the query encoder sees, with gradient
        if method.key == "shared" and batch.key is not None:
            batches.append(batch.key)
        if batch.partner is not None and batch.share is not None and batch.key is not None:
            other = self._of_all(batch.key)[batch.partner]
            query, other = map(self.preprocessing.normalise, (batch.query, other))
            batches.append(mixing.mix(query, other, batch.share))

        def backward(outputs: Sequence[Output]) -> Tensor:
            mixed = None
            if batch.partner is not None and batch.share is not None:
                mixed = Mixed(outputs[-1], batch.share, batch.partner)
            seen = Step(
                query=outputs[0],
                key=outputs[1] if method.key == "shared" else key,
                label=batch.label,
                bank_z=bank.z if bank is not None else None,
                bank_label=bank.label if bank is not None else None,
                batch_z=keys,
                batch_label=labels,
                own=torch.arange(part.start, part.stop, device=self.device),
                prototypes=self.encoder.prototypes,
                mixed=mixed,
            )
            if method.key == "shared":  # each row is compared with all others of the batch
                seen = self._joined(seen)
            loss = self.objective(seen, **self._hyper)
            # Gradients become the mean of the processes', and shall be the whole batch's.
            share = (part.stop - part.start) / self.config.batch_size
            factor = ranks.size * (1.0 if method.key == "shared" else share)
            self.scaler.scale(loss if factor == 1 else factor * loss).backward()
            return loss.detach() if share == 1 else share * loss.detach()

        self.optimizer.zero_grad()
        network = self._query
        loss = backward_in_parts(
            self.encoder,
            lambda images: self._encode(network, images),
            [parts_of(images, self.config.micro_batch) for images in batches],
            backward,
            network.no_sync if isinstance(network, DistributedDataParallel) else nullcontext,
        )
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss, *entering

    def _joined(self, step: Step) -> Step:
        """The step of the whole batch, with gradient through the rows of this process."""

        def join(output: Output) -> Output:
            count, rows = self.config.batch_size, output.tensors()
            joined = {head: rows[head] for head in self.objective.heads if head in rows}
            gather = self.ranks.all_gather_with_gradient
            return Output.of({head: gather(x, count) for head, x in joined.items()})

        if self.ranks.size == 1:
            return step
        assert step.key is not None
        return replace(
            step,
            query=join(step.query),
            key=join(step.key),
            label=self._of_all(step.label) if step.label is not None else None,
            batch_z=None,
            batch_label=None,
            own=None,
        )

    def _as_batch(self, tensors: Sequence[Tensor]) -> Batch:
        """Those tensors of a batch that this method has, by name."""
        there = ["label", "query"]
        there += ["key"] * (self.method.key != "none") + ["crops"] * self.method.crops
        there += ["partner", "share"] * self.objective.mixes
        return Batch(**dict(zip(there, tensors, strict=True)))

    def _runner(self) -> Callable[..., tuple[Tensor, ...]]:
        """`_compute`, as a CUDA graph where that is possible.

        Loss scaling waits for the device, and so do parts of a batch, whose dropout has to be
        drawn twice alike; and what processes exchange is not recorded.
        """
        graph = self.device.type == "cuda" and not self.scaler.is_enabled()
        if not graph or self.config.micro_batch or self.ranks.size > 1:
            return self._compute
        return Captured(self._compute, self.device, self._notify)

    def _compile(self) -> float:
        """Compile the networks for training; return the seconds that it took."""
        self._notify.update("compiling the networks")
        start = time.perf_counter()
        images = self._probe.new_zeros(self.config.batch_size, *self._probe.shape[1:])
        images = images.to(self.device)
        before = {name: value.clone() for name, value in self.encoder.state_dict().items()}
        own = images[self.ranks.part(len(images))]
        part = parts_of(own, self.config.micro_batch)[0]
        try:
            self._query = cast(nn.Module, torch.compile(self.encoder, dynamic=False))
            output = self._encode(self._query, part)
            heads = output.tensors().values()
            torch.stack([value.float().sum() for value in heads]).sum().backward()
            if self.pair is not None:
                self._key = torch.compile(self.pair.key, dynamic=False)
                self._encode_key(part)
        except Exception as error:  # whatever compilers raise
            reason = str(error).strip().splitlines()[0]
            raise InputError(
                f"torch.compile does not work here ({reason}): on a processor it needs a C++ "
                "compiler such as g++. Install one, or leave --compile out"
            ) from error
        self.encoder.load_state_dict(before)  # batch norms have seen the zeros
        if self.pair is not None:
            self.pair.key.load_state_dict(before, strict=False)
        self.optimizer.zero_grad()
        return time.perf_counter() - start

    def take_losses(self) -> Losses:
        """The losses since the last call, on their way to the processor; waits for nothing."""
        values = self._total_losses()
        first = self.steps - len(self._losses)
        self._losses = []
        if self.device.type != "cuda":
            return Losses(first, values, None, self.steps_per_epoch)
        there = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        there.copy_(values, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record(torch.cuda.current_stream(self.device))
        return Losses(first, there, arrived, self.steps_per_epoch)

    def _total_losses(self) -> Tensor:
        """The losses of the steps that were not taken yet, of the whole batches."""
        losses = torch.stack(self._losses) if self._losses else torch.empty(0)
        return self.ranks.all_reduce(losses)

    def check_finite(self) -> None:
        """See that this state is worth keeping, before it takes the place of an earlier one.

        Raises:
            DivergedError: a loss that was not taken yet, or a feature, is not finite.
        """
        if self._losses:
            first = self.steps - len(self._losses)
            losses = self._total_losses().cpu()
            Losses(first, losses, None, self.steps_per_epoch).mean()
        if not self.features(of_tensor(self._probe)).isfinite().all():
            raise DivergedError(f"the features are not finite after step {self.steps - 1}")

    def features(self, images: Images, progress: Progress | None = None) -> Tensor:
        """Features of the query encoder: float32 [N, F], unit length."""
        return self.features_of(self.encoder, images, progress)

    def features_of(
        self, encoder: Network, images: Images, progress: Progress | None = None
    ) -> Tensor:
        """Features of an encoder, computed as the run computes."""
        workers = self.config.readers
        self._settle()
        return embed(
            encoder, images, self.preprocessing, self.precision, workers, progress, self.ranks
        )

    def recall_of(self, features: Tensor, split: Split) -> dict[str, float]:
        """`evaluate.recall_of`, the work shared."""
        return recall_of(features, split, self.ranks)

    def _settle(self) -> None:
        """Give all processes one network: statistics of batch norms are of a part of a batch."""
        networks = [self.encoder] if self.pair is None else [self.encoder, self.pair.key]
        self.ranks.broadcast([buffer for network in networks for buffer in network.buffers()])

    def state_dict(self) -> dict[str, Any]:
        """All that an exact continuation needs; of several processes each must ask."""
        self._settle()
        state = {
            "format": CHECKPOINT_FORMAT,
            "data": self.fingerprint,
            "steps": self.steps,
            "last": self.last,
            "best": self.best,
            "encoder": _learned(self.encoder),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "losses": self._total_losses().cpu(),
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
        if state["data"] != self.fingerprint:
            raise InputError(
                "the data set is not the one that the run was started with: its images or labels "
                "differ. Give --data-dir with the same files, or start a new run"
            )
        self.encoder.load_state_dict({**_frozen(self.encoder), **state["encoder"]})
        if self.pair is not None:
            self.pair.key.load_state_dict({**_frozen(self.pair.key), **state["key"]})
        if self.bank is not None:
            self.bank.load_state_dict(state["bank"])
        self.optimizer.load_state_dict(state["optimizer"])
        for group in self.optimizer.param_groups:
            group["lr"] = torch.tensor(self.config.lr, device=self.device)
        self.scaler.load_state_dict(state["scaler"])
        self.steps, self.last, self.best = state["steps"], state["last"], state["best"]
        self.close()
        self._run = self._runner()  # a graph writes to the momenta of before
        shares = state["losses"] if self.ranks.is_main else torch.zeros_like(state["losses"])
        self._losses = list(shares.to(self.device))

    def _views(self, plan: Plan, numbers: range) -> Squares:
        config = self.config
        return self.images.views(
            plan,
            numbers,
            size=config.image_size,
            workers=config.readers,
            device=self.device,
            ranks=self.ranks,
        )

    def _encode(self, network: Callable[[Tensor], Output], views: Tensor) -> Output:
        """Outputs of views in uint8, or of floats that are normalised; or of vectors."""
        if views.dtype == torch.uint8:
            views = self.preprocessing.normalise(views)
        with self.precision.autocast():
            return network(views)

    @torch.no_grad()
    def _encode_key(self, views: Tensor) -> Output:
        parts = parts_of(views, self.config.micro_batch)
        return join([self._encode(self._key, part) for part in parts])

    @torch.no_grad()
    def _entering(self, views: Tensor) -> Tensor:
        """What enters the bank: keys of key views, or the graph projections of small crops."""
        if not self.method.crops:
            z = self._encode_key(views).z
        else:
            parts = parts_of(views, self.config.micro_batch)
            z = join([self._encode(self._query, part) for part in parts]).graph
        assert z is not None
        return z

    @property
    def lr(self) -> float:
        """Learning rate of the next step."""
        warmup = (self.config.warmup_epochs or 0) * self.steps_per_epoch
        return self.config.lr * learning_rate(self.steps, self.total_steps, warmup)


def _objective(config: Config) -> Objective:
    """The loss of a configuration, its numbers looked at."""
    objective = Objective(METHODS[config.method], config.mixup, config.ce_weight)
    check_hyper_parameters(objective, config.hyper)
    return objective


def _check(config: Config, data: DataSet) -> None:
    """Refuse what cannot train, before anything is built."""
    objective = _objective(config)
    for name in ("query_view", "key_view"):
        if getattr(config, name) not in VIEWS:
            raise InputError(
                f"{name} is {getattr(config, name)!r}: expected one of {', '.join(VIEWS)}"
            )
    if objective.method.crops and not data.train.images.has_pictures:
        raise InputError(f"{config.method} needs small crops of pictures: vectors have none")
    label = data.train.coarse if config.label == "coarse" else data.train.fine
    if label is None:
        raise InputError(f"{data.name} has no fine labels: train with --label coarse")
    if objective.labels and label.unique().numel() < 2:
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


def _learned(network: Network) -> dict[str, Tensor]:
    """The state of a network without what is frozen, which need not be saved every epoch."""
    fixed = _frozen(network)
    return {name: value for name, value in network.state_dict().items() if name not in fixed}


def _frozen(network: Network) -> dict[str, Tensor]:
    starts = tuple(f"{name}." for name in network.architecture.frozen)
    state = network.state_dict().items()
    return {name: value for name, value in state if f"{name}.".startswith(starts)}


def _architecture(
    config: Config, objective: Objective, classes: int, images: Images
) -> Architecture:
    """What network a configuration asks for."""
    stem = config.stem
    if stem == "auto":
        stem = "small" if config.image_size <= SMALL_IMAGE else "large"
    parts = Architecture(
        backbone=config.backbone,
        stem=stem,
        heads=objective.heads,
        projection=config.projection,
        classes=classes,
        deep=objective.method.deep,
    )
    if not isinstance(images, Features):
        return parts
    head = HeadShape(
        parts=images.parts or (images.width,),
        components=min(config.components, images.width),
        hidden=config.head_hidden,
        scale=config.head_scale,
    )
    if config.features is not None:
        return replace(parts, backbone=VECTORS, head=head)
    return replace(parts, head=head, layers=config.layers, frozen=("backbone.trunk",))


def _check_network(
    encoder: Network, config: Config, probe: Tensor, crops: bool, ranks: Ranks
) -> None:
    """Refuse a network that cannot train on these images, or not as asked."""
    has_stem = isinstance(getattr(encoder.backbone, "trunk", encoder.backbone), ResNet)
    if config.stem != "auto" and not has_stem:
        raise InputError(f"stem is {config.stem!r}, but {config.backbone} has no stem to choose")
    size = config.image_size
    try:
        with torch.no_grad():
            for size in (config.image_size, *[round(config.image_size * SMALL)] * crops):
                shape = probe.shape[1:] if probe.ndim == 2 else (3, size, size)
                encoder.eval()(torch.zeros(2, *shape))
    except Exception as error:  # whatever a network of another library raises
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{config.backbone} cannot take images of {size} px ({reason}): "
            "set another --image-size or --backbone"
        ) from error
    encoder.train()
    if config.batch_size < ranks.size:
        raise InputError(
            f"a batch of {config.batch_size} for {ranks.size} processes: each needs an image or "
            "more; set --batch-size larger, or start fewer"
        )
    if config.micro_batch and ranks.size > 1 and encoder.prototypes is not None:
        raise InputError(
            f"--micro-batch does not go with {config.method} on several processes: leave it out, "
            "since each has a part of the batch only"
        )
    parts = parts_of(torch.empty(config.batch_size // ranks.size), config.micro_batch)
    if _has_batch_norm(encoder) and min(map(len, parts)) < 2:
        raise InputError(
            "a batch of one image and a network with batch norm: statistics of one image mean "
            f"nothing; set {'--micro-batch' if len(parts) > 1 else '--batch-size'} larger"
        )


def _has_batch_norm(network: nn.Module) -> bool:
    return any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in network.modules())
