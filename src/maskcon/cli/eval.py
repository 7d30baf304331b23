"""What a trained encoder is worth, and several beside each other."""

from pathlib import Path
from typing import Any

import click

from maskcon.cli.echo import echo
from maskcon.cli.options import PATH, data_options, given
from maskcon.cli.tables import print_evaluation


@click.command()
@click.argument("run", type=PATH)
@click.option("--data", help="a data set's name, folder or table [the run's own]")
@click.option(
    "--protocol",
    default="recall",
    help="recall, knn, linear, fewshot, cluster, diagnostics; with commas, or all [recall]",
)
@data_options
@click.option("--device", help="auto, cpu, cuda, cuda:1 [auto]")
@click.option("--precision", help="auto, fp32, bf16 or fp16 [the run's own]")
@click.option("--json", type=PATH, help="write the results to this file")
def eval(run: Path, **options: Any) -> None:
    """Judge a run's encoder on fine labels.

    RUN is a run folder, whose run.json keeps the results. recall: each test image queries all
    the others. knn, linear: classifiers that train images teach. fewshot: the same with 1 % and
    10 % of the labels, and the whole network fine-tuned with them. cluster: k-means against the
    classes. diagnostics: coarse accuracy, effective rank, alignment, uniformity.
    """
    from maskcon import commands
    from maskcon.runtime.progress import screen

    with screen() as progress:
        results = commands.eval(run, progress=progress, **given(options))
    if results:  # which the first of several processes alone has
        print_evaluation(results)


@click.command()
@click.argument("runs", type=PATH, nargs=-1, required=True)
@click.option("--metrics", help="such as recall@1,knn@200 [those that all runs have]")
@click.option("--csv", type=PATH, help="write the table to this file")
@click.option("--latex", type=PATH, help="write the table as LaTeX to this file")
@click.option("--picture", type=PATH, help="draw the runs into this .png, .svg or .pdf file")
def compare(runs: tuple[Path, ...], metrics: str | None, **options: Any) -> None:
    """Several runs side by side.

    RUNS are run folders; those that differ only in their seed become one row. What `maskcon
    eval --protocol ...` measured is in the table as well, where all runs have it.
    """
    from maskcon import commands
    from maskcon.runs import compare as comparison

    chosen = [name.strip() for name in metrics.split(",")] if metrics else []
    rows = commands.compare(list(runs), metrics=chosen, **given(options))
    echo("\n".join(comparison.text_table([comparison.Row(**row) for row in rows])))
