"""From a folder of pictures to named groups that a person has looked at."""

from typing import Any

import rich_click as click

from maskcon.cli.echo import echo
from maskcon.cli.options import PATH, data_options, given


@click.command()
@click.argument("data", required=False)
@click.option("--demo", is_flag=True, help="with the 308 photographs that come with maskcon")
@click.option("--project", type=PATH, help="where all is kept [DATA.maskcon]")
@click.option(
    "--host", help="where the page is; others than this machine's own open it [127.0.0.1]"
)
@click.option("--port", type=int, help="where the page is; 0 is any that is free [0]")
@click.option("--read-only", is_flag=True, help="look, and change nothing")
@click.option("--open/--no-open", "open_browser", default=True, help="open the page [yes]")
@data_options
def explore(data: str | None, **options: Any) -> None:
    """Learn, group, look, ask and name: a page for a folder of pictures.

    DATA is a folder of pictures, with class folders or without, a table, a data set's name, or a
    project that was made before. All is kept in one project folder, and the pictures stay as they
    are. It may be stopped anywhere, and goes on with the same command. Ctrl-C ends it.
    """
    from maskcon import commands
    from maskcon.runtime.progress import screen

    with screen() as progress:
        commands.explore(
            data,
            ready=lambda address: echo(f"the page is at {address}"),
            progress=progress,
            **given(options),
        )
