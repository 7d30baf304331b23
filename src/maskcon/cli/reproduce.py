"""The paper's rows."""

from functools import partial
from pathlib import Path
from typing import Any

import rich_click as click

from maskcon.cli.echo import echo
from maskcon.cli.options import PATH, given, train_options
from maskcon.cli.tables import show
from maskcon.errors import InputError


@click.command()
@click.argument("data", required=False)
@click.argument("method", required=False)
@click.option("--seeds", default="0", help="one run each, such as 0,1,2 [0]")
@click.option("--out", type=PATH, default=Path("runs"), help="folder of the run folders [runs]")
@click.option("--upper-bound", help="what supfine trains with, supcon or supce [supcon]")
@click.option("--resume", is_flag=True, help="go on with runs that were broken off")
@click.option("--ledger", type=PATH, help="file of finished runs [the source tree's]")
@partial(train_options, left_out=("hyper", "data", "method", "label", "seed"))
def reproduce(
    data: str | None, method: str | None, seeds: str, out: Path, resume: bool, **options: Any
) -> None:
    """Run a row of the paper's tables again.

    Without arguments, lists the rows. With DATA and METHOD (and --w and --tau, where a method
    has several rows; else its best), trains with the paper's recipe and prints the published
    numbers, ours and the difference. Initial weights are ImageNet's, which torchvision
    downloads, unless --init says otherwise.
    """
    from maskcon import commands
    from maskcon.runtime.progress import screen

    if data is None:
        _print_rows(commands.reproduce()["rows"])
        return
    numbers = _whole_numbers(seeds)
    with screen() as progress:
        result = commands.reproduce(
            data,
            method,
            seeds=numbers,
            out=out,
            resume=resume,
            progress=progress,
            **given(options),
        )
    _print_comparison(result)


def _whole_numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(f"--seeds is {text!r}: expected whole numbers, such as 0,1,2") from error


def _print_rows(rows: list[dict[str, Any]]) -> None:
    ks = ("recall@1", "recall@2", "recall@5", "recall@10")
    tables: dict[str, list[list[str]]] = {}
    for row in rows:
        source = f"{row['data']} ({row['source']})"
        cells = (f"{row['recall'][k]:.2%}" if k in row["recall"] else "-" for k in ks)
        table = tables.setdefault(source, [[source, *ks, ""]])
        table.append([f"  {row['name']}", *cells, "best" if row["best"] else ""])
    for table in tables.values():
        echo()
        show(table)
    echo("\nAll start from ImageNet weights. To run one: maskcon reproduce DATA METHOD --w --tau")


def _print_comparison(result: dict[str, Any]) -> None:
    import statistics

    from maskcon.runs.results import without_learning

    runs, published = result["runs"], result["row"]["recall"]
    ks = [key for key in runs[0]["results"] if key.startswith("recall@")]
    ours = {k: [run["results"][k] for run in runs] for k in ks}
    mean = {k: statistics.mean(values) for k, values in ours.items()}
    table = [
        ["", *ks],
        ["published", *(f"{published[k]:.2%}" if k in published else "-" for k in ks)],
        ["ours", *(f"{mean[k]:.2%}" for k in ks)],
    ]
    if len(runs) > 1:
        table.append(["std", *(f"{statistics.stdev(ours[k]):.2%}" for k in ks)])
    table += [
        ["difference", *(f"{mean[k] - published[k]:+.2%}" if k in published else "-" for k in ks)],
        *(
            [name, *(f"{row[k]:.2%}" for k in ks)]
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
