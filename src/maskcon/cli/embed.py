"""Vectors of pictures in a file."""

from pathlib import Path
from typing import Any

import rich_click as click

from maskcon.cli.as_json import json_option
from maskcon.cli.complete import DATA
from maskcon.cli.echo import echo, echo_skipped
from maskcon.cli.options import PATH, data_options, encoder_options, given, split_option


@click.command()
@click.argument("run", type=PATH)
@click.argument("data", required=False, type=DATA)
@click.option(
    "-o", "--out", type=PATH, required=True, help="the file, NAME.parquet, NAME.npz or NAME.csv"
)
@split_option
@click.option("--overwrite", is_flag=True, help="replace the file that is there")
@click.option("--batch-size", type=int, help="pictures that are embedded together [256]")
@data_options
@encoder_options
@json_option()
def embed(run: Path, data: str | None, out: Path, **options: Any) -> dict[str, Any] | None:
    """Write the vectors of pictures to a file.

    RUN is a run folder, or the encoder.safetensors in it; DATA a data set's name, folder or
    table, a folder of pictures without labels, or a picture [the run's own data]. The file has
    columns path, coarse, fine, split, picture_state (size and time of change of its file), vector.
    What is embedded is kept as it comes: broken off, the same command goes on (maskcon vectors
    tells where and how much).
    """
    from maskcon import commands
    from maskcon.runtime.progress import screen

    with screen() as progress:
        done = commands.embed(run, data, out=out, progress=progress, **given(options))
    if not done:  # which the first of several processes alone tells
        return None
    echo_skipped(reason for _, reason in done["skipped"])
    echo(f"{out}: {done['images']:,} vectors of {done['width']}, {done['bytes'] / 2**20:,.1f} MiB")
    return done
