"""The data sets with a name."""

import rich_click as click

from maskcon.cli.echo import echo


@click.command()
def datasets() -> None:
    """The data sets that --data knows by name."""
    from maskcon import commands

    for name, summary in commands.datasets().items():
        echo(f"{name:14} " + summary.replace("\n", f"\n{'':15}"))
    echo(
        "\nYour own: a folder tree [train|test/]coarse/[fine/]image.jpg; a table (.csv, .tsv,\n"
        ".jsonl, .parquet) with a column of paths; a Hugging Face set, as Parquet shards or saved\n"
        "to disk; a pack. `maskcon data check PATH` looks through it."
    )
