"""An index of pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rich_click as click

from maskcon.cli.as_json import json_option
from maskcon.cli.complete import DATA
from maskcon.cli.echo import echo, echo_skipped
from maskcon.cli.options import PATH, data_options, encoder_options, given, split_option

SHOWN = 20  # paths that are printed


@click.command()
@click.argument("source", metavar="RUN|INDEX", type=PATH)
@click.argument("data", required=False, type=DATA)
@click.option("-o", "--out", type=PATH, help="the index, such as shop.index")
@split_option
@click.option("--add", is_flag=True, help="add to the index; the same path takes its old place")
@click.option("--remove", multiple=True, help="a path or pattern, such as 'old/*'; may be repeated")
@click.option("--kind", help="exact; ivf: approximate; auto: exact up to 200,000 pictures [auto]")
@click.option("--quantization", help="int8 or half: vectors in the lists of --kind ivf [int8]")
@click.option(
    "--thumbnails/--no-thumbnails",
    default=None,
    help="keep a small JPEG of each picture [yes]",
)
@click.option("--overwrite", is_flag=True, help="replace the index that is there")
@click.option("--batch-size", type=int, help="pictures that are embedded together [256]")
@data_options
@encoder_options
@json_option()
def index(
    source: Path, data: str | None, remove: tuple[str, ...], **options: Any
) -> dict[str, Any]:
    """Make, change or describe an index of pictures.

    \b
    maskcon index RUN photos -o shop.index         make one
    maskcon index shop.index more --add            add pictures to it
    maskcon index shop.index --remove 'old/*'      remove some
    maskcon index shop.index                       say what is in it

    DATA is what `maskcon embed` takes, or a file that it wrote. One file holds the vectors, paths,
    labels and thumbnails, and says which encoder made it.
    """  # noqa: D301 - click leaves the lines after its \b as they are
    from maskcon import commands
    from maskcon.runtime.progress import screen

    with screen() as progress:
        done = commands.index(source, data, remove=remove, progress=progress, **given(options))
    echo_skipped(reason for _, reason in done["skipped"])
    _print_paths("removed", done["removed"])
    for what in ("added", "replaced"):
        if done[what]:
            echo(f"{what}: {done[what]:,}")
    kind = done["kind"]
    if done["recall"] is not None:
        kind += f", which finds {done['recall']:.1%} of the exact 10 nearest"
    echo(
        f"{done['index']}: {done['pictures']:,} pictures, {done['thumbnails']:,} with thumbnails; "
        f"vectors of {done['width']}; {done['bytes'] / 2**20:,.1f} MiB\n"
        f"search: {kind}\nencoder {done['identity'][:8]} of {done['run']}"
    )
    return done


def _print_paths(word: str, paths: Sequence[str]) -> None:
    from maskcon.commands._search import displayed

    for path in paths[:SHOWN]:
        echo(f"{word}: {displayed(path)}")
    if len(paths) > SHOWN:
        echo(f"... and {len(paths) - SHOWN:,} more")
