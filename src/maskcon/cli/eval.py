"""What a trained encoder is worth."""

from pathlib import Path
from typing import Any

import rich_click as click

from maskcon.cli.as_json import json_option
from maskcon.cli.complete import DATA, PROTOCOL
from maskcon.cli.options import PATH, data_options, encoder_options, given
from maskcon.cli.results import print_evaluation


@click.command()
@click.argument("run", type=PATH)
@click.option("--data", type=DATA, help="a data set's name, folder or table [the run's own]")
@click.option(
    "--protocol",
    type=PROTOCOL,
    default="recall",
    help="recall, knn, linear, semi-supervised, few-shot, cluster, diagnostics, soft-labels; "
    "with commas, or all [recall]",
)
@data_options
@encoder_options
@click.option("--picture", type=PATH, help="soft labels over tau, as .png, .svg or .pdf")
@click.option("--overwrite", is_flag=True, help="replace these files")
@json_option(own=True)
def eval(run: Path, **options: Any) -> dict[str, Any] | None:
    """Judge a run's encoder on fine labels.

    RUN is a run folder, whose run.json keeps the results. recall: each test image queries all
    the others. knn, linear: classifiers that train images teach. semi-supervised: the same with
    1 % and 10 % of the labels, and the whole network fine-tuned with them. few-shot: episodes of
    test images, one or five of each class labelled. cluster: k-means against the classes.
    diagnostics: coarse accuracy, effective rank, alignment, uniformity. soft-labels: how far those
    of each method are from the fine classes, over the run's own bank.
    """
    from maskcon import commands
    from maskcon.runtime.progress import screen

    with screen() as progress:
        results = commands.eval(run, progress=progress, **given(options))
    if not results:  # which the first of several processes alone has
        return None
    print_evaluation(results)
    return results
