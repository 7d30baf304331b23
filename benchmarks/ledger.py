"""The ledger of measured runs, and the tables of RESULTS.md that come from it.

python benchmarks/ledger.py add RUN...     # append finished run folders to ledger.jsonl
python benchmarks/ledger.py tables         # write their tables into RESULTS.md
python benchmarks/ledger.py tables --check # fail if RESULTS.md differs from the ledger
"""

import argparse
import json
import statistics
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from maskcon.config import MACHINE_FIELDS, Config
from maskcon.methods import METHODS

HERE = Path(__file__).parent
LEDGER = HERE / "ledger.jsonl"
RESULTS = HERE.parent / "RESULTS.md"
BEGIN, END = "<!-- ledger: begin -->", "<!-- ledger: end -->"
KS = ("recall@1", "recall@2", "recall@5", "recall@10")
# Fields in which runs of one table may differ; the seeds of a row are averaged.
ROW_FIELDS = {"method", "label", "seed", "w", "tau", "t", "hyper"}
ROW_FIELDS |= MACHINE_FIELDS  # do not change a number


def add(folders: list[Path]) -> None:
    """Append the run.json of finished runs, one line each."""
    with open(LEDGER, "a") as ledger:
        for folder in folders:
            run = json.loads((folder / "run.json").read_text())
            if run["status"] != "finished":
                sys.exit(f"{folder} is {run['status']}: only finished runs are results")
            run["config"]["data_dir"] = None  # says where the files lay, not what was measured
            run["command"] = None
            ledger.write(json.dumps(run) + "\n")


def tables() -> str:
    """One table for each budget: runs alike in everything but method, temperature and seed."""
    runs = [json.loads(line) for line in LEDGER.read_text().splitlines()]
    budgets: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        # an option that a run did not know yet had what is now its default
        run["config"] = {**asdict(Config()), **run["config"]}
        budget = {k: v for k, v in run["config"].items() if k not in ROW_FIELDS}
        budget |= {"precision": run["precision"], "on": run["hardware"]["device"]}
        budgets.setdefault(json.dumps(budget, sort_keys=True), []).append(run)
    latest_first = sorted(budgets.values(), key=lambda runs: runs[-1]["started"], reverse=True)
    return "\n\n".join(_table(group) for group in latest_first)


def _table(runs: list[dict[str, Any]]) -> str:
    config, hardware, versions = runs[0]["config"], runs[0]["hardware"], runs[0]["versions"]
    rows: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        rows.setdefault(_name(run["config"]), []).append(run)
    commits = sorted({str(run["commit"])[:10] for run in runs})
    lines = [
        f"### {config['data']}: {config['backbone']}, {config['epochs']} epochs, "
        f"initial weights: {config['init']}",
        "",
        f"Views {config['query_view']} and {config['key_view']}, crops of at least "
        f"{config['crop_area']:g} of the area; batch {config['batch_size']}, bank "
        f"{config['bank_size']:,}, ema {config['ema']:g}, learning rate "
        f"{config['lr']:g} after {config['warmup_epochs']:g} epochs of warm-up, precision "
        f"{runs[0]['precision']}; {hardware['device']} ({hardware['cpu']}); torch "
        f"{versions['torch']}; commit {', '.join(commits)}. Last epoch, per cent; "
        "mean ± deviation over seeds where there are several.",
        "",
        "| method | seeds | " + " | ".join(KS) + " |",
        "|---|---|" + "---|" * len(KS),
    ]
    ranked = sorted(rows.items(), key=lambda row: -_mean(row[1], "recall@1"))
    for name, group in ranked:
        seeds = ", ".join(str(run["config"]["seed"]) for run in group)
        cells = " | ".join(_cell([run["results"][k] for run in group]) for k in KS)
        lines.append(f"| {name} | {seeds} | {cells} |")
    pixels = " | ".join(_cell([runs[0]["results"]["pixels"][k]]) for k in KS)
    lines.append(f"| *nearest neighbours on raw pixels* | | {pixels} |")
    return "\n".join(lines)


def _name(config: dict[str, Any]) -> str:
    hyper = [f"{n} {config[n]:g}" for n in METHODS[config["method"]].hyper_parameters if n != "t"]
    label = "" if config["label"] == "coarse" else ", fine labels"
    return ", ".join([config["method"], *hyper]) + label


def _mean(runs: list[dict[str, Any]], k: str) -> float:
    return statistics.mean(run["results"][k] for run in runs)


def _cell(values: list[float]) -> str:
    text = f"{100 * statistics.mean(values):.2f}"
    return text + (f" ± {100 * statistics.stdev(values):.2f}" if len(values) > 1 else "")


def write_tables(check: bool) -> None:
    """Put the tables between the markers of RESULTS.md; or see that they are there."""
    text = RESULTS.read_text()
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    new = f"{before}{BEGIN}\n{tables()}\n{END}{after}"
    if check and new != text:
        sys.exit("RESULTS.md differs from the ledger: run `python benchmarks/ledger.py tables`")
    if not check:
        RESULTS.write_text(new)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("add").add_argument("runs", nargs="+", type=Path)
    commands.add_parser("tables").add_argument("--check", action="store_true")
    given = parser.parse_args()
    if given.command == "add":
        add(given.runs)
    else:
        write_tables(given.check)
