"""An index, or that of a project, over HTTP."""

from pathlib import Path
from typing import Any

import rich_click as click

from maskcon.cli.echo import echo
from maskcon.cli.options import PATH, encoder_options, given


@click.command()
@click.argument("source", metavar="INDEX|PROJECT", type=PATH)
@click.option("--run", type=PATH, help="the run folder [the one that the index was made with]")
@click.option("--host", help="where to listen; others than this machine's own open it [127.0.0.1]")
@click.option("--port", type=int, help="where to listen; 0 is any that is free [0]")
@encoder_options
def serve(source: Path, **options: Any) -> None:
    """Answer searches over HTTP, in an index or in the pictures of a project; /openapi.json
    describes them.

    Each request shows the token that is in the printed address, or the one that $MASKCON_TOKEN
    says. Nothing can be changed. Ctrl-C ends it.
    """
    from maskcon import commands
    from maskcon.runtime.progress import screen

    with screen() as progress:
        commands.serve(
            source,
            ready=lambda address: echo(f"serving {source.name} at {address}"),
            progress=progress,
            **given(options),
        )
