"""The networks that are recommended."""

from contextlib import ExitStack
from pathlib import Path

import rich_click as click

from maskcon.cli.echo import echo
from maskcon.cli.options import PATH
from maskcon.cli.tables import show


@click.command()
@click.option("--measure", is_flag=True, help="time each here, with random weights; takes minutes")
@click.option("--device", default="auto", help="to time it on: auto, cpu, cuda, cuda:1, mps [auto]")
@click.option("--json", type=PATH, help="write the rows to this file")
@click.option("--overwrite", is_flag=True, help="replace that file")
def backbones(measure: bool, device: str, json: Path | None, overwrite: bool) -> None:
    """Networks that others trained, by the short names that --backbone takes.

    GMACs are the work of one image of 224 px, so they say which is faster. The licence is that of
    the weights. Those that are on this machine are in a Python package, or in the cache of the hub
    or of torch; --init imagenet takes them, --download fetches others.
    """
    from maskcon import commands
    from maskcon.runtime.files import output, write_json
    from maskcon.runtime.progress import screen

    with ExitStack() as stack:
        if json is not None:
            stack.enter_context(output(json, "--json", overwrite=overwrite))
        with screen() as progress:
            rows = commands.backbones(measure=measure, device=device, progress=progress)
        if json is not None:
            write_json(json, rows)
    head = ["name", "trained by", "licence", "weights", "M", "GMACs", "px"]
    table = [[*head, *(["images/s"] if measure else [])]]
    for row in rows:
        texts = [row["short"], row["trained"], row["licence"], row["source"] or "no"]
        figures = [f"{row['parameters']:.1f}", f"{row['gmacs']:.1f}", str(row["size"])]
        speed = [f"{row['images_per_second']:.1f}"] if measure else []
        table.append([*texts, *figures, *speed])
    show(table, left=range(4))
    echo(
        "\nThe DINOv3 License is Meta's own: it binds what you make of the weights, so read it "
        "first. The\nothers are free. Any network of timm and torchvision serves as well: "
        "timm/NAME, torchvision/NAME."
    )
