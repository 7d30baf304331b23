"""Tables on the screen."""

from collections.abc import Mapping
from typing import Any

from maskcon.cli.echo import echo

APART = ("intervals", "by_coarse", "pixels", "images", "best")


def print_recall(results: dict[str, Any]) -> None:
    """Recall@K of the features, perhaps of the best epoch, and of raw pixels."""
    ks = [key for key in results if key.startswith("recall@")]
    if any(k.endswith("/coarse") for k in ks):
        echo("no fine labels: this is the recall of coarse classes")
    echo(f"{'':16}" + "".join(f"{k.removesuffix('/coarse'):>12}" for k in ks))
    for name, row in (
        ("last epoch" if "best" in results else "features", results),
        ("best epoch", results.get("best")),
        ("frozen network alone", results.get("frozen")),
        ("raw pixels", results.get("pixels")),
    ):
        if row:
            _line(name, [_share(row.get(k)) for k in ks])


def print_evaluation(results: dict[str, Any]) -> None:
    """Everything that `maskcon eval` found."""
    intervals = results.get("intervals")
    if intervals is None:  # no fine labels, or no recall
        if "pixels" in results:
            print_recall(results)
    else:
        ks = [k for k in results if k.startswith("recall@") and "/" not in k]
        echo(f"{'':16}" + "".join(f"{k:>12}" for k in ks))
        _line("features", [_share(results[k]) for k in ks])
        _line("  95 %", [_span(intervals[k]) for k in ks])
        within = [f"{k}/within_coarse" for k in ks]
        if within[0] in results:
            _line("own coarse class", [_share(results.get(k)) for k in within])
            _line("  95 %", [_span(intervals.get(k)) for k in within])
        _line("raw pixels", [_share(results["pixels"].get(k)) for k in ks])
    others = {
        name: value
        for name, value in results.items()
        if name not in APART and not name.startswith("recall@")
    }
    if others:
        echo()
    for name, value in others.items():
        _figure(name, value, (intervals or {}).get(name))
    if results.get("by_coarse"):
        _by_coarse(results["by_coarse"])


def _figure(name: str, value: float, interval: Any) -> None:
    from maskcon.runs.compare import PLAIN

    plain = name in PLAIN or "left_out" in name or name.endswith("/strength")
    shown = f"{value:.4g}" if plain else f"{value:.2%}"
    echo(f"{name:34}{shown:>10}" + (f"  {_span(interval)}" if interval else ""))


def _by_coarse(by_coarse: Mapping[str, Mapping[str, float]]) -> None:
    echo(f"\n{'coarse class':34}{'recall@1':>10}{'within':>10}")
    for name, values in sorted(by_coarse.items(), key=lambda row: -row[1]["recall@1"]):
        within = values.get("recall@1/within_coarse")
        echo(f"{name[:33]:34}{values['recall@1']:>10.2%}{_share(within):>10}")


def _line(name: str, cells: list[str]) -> None:
    echo(f"{name:16}" + "".join(f"{cell:>12}" for cell in cells))


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.2%}"


def _span(interval: Any) -> str:
    return "" if interval is None else f"{100 * interval[0]:.1f}-{100 * interval[1]:.1f}"
