"""The losses."""

import rich_click as click

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
