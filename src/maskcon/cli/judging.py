"""What a trained encoder is worth."""

from pathlib import Path
from typing import Any

import click

from maskcon.cli.options import PATH, data_options, given
from maskcon.cli.tables import print_recall


@click.command()
@click.argument("run", type=PATH)
@click.option("--data", help="a data set's name, folder or table [the run's own]")
@data_options
@click.option("--device", help="auto, cpu, cuda, cuda:1 [auto]")
@click.option("--precision", help="auto, fp32, bf16 or fp16 [the run's own]")
@click.option("--json", type=PATH, help="write the results to this file")
def eval(run: Path, **options: Any) -> None:
    """Recall@K of a run's encoder on fine labels.

    RUN is a run folder; each test image queries all the others, for K = 1, 2, 5, 10.
    """
    from maskcon import commands
    from maskcon.progress import screen

    with screen() as progress:
        results = commands.eval(run, progress=progress, **given(options))
    print_recall(results)
