"""Train an encoder."""

from pathlib import Path
from typing import Any

import rich_click as click

from maskcon.cli.as_json import json_option
from maskcon.cli.complete import RECIPE
from maskcon.cli.options import PATH, given, log_option, names_in, train_options, whole_numbers
from maskcon.cli.results import print_run
from maskcon.cli.tables import show_each


@click.command()
@click.option("--out", type=PATH, required=True, help="the run folder to make")
@click.option("--recipe", type=RECIPE, help="a TOML file of options, or NAME of ours; flags win")
@click.option("--resume", is_flag=True, help="go on from the last checkpoint of --out")
@click.option("--overwrite", is_flag=True, help="delete the run that is in --out")
@click.option("--seeds", help="one run each, such as 0,1,2, in OUT/seed-0 and so on")
@log_option
@train_options
@json_option()
def train(out: Path, seeds: str | None, log: str | None, **options: Any) -> Any:
    """Train an encoder on coarse labels; fill a run folder.

    With nothing but data the recipe is chosen: full on a GPU; without one quick for images of up to
    64 px, and frozen for larger ones, with the best network whose weights are here. It says so, and
    how long it will take. Once an option of method, network or optimisation is given and no recipe,
    defaults, in brackets, are the paper's recipe for small images. A method's number may follow a
    schedule over the run, FROM:TO:SHAPE, such as --tau 0.5:0.05:cosine (or linear).
    """
    from maskcon import commands
    from maskcon.runs.compare import Row, text_tables
    from maskcon.runtime.progress import screen

    numbers = None if seeds is None else whole_numbers(seeds)
    with screen() as progress:
        options = {**given(options), "progress": progress, "callbacks": names_in(log)}
        if numbers is None:
            run = commands.train(out=out, **options)
        else:
            done = commands.train_seeds(numbers, out=out, **options)
    if numbers is None:
        if not run["results"]:  # which the first of several processes alone has
            return None
        print_run(run)
        return run
    if not done:
        return None
    rows = commands.compare([out / f"seed-{seed}" for seed in numbers])
    show_each(text_tables([Row.of(row) for row in rows]))
    return done
