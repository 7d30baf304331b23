"""The networks that are recommended."""

from typing import Any

import rich_click as click

from maskcon.cli.as_json import json_option
from maskcon.cli.echo import echo
from maskcon.cli.tables import show


@click.command()
@click.option("--measure", is_flag=True, help="time each here, with random weights; takes minutes")
@click.option("--device", default="auto", help="to time it on: auto, cpu, cuda, cuda:1, mps [auto]")
@json_option(overwrite=True)
def backbones(measure: bool, device: str) -> list[dict[str, Any]]:
    """Pretrained networks, by the short names that --backbone takes.

    GMACs are the work of one image of 224 px, so they say which is faster. The licence is that of
    the weights. Those that are on this machine are in a Python package, or in the cache of the hub
    or of torch; --init imagenet takes them, --download fetches others. The last lines are of those
    with a text side.
    """
    from maskcon import commands
    from maskcon.model.words import USUAL
    from maskcon.runtime.progress import screen

    with screen() as progress:
        rows = commands.backbones(measure=measure, device=device, progress=progress)
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
    whole = "\n".join(f"{row['words']}  (as {row['short']})" for row in rows if row["words"])
    echo(
        "\nWith a text side, for `maskcon index NAME PICTURES -o INDEX` and then `maskcon search "
        f'INDEX "green apple"`:\n{USUAL}\n{whole}\nor any other of open_clip_torch (pip install '
        "'maskcon[words]'): open_clip/MODEL@WEIGHTS."
    )
    return rows
