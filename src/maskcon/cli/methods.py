"""The losses."""

from typing import Any

import rich_click as click

from maskcon.cli.as_json import json_option
from maskcon.cli.echo import echo
from maskcon.cli.options import flag
from maskcon.methods.schedules import shown


@click.command()
@json_option(overwrite=True)
def methods() -> dict[str, dict[str, Any]]:
    """The losses, and what each takes."""
    from maskcon import commands

    known = commands.methods()
    for name, one in known.items():
        taken = one["hyper_parameters"].items()
        flags = "  ".join(f"{flag(n)} {shown(value)}" for n, value in taken)
        echo(f"{name:14} {one['summary']}\n{'':14} {flags or 'no hyper-parameters'}")
    return known
