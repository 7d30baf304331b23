"""What a run is told by, wherever its results are shown."""

from collections.abc import Mapping
from typing import Any

from maskcon.methods import METHODS
from maskcon.methods.schedules import shown


def without_learning(run: Mapping[str, Any]) -> dict[str, Mapping[str, float]]:
    """Recall that learning must beat, the hardest to beat first, by what it is of.

    That of the network alone comes first where only a head on it was trained: the head has to
    earn its place, not the network.

    Args:
        run: the content of run.json; one that is not finished may know none.
    """
    results = run.get("results") or {}
    given = run["config"].get("features") is not None
    rows = {
        "frozen network alone": results.get("frozen"),
        "vectors as given" if given else "raw pixels": results.get("pixels"),
    }
    return {name: row for name, row in rows.items() if row}


def compared(run: Mapping[str, Any]) -> dict[str, Mapping[str, float]]:
    """Rows of a finished run's recall: of the last and the best epoch, and without learning.

    Where validation images chose the best epoch, the run's encoder is that of it.
    """
    results = run["results"]
    if chosen_by_validation(run):
        return {"best epoch by validation": results, **without_learning(run)}
    return {"last epoch": results, "best epoch": results["best"], **without_learning(run)}


def chosen_by_validation(run: Mapping[str, Any]) -> bool:
    """Whether a run's encoder is that of the epoch that validation images chose."""
    head = (run.get("training") or {}).get("head") or {"kept": True}
    return bool((run.get("data") or {}).get("validation")) and bool(head["kept"])


def own_evaluation(run: Mapping[str, Any]) -> dict[str, Any]:
    """What `maskcon eval` noted of a run's own data."""
    return run.get("evaluations", {}).get(run["data"]["name"], {})


def figures(run: Mapping[str, Any]) -> dict[str, float]:
    """Every figure of a run: its own results, and those of later evaluations."""
    found = {**run["results"], **own_evaluation(run)}
    return {k: v for k, v in found.items() if isinstance(v, int | float) and k != "images"}


def hyper_parameters(config: Mapping[str, Any]) -> str:
    """Those of a run's method, and what was added to its loss, as "tau = 0.1, w = 1"."""
    method = METHODS.get(config["method"])  # one from elsewhere may not be installed here
    known = method.hyper_parameters if method is not None else {}
    hyper = [f"{n} = {shown(config[n])}" for n in known if n in config]
    return ", ".join(
        hyper + [f"{n} = {config[n]:g}" for n in ("mixup", "ce_weight") if config.get(n)]
    )
