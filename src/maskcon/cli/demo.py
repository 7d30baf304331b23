"""The demonstration."""

from pathlib import Path
from typing import Any

import rich_click as click

from maskcon.cli.as_json import json_option
from maskcon.cli.echo import echo
from maskcon.cli.options import PATH
from maskcon.cli.results import print_run


@click.command()
@click.option("--out", type=PATH, default=Path("glyphs-demo"), help="run folder [glyphs-demo]")
@click.option("--resume", is_flag=True, help="go on from the last checkpoint of --out")
@click.option("--overwrite", is_flag=True, help="delete the run that is in --out")
@json_option()
def demo(out: Path, resume: bool, overwrite: bool) -> dict[str, Any]:
    """Two minutes with drawn letters and digits.

    Trains on coarse labels, evaluates on fine ones, draws a map and a sheet of neighbours.
    """
    from maskcon import commands
    from maskcon.runtime.progress import screen

    with screen() as progress:
        run = commands.demo(out=out, resume=resume, overwrite=overwrite, progress=progress)
    print_run(run)
    echo(
        f"\nThe encoder saw only {len(run['data']['coarse'])} coarse labels and learned to tell "
        f"{run['data']['fine']} characters apart.\nLook at {out / 'neighbours.png'} and "
        f"{out / 'map.png'}; {out / 'README.md'} tells the rest."
    )
    return run
