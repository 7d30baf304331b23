"""The ledger of measured runs, and the tables that come from it."""

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from maskcon.config import COLUMN_FIELDS, MACHINE_FIELDS, Config, as_now
from maskcon.errors import InputError, TrainingError
from maskcon.methods import METHODS
from maskcon.methods.schedules import shown
from maskcon.runs import paper
from maskcon.runs.results import figures
from maskcon.runtime import files

BEFORE = {"crop_scale": 0.2}  # of all views, until each had its own
KS = ("recall@1", "recall@2", "recall@5", "recall@10")
# Fields in which runs of one table may differ; the seeds of a row are averaged. How often a run is
# evaluated and logged changes nothing.
ADDED = ("mixup", "ce_weight")  # to a method's loss
ROW_FIELDS = {
    *("method", "label", "seed", "hyper", "mixup_alpha", "eval_every", "log_every", *ADDED),
    *(name for method in METHODS.values() for name in method.hyper_parameters),
    *MACHINE_FIELDS,
    *COLUMN_FIELDS,
}


def home() -> Path:
    """The ledger of the source tree, where maskcon runs from one; else one right here."""
    tree = Path(__file__).parents[3] / "benchmarks" / "ledger.jsonl"
    return tree if tree.parent.is_dir() else Path("ledger.jsonl")


def add(path: Path, runs: Iterable[Mapping[str, Any]]) -> None:
    """Add finished runs (the content of run.json), one line each; none twice.

    Raises:
        InputError: one is not finished, or the ledger cannot be written, is a link or no ledger.
    """
    if path.is_symlink():
        raise InputError(f"{path} is a link, and would be replaced: give the file to --ledger")
    try:
        with files.locked(path, wait=files.WAIT):
            before = path.read_bytes() if path.exists() else b""
            there = {_key(run) for run in _runs(path, before)}
            new = {_key(run): _line(run) for run in runs if _key(run) not in there}
            files.write(path, before, *new.values())
    except (OSError, TrainingError) as error:
        raise InputError(f"the ledger {path} cannot be written: {error}") from error


def _runs(path: Path, content: bytes) -> list[dict[str, Any]]:
    """The runs of a ledger's lines."""
    try:
        found = [files.parse_json(line) for line in content.splitlines()]
        for run in found:
            _key(run)
        return found
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"{path} is no ledger of runs, and is left as it is: give another --ledger"
        ) from error


def _line(run: Mapping[str, Any]) -> bytes:
    if run["status"] != "finished":
        raise InputError(f"a run is {run['status']}: only finished runs are results")
    # where the files lay says nothing of what was measured
    config = {**run["config"], "data_dir": None}
    return (json.dumps({**run, "config": config, "command": None}) + "\n").encode()


def _key(run: Mapping[str, Any]) -> str:
    """Tells one run from another."""
    options = {k: v for k, v in run["config"].items() if k not in MACHINE_FIELDS}
    return json.dumps([run["started"], options, run["results"]], sort_keys=True)


def tables(path: Path) -> str:
    """One table for each budget: runs alike in everything but method, temperature and seed."""
    runs = _runs(path, path.read_bytes())
    budgets: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        # an option that a run did not know yet had what is now its default, but for BEFORE
        run["config"] = {**asdict(Config()), **BEFORE, **as_now(run["config"])}
        budget = {k: v for k, v in run["config"].items() if k not in ROW_FIELDS}
        budget |= {"precision": run["precision"], "on": run["hardware"]["device"]}
        budgets.setdefault(json.dumps(budget, sort_keys=True), []).append(run)
    latest_first = sorted(budgets.values(), key=lambda runs: runs[-1]["started"], reverse=True)
    return "\n\n".join(_table(group) for group in latest_first)


def _table(runs: Sequence[Mapping[str, Any]]) -> str:
    config, hardware = runs[0]["config"], runs[0]["hardware"]
    torches = sorted({run["versions"]["torch"] for run in runs})
    grouped: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs:
        grouped.setdefault(name_of(run["config"]), []).append(run)
    commits = sorted({str(run["commit"])[:10] for run in runs})
    cut = config["crop_scale"]
    crops = "" if cut is None else f", crops of at least {cut:g} of the area"
    lines = [
        f"### {config['data']}: {config['backbone']}, {config['epochs']} epochs, "
        f"initial weights: {config['init']}",
        "",
        f"Views {config['query_view']} and {config['key_view']}{crops}; "
        f"batch {config['batch_size']}, bank "
        f"{config['bank_size']:,}, ema {config['ema']:g}, learning rate "
        f"{config['lr']:g} after {config['warmup_epochs']:g} epochs of warm-up, precision "
        f"{runs[0]['precision']}; {hardware['device']} ({hardware['cpu']}); torch "
        f"{', '.join(torches)}; commit {', '.join(commits)}. Last epoch, per cent; "
        "mean ± deviation over seeds where there are several. Published: recall@1 in the paper, "
        "from ImageNet weights and with its recipe; comparable with a run of that kind alone.",
        "",
        "| method | seeds | " + " | ".join(KS) + " | published |",
        "|---|---|" + "---|" * (len(KS) + 1),
    ]
    for name, group in sorted(grouped.items(), key=lambda row: -_mean(row[1], "recall@1")):
        seeds = ", ".join(str(run["config"]["seed"]) for run in group)
        cells = " | ".join(cell([run["results"][k] for run in group]) for k in KS)
        row = paper.published(group[0]["config"])
        theirs = cell([row.published["recall@1"]]) if row and "recall@1" in row.published else ""
        lines.append(f"| {name} | {seeds} | {cells} | {theirs} |")
    pixels = " | ".join(cell([runs[0]["results"]["pixels"][k]]) for k in KS)
    lines.append(f"| *nearest neighbours on raw pixels* | | {pixels} | |")
    return "\n".join([*lines, *_other_metrics(grouped)])


def _other_metrics(grouped: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """A line for each row whose published numbers are not recalls, where they were measured."""
    lines = []
    for name, group in grouped.items():
        row = paper.published(group[0]["config"])
        found = [figures(run) for run in group]
        told = [
            f"{metric} {cell([run[metric] for run in found])} (published {cell([share])})"
            for metric, share in (row.published if row else {}).items()
            if metric not in KS and all(metric in run for run in found)
        ]
        if row and told:
            lines += ["", f"{name}: {', '.join(told)}; {row.source}."]
    return lines


def name_of(config: Mapping[str, Any]) -> str:
    """Method and hyper-parameters of a run, as "maskcon, w 1, tau 0.05"."""
    method = METHODS.get(config["method"])  # one from elsewhere may not be there any more
    known = method.hyper_parameters if method is not None else {}
    hyper = [f"{n} {shown(config[n])}" for n in known if n != "t"]
    hyper += [f"{n} {config[n]:g}" for n in ADDED if config[n]]
    label = "" if config["label"] == "coarse" else ", fine labels"
    return ", ".join([config["method"], *hyper]) + label


def _mean(runs: Sequence[Mapping[str, Any]], k: str) -> float:
    return statistics.mean(run["results"][k] for run in runs)


def cell(values: Sequence[float]) -> str:
    """Shares as "41.23 ± 0.45" per cent; without a deviation where there is one value."""
    text = f"{100 * statistics.mean(values):.2f}"
    return text + (f" ± {100 * statistics.stdev(values):.2f}" if len(values) > 1 else "")
