"""What there is: methods and data sets."""

import click

from maskcon.cli.echo import echo
from maskcon.cli.options import hyper_parameters
from maskcon.methods.schedules import shown


@click.command()
def methods() -> None:
    """The losses, and what each takes."""
    from maskcon import commands

    taken = hyper_parameters()
    for name, summary in commands.methods().items():
        flags = "  ".join(
            f"--{n.replace('_', '-')} {shown(value)}" for n, value in taken[name].items()
        )
        echo(f"{name:14} {summary}\n{'':14} {flags or 'no hyper-parameters'}")


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
