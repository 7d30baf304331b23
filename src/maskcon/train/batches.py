"""What the steps see: views of images, and whatever else a method draws."""

from collections.abc import Iterator

from torch import Tensor

from maskcon.config import Config
from maskcon.data import Images, InMemory
from maskcon.data.augment.crop import SMALL, small_boxes, small_crops
from maskcon.data.plans import Plan, PrefillPlan, Squares, StepPlan
from maskcon.methods import mixing
from maskcon.methods.objective import Objective
from maskcon.model.preprocessing import Preprocessing
from maskcon.runtime.device import sent
from maskcon.runtime.distributed import Ranks
from maskcon.runtime.seeds import generator
from maskcon.train.step import Batch


class Batches:
    """The batch of each step, a function of the seed and the step's number.

    Args:
        images: of the train split, on the run's device.
        label: of each, on the device [N].
        config: of the run.
        objective: whose method says what a batch has.
        preprocessing: of the images.
        ranks: who share each batch.

    Attributes:
        steps_per_epoch: whole batches among the images.
    """

    def __init__(
        self,
        images: Images,
        label: Tensor,
        config: Config,
        objective: Objective,
        preprocessing: Preprocessing,
        ranks: Ranks,
    ):
        self._images, self._label, self._config, self._ranks = images, label, config, ranks
        self._objective, self._preprocessing = objective, preprocessing
        self._rule = images.crop_rule(config.crop_scale, config.flip)
        kinds: tuple[str, ...] = (config.query_view,)
        if objective.method.key != "none":
            kinds = (config.query_view, config.key_view)
        self._plan = StepPlan(self._rule, kinds, config.batch_size, config.seed)
        self.steps_per_epoch = self._plan.steps_per_epoch
        self._stream: Squares | None = None

    def next(self, step: int) -> Batch:
        """What a step sees; good until the next batch. Steps are asked for in their order."""
        config = self._config
        if self._stream is None:
            total = config.epochs * self.steps_per_epoch
            self._stream = self._views(self._plan, range(step, total))
        rows, views = next(self._stream)
        batch = Batch(self._label[rows], *views)
        count, part = config.batch_size, self._ranks.part(config.batch_size)
        if self._objective.method.crops:
            random = generator(config.seed, "small", step)
            boxes = small_boxes(views[1].shape[2], count, random)[part]
            batch = batch._replace(crops=small_crops(views[1], boxes))
        if self._objective.mixes:
            drawn = mixing.draw(count, config.mixup_alpha, config.seed, step)
            device = self._label.device
            partner, share = (sent(x[part], device) for x in drawn)
            batch = batch._replace(partner=partner, share=share)
        return batch

    def with_gradient(self, batch: Batch) -> list[Tensor]:
        """What of a batch the query encoder learns from: query views, key views, mixtures."""
        seen = [batch.query]
        if self._objective.method.key == "shared" and batch.key is not None:
            seen.append(batch.key)
        if batch.share is not None and batch.key is not None:
            other = self._ranks.all_gather(batch.key, self._config.batch_size)[batch.partner]
            query, other = map(self._preprocessing.normalise, (batch.query, other))
            seen.append(mixing.mix(query, other, batch.share))
        return seen

    def to_fill(self, count: int) -> Iterator[tuple[Tensor, Tensor, int]]:
        """Views of images drawn at random, whose keys fill a bank.

        Yields:
            labels and views of this process's part of a batch, and how many rows of the whole
            batch were in the one before.
        """
        config = self._config
        plan = PrefillPlan(self._rule, config.key_view, count, config.batch_size, config.seed)
        filled = 0
        for number, (rows, (view,)) in enumerate(self._views(plan, range(len(plan.starts)))):
            if self._objective.method.crops:
                view = InMemory(view).probe(len(view), round(config.image_size * SMALL))
            yield self._label[rows], view, filled - plan.starts[number]
            filled = plan.starts[number] + config.batch_size

    def _views(self, plan: Plan, numbers: range) -> Squares:
        return self._images.views(
            plan,
            numbers,
            size=self._config.image_size,
            workers=self._config.readers,
            device=self._label.device,
            ranks=self._ranks,
        )

    def close(self) -> None:
        """End the processes that read pictures; the next batch starts new ones."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None
