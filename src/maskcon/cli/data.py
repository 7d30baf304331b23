"""Look through a data set, or pack it."""

from functools import partial
from pathlib import Path
from typing import Any

import rich_click as click

from maskcon.cli.as_json import json_option
from maskcon.cli.complete import DATA
from maskcon.cli.echo import echo, echo_skipped
from maskcon.cli.options import PATH, data_options, given


@click.group()
def data() -> None:
    """Look through a data set, or pack it."""


@data.command()
@click.argument("path", type=DATA)
@partial(data_options, more=("method", "image_size", "test_share", "val_share", "seed"))
@json_option(overwrite=True, failed=lambda report: bool(report["wrong"]))
def check(path: str, **options: Any) -> dict[str, Any]:
    """Read everything once and report on it.

    PATH is a data set's name, folder or table. Exit code 1 where training would be wrong, 0
    otherwise; warnings are worth a look.
    """
    from maskcon import commands
    from maskcon.runtime.progress import screen

    with screen() as progress:
        report = commands.check(path, expect=True, progress=progress, **given(options))
    echo("\n".join([report.facts["name"], *report.lines]))
    for word, entries in (("warning", report.warnings), ("wrong", report.wrong)):
        for entry in entries:
            echo(f"{word + ':':11} {entry}")
    if not report.wrong and not report.warnings:
        echo("nothing wrong was found")
    return report.as_dict()


@data.command()
@click.argument("path", type=DATA)
@click.argument("out", type=PATH)
@click.option("--size", type=int, default=256, help="short side of the packed pictures [256]")
@click.option("--overwrite", is_flag=True, help="replace the pack that is there")
@data_options
@json_option()
def pack(path: str, out: Path, size: int, overwrite: bool, **options: Any) -> dict[str, Any]:
    """Decode and shrink every picture once, into one file.

    PATH is a data set's name, folder or table; OUT is NAME.pack, which --data then takes. The
    file is mapped, so training reads crops without decoding. Views lose what is finer than the
    packed size: a crop of a fifth of a 256 px picture has 114 px to fill 224.
    """
    from maskcon import commands
    from maskcon.runtime.progress import screen

    with screen() as progress:
        done = commands.pack(
            path, out, size=size, overwrite=overwrite, progress=progress, **given(options)
        )
    echo_skipped(done["skipped"])
    echo(f"{out}: {done['images']:,} pictures, {done['bytes'] / 2**20:,.1f} MiB")
    return done
