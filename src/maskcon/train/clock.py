"""How fast a run goes, and how long it still takes."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

from maskcon.runtime.progress import duration
from maskcon.train.state import Training

TELL_EVERY = 1.0  # seconds between looks at the speed
RECENT = 20  # of them that the speed on the screen is the mean of


class Clock:
    """Speed, time left and share of time spent waiting for data.

    Args:
        training: that is timed.
        seconds: of the run before it was resumed.
        waited: of these, for data.
    """

    def __init__(self, training: Training, seconds: float = 0.0, waited: float = 0.0):
        self._training = training
        self._start = time.perf_counter() - seconds
        self._waited = waited
        self._paused = 0.0
        self._recent: list[tuple[float, int]] = [(seconds, training.steps)]
        self._expected = False  # whether it was told

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Time that is spent waiting for data."""
        start = time.perf_counter()
        yield
        self._waited += time.perf_counter() - start

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time that is no training."""
        start = time.perf_counter()
        yield
        self._paused += time.perf_counter() - start

    @property
    def seconds(self) -> float:
        """Time spent training, without evaluations and checkpoints."""
        return time.perf_counter() - self._start - self._paused

    @property
    def times(self) -> dict[str, float]:
        """What a resumed run goes on from."""
        return {"seconds": self.seconds, "waited": self._waited}

    def due(self) -> bool:
        """Whether it is time to tell how it goes; remembers how far it is."""
        now = self.seconds
        if now - self._recent[-1][0] < TELL_EVERY:
            return False
        self._recent = [*self._recent[-RECENT:], (now, self._training.steps)]
        return True

    def expectation(self) -> str | None:
        """How long the rest takes, in a line, as soon as it can be told; None before and after.

        Of steps after the first look at the speed: the first ones also warm up what they run on.
        """
        if self._expected or len(self._recent) < 3:
            return None
        self._expected, training = True, self._training
        (t0, s0), (t1, s1) = self._recent[-2:]
        left = (training.total_steps - s1) * (t1 - t0) / (s1 - s0)
        epochs = (training.total_steps - s1) / training.steps_per_epoch
        return (
            f"about {duration(left)} for {epochs:.3g} epochs, evaluations apart (measured over "
            f"{duration(t1 - t0)} of training)"
        )

    def line(self, loss: float) -> str:
        """How it goes, in a line; a loss that is NaN is not known yet."""
        training = self._training
        (t0, s0), (t1, s1) = self._recent[0], self._recent[-1]
        speed = (s1 - s0) / max(t1 - t0, 1e-9)  # steps a second
        left = (training.total_steps - training.steps) / max(speed, 1e-9)
        epoch = (training.steps - 1) // training.steps_per_epoch + 1
        return (
            f"epoch {epoch}/{training.config.epochs}  "
            f"{'' if math.isnan(loss) else f'loss {loss:.4f}  '}"
            f"{speed * training.config.batch_size:,.0f} images/s  {duration(left)} left  "
            f"waiting for data {self._waited / max(self.seconds, 1e-9):.1%}"
        )

    def summary(self) -> dict[str, float]:
        """Of the whole run."""
        images = self._training.steps * self._training.config.batch_size
        return {
            "seconds": round(self.seconds, 2),
            "images_per_second": round(images / max(self.seconds, 1e-9), 1),
            "waiting_for_data": round(self._waited / max(self.seconds, 1e-9), 4),
        }
