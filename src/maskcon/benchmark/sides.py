"""The sides of a comparison, each in a process of its own, taking turns.

A process of its own gives each side its own memory allocator, thread pools and peak of memory;
taking turns gives all of them the same weather. While one works, the others wait for a line on
their standard input.
"""

import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import IO, Any

from maskcon.errors import InputError, TrainingError
from maskcon.runs.folder import provenance
from maskcon.runtime.device import Precision, hardware, pick_device
from maskcon.runtime.progress import Progress

Turn = Callable[[], dict[str, float]]  # "count" and "seconds" of a turn, and whatever else
Answers = dict[str, list[dict[str, Any]]]  # what each turn of each side returned, and its peaks


@dataclass(frozen=True)
class Side:
    """One side.

    Attributes:
        name: in the table.
        make: "module:function" that prepares the side and returns its turn.
        options: of that function, plain data.
    """

    name: str
    make: str
    options: Mapping[str, Any] = field(default_factory=dict)


class _Process:
    """The process of a side."""

    def __init__(self, side: Side, errors: IO[bytes]):
        self.side, self._errors = side, errors
        self._process = subprocess.Popen(
            [sys.executable, "-m", "maskcon.benchmark.sides", side.make],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        self.ready = self.ask(json.dumps(side.options))

    def ask(self, line: str) -> dict[str, Any]:
        """Send a line; wait for the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            self._process.wait()
            self._errors.seek(0)
            last = self._errors.read().decode(errors="replace").strip().splitlines()[-1:]
            raise TrainingError(f"the side {self.side.name!r} ended: {' '.join(last)}")
        return json.loads(answer)

    def close(self) -> None:
        """End it: there are no more lines."""
        try:
            self._process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Sides that take turns.

    Attributes:
        name: of the benchmark.
        sides: in the order of their turns. The name of one may be "GROUP: NAME".
        baselines: NAMEs of sides that the others of their group are compared with.
        unit: of the speeds.
        settings: kept in the record.
        repeats: turns of each side.
        device: that the sides were told to use.
        progress: told how it goes.
    """

    name: str
    sides: Sequence[Side]
    baselines: Sequence[str]
    settings: Mapping[str, Any]
    repeats: int
    device: str
    progress: Progress
    unit: str = "images/s"

    def run(self) -> tuple[dict[str, Any], Answers]:
        """Let the sides take turns; a record, as the package describes it, and the turns.

        Raises:
            TrainingError: a side ended with an error.
            InputError: no repeats.
        """
        if self.repeats < 1:
            raise InputError(f"repeats is {self.repeats}: expected 1 or more")
        about = provenance()
        del about["command"]  # says where files lay, not what was measured; the settings do
        answers, prepared = self._turns()
        repeats = {n: [t["count"] / t["seconds"] for t in turns] for n, turns in answers.items()}
        speeds = {name: statistics.median(values) for name, values in repeats.items()}
        rounds = self._rounds(repeats)
        ratios: dict[str, dict[str, float]] = {}
        for (name, base), values in rounds.items():
            ratios.setdefault(name, {})[base] = statistics.median(values)
        last = {name: turns[-1] for name, turns in answers.items()}
        where = pick_device(self.device)
        record = {
            "benchmark": self.name,
            **about,
            "hardware": {**hardware(where), "precision": Precision.pick("auto", where).name},
            "settings": {**self.settings, "repeats": self.repeats},
            "unit": self.unit,
            "speeds": speeds,
            "repeats": repeats,
            "ratios": ratios,
            **{f"vs_{base}": ratio for base, ratio in ratios.get("maskcon", {}).items()},
            "ranges": {f"{n} vs {base}": [min(v), max(v)] for (n, base), v in rounds.items()},
            "peak_host_mib": {name: turn["host"] for name, turn in last.items()},
            "prepare_seconds": prepared,
            "targets": [],
        }
        if where.type == "cuda":
            record["peak_device_mib"] = {name: turn["device"] for name, turn in last.items()}
        if self.unit == "images/s":
            record["images_per_second"] = speeds
        return record, answers

    def _turns(self) -> tuple[Answers, dict[str, float]]:
        """What each turn of each side returned, and the seconds that preparing it took."""
        answers: Answers = {side.name: [] for side in self.sides}
        prepared = {}
        with ExitStack() as stack:
            stack.callback(self.progress.close)
            processes = []
            for side in self.sides:
                self.progress.update(f"{self.name}: preparing {side.name}")
                errors = stack.enter_context(tempfile.TemporaryFile())
                start = time.perf_counter()
                processes.append(_Process(side, errors))
                stack.callback(processes[-1].close)
                prepared[side.name] = time.perf_counter() - start
            for repeat in range(self.repeats):
                for process in processes:
                    name = process.side.name
                    self.progress.update(
                        f"{self.name}: round {repeat + 1} of {self.repeats}, {name}"
                    )
                    answers[name].append(process.ask("turn"))
        return answers, prepared

    def _rounds(self, speeds: Mapping[str, Sequence[float]]) -> dict[tuple[str, str], list[float]]:
        """Of each side and baseline of its group, the ratio of their speeds in each round."""
        found = {}
        for side in speeds:
            group, _, name = side.rpartition(": ")
            for base in self.baselines if name not in self.baselines else ():
                base = f"{group}: {base}" if group else base
                if base in speeds:
                    found[side, base] = [
                        a / b for a, b in zip(speeds[side], speeds[base], strict=True)
                    ]
        return found


def timed(work: Callable[[], Any], count: int | None = None, device: str = "cpu") -> Turn:
    """A turn that is some work, timed until the device has done it.

    Args:
        work: what is done; it returns the count where that is not given.
        count: of the images or rows of a turn.
        device: that it is done on.
    """

    def turn() -> dict[str, float]:
        synchronize(device)
        start = time.perf_counter()
        done = work()
        synchronize(device)
        seconds = time.perf_counter() - start
        return {"count": done if count is None else count, "seconds": seconds}

    return turn


def synchronize(device: str) -> None:
    """Wait for what a GPU has to do."""
    import torch

    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


def noise(count: int, size: int) -> Any:
    """Images of noise, uint8 [count, 3, size, size]: a step does not care what it sees."""
    import torch

    random = torch.Generator().manual_seed(0)
    return torch.randint(256, (count, 3, size, size), dtype=torch.uint8, generator=random)


def column(device: str) -> str | None:
    """Which column of the targets a machine belongs to: "cpu", "cuda" or none."""
    where = pick_device(device)
    return where.type if Precision.pick("auto", where).name == "bf16" else None


def target(what: str, least: float | None, measured: float, *, most: float | None = None) -> dict:
    """A line of a record's "targets"; `least` or `most` is the bound, None for no bound here."""
    bound = least if most is None else most
    met = None
    if bound is not None:
        met = measured >= bound if most is None else measured <= bound
    text = None if bound is None else f"{'at least' if most is None else 'at most'} {bound:g}"
    return {"what": what, "target": text, "measured": measured, "met": met}


def _serve() -> None:
    """Prepare the side whose maker is named on the command line; answer turns until told off."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not reach the answers
    module, function = sys.argv[1].split(":")
    options = json.loads(sys.stdin.readline())
    turn: Turn = getattr(importlib.import_module(module), function)(**options)

    def answer(content: Mapping[str, Any]) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    answer({})
    for _ in sys.stdin:
        answer({**turn(), **_peaks()})


def _peaks() -> dict[str, float]:
    """Most memory of this process so far, in MiB: in all (0 if nothing tells), and of the GPU."""
    import torch

    try:
        import resource
    except ImportError:  # on Windows
        host = 0.0
    else:
        unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
        host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
    device = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else 0.0
    return {"host": host, "device": device}


if __name__ == "__main__":
    _serve()
