"""Train an encoder."""

from pathlib import Path
from typing import Any

import rich_click as click

from maskcon.cli.options import PATH, given, train_options
from maskcon.cli.results import print_run


@click.command()
@click.option("--out", type=PATH, required=True, help="the run folder to make")
@click.option("--recipe", help="a TOML file of options, or NAME of ours; flags win")
@click.option("--resume", is_flag=True, help="go on from the last checkpoint of --out")
@click.option("--overwrite", is_flag=True, help="delete the run that is in --out")
@train_options
def train(out: Path, recipe: str | None, resume: bool, overwrite: bool, **options: Any) -> None:
    """Train an encoder on coarse labels; fill a run folder.

    Defaults, in brackets, are the paper's recipe for small images. A method's number may follow
    a schedule over the run, FROM:TO:SHAPE, such as --tau 0.5:0.05:cosine (or linear).
    """
    from maskcon import commands
    from maskcon.runtime.progress import screen

    with screen() as progress:
        run = commands.train(
            out=out,
            recipe=recipe,
            resume=resume,
            overwrite=overwrite,
            progress=progress,
            **given(options),
        )
    if run["results"]:  # which the first of several processes alone says
        print_run(run)
