"""The data sets with a name."""

from typing import Any

import rich_click as click

from maskcon.cli.as_json import json_option
from maskcon.cli.echo import echo


@click.command()
@json_option(overwrite=True)
def datasets() -> dict[str, dict[str, Any]]:
    """The data sets that --data knows by name."""
    from maskcon import commands

    known = commands.datasets()
    for name, one in known.items():
        echo(f"{name:14} " + one["summary"].replace("\n", f"\n{'':15}"))
        if one["recipe"] is not None:
            best = ", ".join(f"{key} {value:g}" for key, value in one["best"].items())
            echo(f"{'':15}recipe {one['recipe']}" + (f"; best: {best}" if best else ""))
    echo(
        "\nYour own: a folder tree [train|test/]coarse/[fine/]image.jpg; a table (.csv, .tsv,\n"
        ".jsonl, .parquet) with a column of paths; a Hugging Face set, as Parquet shards or saved\n"
        "to disk; a pack. `maskcon data check PATH` looks through it."
    )
    return known
