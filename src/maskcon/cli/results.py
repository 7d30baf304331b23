"""What a run or an evaluation found, as tables."""

from collections.abc import Mapping
from typing import Any

from maskcon.cli.echo import echo
from maskcon.cli.tables import show

APART = ("intervals", "by_coarse", "pixels", "images", "best", "frozen")


def print_run(run: Mapping[str, Any]) -> None:
    """Recall of a finished run, beside what learning must beat."""
    from maskcon.runs.results import compared

    _print_recall(compared(run))


def print_evaluation(results: Mapping[str, Any]) -> None:
    """Everything that `maskcon eval` found."""
    intervals = results.get("intervals") or {}
    if "recall@1" not in intervals:  # no fine labels, or no recall
        if "pixels" in results:
            _print_recall({"features": results, **_beside(results)})
    else:
        _print_intervals(results, intervals)
    others = {
        name: value
        for name, value in results.items()
        if name not in APART and not name.startswith(("recall@", "over_tau/"))
    }
    if others:
        echo()
        figures = [
            [name, _figure(name, v), _span(intervals.get(name))] for name, v in others.items()
        ]
        show([["", "", "95 %" if any(row[2] for row in figures) else ""], *figures])
    if by_coarse := results.get("by_coarse"):
        echo()
        show([["coarse class", "recall@1", "within"], *_by_coarse(by_coarse)])


def _print_recall(rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Recall@K of several encoders."""
    ks = [key for key in next(iter(rows.values())) if key.startswith("recall@")]
    if any(k.endswith("/coarse") for k in ks):
        echo("no fine labels: this is the recall of coarse classes")
    head = ["", *(k.removesuffix("/coarse") for k in ks)]
    show([head, *([name, *(_share(row.get(k)) for k in ks)] for name, row in rows.items())])


def _print_intervals(results: Mapping[str, Any], intervals: Mapping[str, Any]) -> None:
    """Recall@K with its intervals, among all and within the own coarse class."""
    ks = [k for k in results if k.startswith("recall@") and "/" not in k]
    within = [f"{k}/within_coarse" for k in ks]
    table = [
        ["", *ks],
        ["features", *(_share(results[k]) for k in ks)],
        ["  95 %", *(_span(intervals[k]) for k in ks)],
    ]
    if within[0] in results:
        table += [
            ["own coarse class", *(_share(results.get(k)) for k in within)],
            ["  95 %", *(_span(intervals.get(k)) for k in within)],
        ]
    beside = _beside(results).items()
    show([*table, *([name, *(_share(row.get(k)) for k in ks)] for name, row in beside)])


def _beside(results: Mapping[str, Any]) -> Mapping[str, Mapping[str, float]]:
    """Recall that learning must beat."""
    from maskcon.runs.results import without_learning

    return without_learning({"results": results, "config": {}})


def _figure(name: str, value: float) -> str:
    from maskcon.runs.compare import PLAIN

    plain = name in PLAIN or "left_out" in name or name.endswith("/strength")
    return f"{value:.4g}" if plain else f"{value:.2%}"


def _by_coarse(by_coarse: Mapping[str, Mapping[str, float]]) -> list[list[str]]:
    """Rows of coarse classes, the best first."""
    best = sorted(by_coarse.items(), key=lambda row: -row[1]["recall@1"])
    columns = ("recall@1", "recall@1/within_coarse")
    return [[name, *(_share(values.get(c)) for c in columns)] for name, values in best]


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.2%}"


def _span(interval: Any) -> str:
    return "" if interval is None else f"{100 * interval[0]:.1f}-{100 * interval[1]:.1f}"
