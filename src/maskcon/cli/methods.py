"""The losses."""

import rich_click as click

from maskcon.cli.echo import echo
from maskcon.cli.options import flag
from maskcon.methods import METHODS
from maskcon.methods.schedules import shown


@click.command()
def methods() -> None:
    """The losses, and what each takes."""
    from maskcon import commands

    for name, summary in commands.methods().items():
        taken = METHODS[name].hyper_parameters
        flags = "  ".join(f"{flag(n)} {shown(value)}" for n, value in taken.items())
        echo(f"{name:14} {summary}\n{'':14} {flags or 'no hyper-parameters'}")
