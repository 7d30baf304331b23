"""A page about a run."""

from pathlib import Path
from typing import Any

import rich_click as click

from maskcon.cli.as_json import json_option
from maskcon.cli.complete import DATA
from maskcon.cli.echo import echo
from maskcon.cli.options import PATH, data_options, encoder_options, given


@click.command()
@click.argument("run", type=PATH)
@click.argument("data", required=False, type=DATA)
@click.option("-o", "--out", type=PATH, help="the file to write [report.html in RUN]")
@click.option("--overwrite", is_flag=True, help="replace the file that --out names")
@click.option("--points", type=int, help="pictures on the map, at most [10000]")
@click.option("--map", help="tsne, pca or umap (pip install umap-learn) [tsne]")
@data_options
@encoder_options
@json_option()
def report(run: Path, data: str | None, **options: Any) -> dict[str, Any]:
    """One self-contained HTML page about a run.

    RUN is a run folder; DATA a data set's name, folder or table, by default the run's own. The
    page has curves, recall, a map of the pictures, the best and worst queries, classes that are
    confused and duplicate suspects. It asks nothing of any network; it holds small pictures of
    the data, so give it to those who may see them.
    """
    from maskcon import commands
    from maskcon.runtime.progress import screen

    with screen() as progress:
        made = commands.report(run, data, progress=progress, **given(options))
    echo(
        f"{made['path']}: {made['bytes'] / 2**20:.1f} MiB, {made['points']:,} of "
        f"{made['images']:,} pictures on the map"
    )
    return made
