"""An index over HTTP."""

from pathlib import Path
from typing import Any

import rich_click as click

from maskcon.cli.echo import echo
from maskcon.cli.options import PATH, encoder_options, given


@click.command()
@click.argument("index", type=PATH)
@click.option("--run", type=PATH, help="the run folder [the one that the index was made with]")
@click.option("--host", help="where to listen; others than this machine's own open it [127.0.0.1]")
@click.option("--port", type=int, help="where to listen; 0 is any that is free [0]")
@encoder_options
def serve(index: Path, **options: Any) -> None:
    """Answer searches in an index over HTTP, described at /openapi.json.

    Each request shows the token that is in the printed address, or the one that $MASKCON_TOKEN
    says. Nothing can be changed. Ctrl-C ends it.
    """
    from maskcon import commands
    from maskcon.runtime.progress import screen

    with screen() as progress:
        commands.serve(
            index,
            ready=lambda address: echo(f"serving {index.name} at {address}"),
            progress=progress,
            **given(options),
        )
