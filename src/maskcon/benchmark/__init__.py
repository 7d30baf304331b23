"""Speeds beside what people would otherwise run: in turn, on one machine, as ratios.

Each of `BENCHMARKS` compares some sides and returns a record, plain data for JSON:

    "benchmark", "settings", "hardware", "versions", "commit", "started"
    "unit"             of the speeds, such as "images/s"
    "speeds"           {side: median}; with a unit of images/s again as "images_per_second"
    "repeats"          {side: [speed of each turn]}
    "ratios"           {side: {baseline: ratio}}, medians over the turns of a round
    "vs_BASELINE"      that of the side "maskcon", where there is one of that name
    "ranges"           {"vs_BASELINE": [lowest, highest ratio of a round]}
    "peak_host_mib"    {side: most memory of its process}; worker processes are not in it
    "peak_device_mib"  {side: most memory of the GPU}, where there is one
    "prepare_seconds"  {side: start of the process, compilation, warm-up}
    "cpu_ms"           {side: ms of a core an image, of all threads}, of "embed" and "answer"
    "cpu_ratios"       {side: that of the side in those of "maskcon"}
    "targets"          [{"what", "target", "measured", "met"}] for a machine of this kind
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any


def _of(module: str, function: str) -> Callable[..., dict[str, Any]]:
    """A function whose module is imported when it is called: a side imports its own alone."""

    def measure(**options: Any) -> dict[str, Any]:
        return getattr(import_module(f"{__name__}.{module}"), function)(**options)

    return measure


BENCHMARKS: dict[str, Callable[..., dict[str, Any]]] = {
    "step": _of("step", "step"),
    "views": _of("views", "views"),
    "loader": _of("loader", "loader"),
    "recall": _of("recall", "recall"),
    "embed": _of("embedding", "embedding"),
    "answer": _of("answer", "answer"),
}
