"""Published rows."""

from functools import partial
from pathlib import Path
from typing import Any

import rich_click as click

from maskcon.cli.as_json import json_option
from maskcon.cli.complete import DATA, METHOD
from maskcon.cli.echo import echo
from maskcon.cli.options import PATH, given, log_option, names_in, train_options, whole_numbers
from maskcon.cli.tables import show


@click.command()
@click.argument("data", required=False, type=DATA)
@click.argument("method", required=False, type=METHOD)
@click.option("--seeds", default="0", help="one run each, such as 0,1,2 [0]")
@click.option("--out", type=PATH, default=Path("runs"), help="folder of the run folders [runs]")
@click.option("--upper-bound", help="what supfine trains with, supcon or supce [supcon]")
@click.option("--resume", is_flag=True, help="go on with runs that were broken off")
@click.option("--ledger", type=PATH, help="file of finished runs [the source tree's]")
@log_option
@partial(train_options, left_out=("hyper", "data", "method", "label", "seed"))
@json_option(overwrite=True)
def reproduce(
    data: str | None,
    method: str | None,
    seeds: str,
    out: Path,
    resume: bool,
    log: str | None,
    **options: Any,
) -> dict[str, Any] | None:
    """Run a published row again.

    Without arguments, lists the rows, each with the command that runs it. With DATA and METHOD
    (and --w and --tau, where a method has several rows; else its best), trains with the paper's
    recipe, judges as the paper does, and prints the published numbers, ours and the difference.
    MaskCon's rows start from ImageNet's weights, which are on this machine or come with --download,
    unless --init says otherwise.
    """
    from maskcon import commands
    from maskcon.runtime.progress import screen

    if data is None:
        listed = commands.reproduce()
        _print_rows(listed["rows"])
        return listed
    numbers = whole_numbers(seeds)
    with screen() as progress:
        result = commands.reproduce(
            data,
            method,
            seeds=numbers,
            out=out,
            resume=resume,
            callbacks=names_in(log),
            progress=progress,
            **given(options),
        )
    if not result["runs"]:  # which the first of several processes alone has
        return None
    _print_comparison(result)
    return result


def _print_rows(rows: list[dict[str, Any]]) -> None:
    tables: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        tables.setdefault((row["data"], row["source"]), []).append(row)
    for (data, source), group in tables.items():
        metrics = list(dict.fromkeys(metric for row in group for metric in row["published"]))
        table = [[f"{data} ({source})", *metrics, "", "to run it"]]
        for row in group:
            found = (_share(row["published"].get(metric)) for metric in metrics)
            best = "best" if row["best"] else ""
            table.append([f"  {row['name']}", *found, best, row["command"]])
        echo()
        show(table, left=(0, len(metrics) + 2))
    echo("\nMaskCon's start from ImageNet weights, the others from scratch.")


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"


def _print_comparison(result: dict[str, Any]) -> None:
    import statistics

    from maskcon.runs.results import figures, without_learning

    runs, published = result["runs"], result["row"]["published"]
    found = [figures(run) for run in runs]
    ks = [k for k in found[0] if k in published or (k.startswith("recall@") and "/" not in k)]
    ours = {k: [run[k] for run in found] for k in ks}
    mean = {k: statistics.mean(values) for k, values in ours.items()}
    table = [
        ["", *ks],
        ["published", *(_share(published.get(k)) for k in ks)],
        ["ours", *(f"{mean[k]:.2%}" for k in ks)],
    ]
    if len(runs) > 1:
        table.append(["std", *(f"{statistics.stdev(ours[k]):.2%}" for k in ks)])
    table += [
        ["difference", *(f"{mean[k] - published[k]:+.2%}" if k in published else "-" for k in ks)],
        *(
            [name, *(_share(row.get(k)) for k in ks)]
            for name, row in without_learning(runs[0]).items()
        ),
    ]
    echo()
    show(table)
    first = runs[0]
    hardware = first["hardware"]
    seconds = statistics.mean(run["training"]["seconds"] for run in runs)
    echo(
        f"\n{len(runs)} run{'s' if len(runs) > 1 else ''}; initial weights: "
        f"{first['config']['init']}; {hardware['device']} ({hardware['cpu']}, "
        f"{hardware['threads']} threads), precision {first['precision']}; "
        f"{seconds / 60:.1f} minutes of training each"
    )
    if result["not_comparable"]:
        echo("NOT COMPARABLE with the published numbers:")
        for reason in result["not_comparable"]:
            echo(f"  {reason}")
