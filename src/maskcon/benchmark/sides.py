"""The sides of a comparison, each in a process of its own, taking turns.

A process of its own gives each side its own memory allocator, thread pools and peak of memory;
taking turns gives all of them the same weather. While one works, the others wait for a line on
their standard input.
"""

import importlib
import json
import os
import resource
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


def compare(
    benchmark: str,
    sides: Sequence[Side],
    *,
    baselines: Sequence[str],
    repeats: int,
    unit: str,
    settings: Mapping[str, Any],
    device: str,
    progress: Progress,
) -> tuple[dict[str, Any], Answers]:
    """Let the sides take turns; make a record, as the package describes it, and keep the turns.

    Args:
        benchmark: its name.
        sides: in the order of their turns.
        baselines: names of sides that ratios are taken to.
        repeats: turns of each side.
        unit: of the speeds.
        settings: kept in the record.
        device: that the sides were told to use.
        progress: told how it goes.

    Raises:
        TrainingError: a side ended with an error.
        InputError: no repeats.
    """
    if repeats < 1:
        raise InputError(f"repeats is {repeats}: expected 1 or more")
    about = provenance()
    del about["command"]  # says where files lay, not what was measured; the settings do
    answers: Answers = {side.name: [] for side in sides}
    prepared = {}
    with ExitStack() as stack:
        stack.callback(progress.close)
        processes = []
        for side in sides:
            progress.update(f"{benchmark}: preparing {side.name}")
            errors = stack.enter_context(tempfile.TemporaryFile())
            start = time.perf_counter()
            process = _Process(side, errors)
            stack.callback(process.close)
            prepared[side.name] = time.perf_counter() - start
            processes.append(process)
        for repeat in range(repeats):
            for process in processes:
                name = process.side.name
                progress.update(f"{benchmark}: round {repeat + 1} of {repeats}, {name}")
                answers[name].append(process.ask("turn"))
    speeds = {
        name: [turn["count"] / turn["seconds"] for turn in turns] for name, turns in answers.items()
    }
    middle = {name: statistics.median(values) for name, values in speeds.items()}
    ratios: dict[str, dict[str, float]] = {}
    ranges = {}
    for name, values in speeds.items():
        for baseline in baselines:
            if baseline in speeds and baseline != name:
                rounds = [a / b for a, b in zip(values, speeds[baseline], strict=True)]
                ratios.setdefault(name, {})[baseline] = statistics.median(rounds)
                ranges[f"{name} vs {baseline}"] = [min(rounds), max(rounds)]
    last = {name: turns[-1] for name, turns in answers.items()}
    where = pick_device(device)
    record = {
        "benchmark": benchmark,
        **about,
        "hardware": {**hardware(where), "precision": Precision.pick("auto", where).name},
        "settings": {**settings, "repeats": repeats},
        "unit": unit,
        "speeds": middle,
        "repeats": speeds,
        "ratios": ratios,
        **{f"vs_{baseline}": ratio for baseline, ratio in ratios.get("maskcon", {}).items()},
        "ranges": ranges,
        "peak_host_mib": {name: turn["host"] for name, turn in last.items()},
        "prepare_seconds": prepared,
    }
    if where.type == "cuda":
        record["peak_device_mib"] = {name: turn["device"] for name, turn in last.items()}
    if unit == "images/s":
        record["images_per_second"] = middle
    return record, answers


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
    answers = os.fdopen(os.dup(1), "w")
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
    """Most memory of this process so far, in MiB: in all, and of the GPU."""
    import torch

    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
    device = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else 0.0
    return {"host": host, "device": device}


if __name__ == "__main__":
    _serve()
