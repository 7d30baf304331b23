"""The vectors that are kept."""

from datetime import datetime
from typing import Any

import rich_click as click

from maskcon.cli.as_json import json_option
from maskcon.cli.echo import echo
from maskcon.cli.options import given
from maskcon.cli.tables import show


@click.command()
@click.option("--keep", type=float, metavar="GB", help="keep so many gigabytes, what was used last")
@click.option("--clear", is_flag=True, help="delete all of them")
@json_option(overwrite=True)
def vectors(**options: Any) -> dict[str, Any]:
    """What is kept of pictures that went through a network, so that none need do so twice.

    Every command looks there first, and leaves there what it computes. The folder is
    $MASKCON_VECTORS [~/.cache/maskcon/vectors], or "none" for nowhere; what was not used longest
    goes when there are more than $MASKCON_VECTORS_GB gigabytes [10]. It may be deleted at any time.
    """
    from maskcon import commands

    done = commands.vectors(**given(options))
    if done["gone"]:
        echo(f"deleted: {done['gone']:,} vectors")
    if done["networks"]:
        rows = [["network", "pictures", "GB", "last used"]]
        for lot in done["networks"]:
            used = datetime.fromtimestamp(lot["used"]).astimezone().strftime("%Y-%m-%d %H:%M")
            size = f"{lot['bytes'] / 1e9:.2f}"
            rows.append([lot["name"], f"{lot['pictures']:,}", size, used])
        show(rows)
    size, limit = done["bytes"] / 1e9, done["limit"] / 1e9
    if done["path"] is not None:
        echo(f"{done['path']}: {size:.2f} of {limit:g} GB")
    if done["trouble"]:
        echo(f"nothing more is kept: {done['trouble']}")
    return done
