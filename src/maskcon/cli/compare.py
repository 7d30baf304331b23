"""Several runs beside each other."""

from pathlib import Path
from typing import Any

import rich_click as click

from maskcon.cli.as_json import json_option
from maskcon.cli.echo import echo
from maskcon.cli.options import PATH, given
from maskcon.cli.tables import show_each


@click.command()
@click.argument("runs", type=PATH, nargs=-1, required=True)
@click.option("--metrics", help="such as recall@1,knn@200 [those that all runs have]")
@click.option(
    "--format",
    type=click.Choice(["text", "markdown"]),
    default="text",
    help="of what is printed [text]",
)
@click.option("--csv", type=PATH, help="write the table to this file")
@click.option("--latex", type=PATH, help="write the table as LaTeX to this file")
@click.option("--picture", type=PATH, help="draw the runs into this .png, .svg or .pdf file")
@click.option("--overwrite", is_flag=True, help="replace these files")
@json_option(own=True)
def compare(
    runs: tuple[Path, ...], metrics: str | None, format: str, **options: Any
) -> list[dict[str, Any]]:
    """Several runs side by side.

    RUNS are run folders, or folders that `train --seeds` made; runs that differ only in their seed
    become one row, mean ± standard deviation. What `maskcon
    eval --protocol ...` measured is in the table as well, where all runs have it.
    """
    from maskcon import commands
    from maskcon.runs import compare as comparison

    chosen = [name.strip() for name in metrics.split(",")] if metrics else []
    rows = commands.compare(list(runs), metrics=chosen, **given(options))
    read = [comparison.Row.of(row) for row in rows]
    if format == "markdown":
        echo(comparison.markdown_table(read).rstrip("\n"))
    else:
        show_each(comparison.text_tables(read))
    return rows
