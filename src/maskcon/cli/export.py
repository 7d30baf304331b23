"""An encoder, or groups, for other programs."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import rich_click as click

from maskcon.cli.as_json import json_option
from maskcon.cli.complete import DATA
from maskcon.cli.echo import echo, echo_skipped
from maskcon.cli.options import PATH, data_options, given
from maskcon.export import targets

FORMS = "; ".join(f"{name}: {target.summary}" for name, target in targets().items())


@click.command()
@click.argument("run", type=PATH, metavar="RUN|GROUPS")
@click.option("--to", required=True, type=click.Choice(list(targets())), help=FORMS)
@click.option("-o", "--out", type=PATH, help="file or folder [RUN/encoder.onnx and so on]")
@click.option("--overwrite", is_flag=True, help="replace an earlier export")
@click.option("--data", type=DATA, help="pictures for atlas, or to compare on [the run's own]")
@click.option("--license", help="hf: of the weights, as the hub calls it, such as mit [unknown]")
@click.option("--push", metavar="OWNER/NAME", help="hf: upload the folder to the hub, privately")
@click.option("--projection", help="atlas: auto, tsne, umap or pca [auto: tsne up to 5,000 images]")
@click.option("--neighbours", type=int, help="atlas: of each image [15]")
@click.option("--thumbnail", type=int, help="atlas: side of pictures in pixels, 0: none [64]")
@click.option("--vectors/--no-vectors", default=None, help="atlas: a column of vectors [no]")
@click.option("--seed", type=int, help="atlas: of the projection [0]")
@click.option(
    "--root", type=PATH, help="label-studio, cvat: of the pictures' names [all lie in it]"
)
@click.option("--device", help="atlas: auto, cpu, cuda, cuda:1, mps [auto]")
@data_options
@json_option()
def export(run: Path, to: str, out: Path | None, overwrite: bool, **options: Any) -> dict[str, Any]:
    """Write a run's encoder, or groups, in a form that other programs read.

    RUN is a run folder. What is written is compared with the encoder first, on the run's test
    images, and not kept where it differs. GROUPS is a folder that discover wrote, whose pictures
    and names go to label-studio, cvat or fiftyone.
    """
    from maskcon import commands
    from maskcon.runtime.progress import screen

    with screen() as progress:
        done = commands.export(
            run, to=to, out=out, overwrite=overwrite, progress=progress, **given(options)
        )
    _print(done)
    near = done.get("agreement")
    return done if near is None else {**done, "agreement": asdict(near)}


def _print(done: dict[str, Any]) -> None:
    """What was written, how near it is, how fast, and how to load it."""
    if "labels" in done:
        echo(f"{done['images']:,} images with {done['labels']:,} labels")
    if "agreement" in done:
        near = done["agreement"]
        echo(
            f"compared on {done['compared_on']}: largest difference {near.max_difference:.1e}, "
            f"smallest cosine {near.min_cosine:.7f}"
        )
    if "images_per_second" in done:
        speeds = done["images_per_second"]
        echo(
            f"onnxruntime {speeds['onnxruntime']:,.0f} images/s, PyTorch {speeds['torch']:,.0f} "
            f"({speeds['onnxruntime'] / speeds['torch']:.2f} x), float32, batches of "
            f"{done['batch']}, {done['threads']} thread{'s' * (done['threads'] > 1)}"
        )
    echo_skipped(done.get("skipped", ()))
    if done["to"] == "atlas":
        echo(
            f"{done['images']:,} images, x and y by {done['projection']}, {done['neighbours']} "
            f"neighbours each; columns {', '.join(done['columns'])}"
        )
        show = "--x x --y y --neighbors neighbors"
        show += " --image image" if "image" in done["columns"] else ""
        echo(f"look at it: embedding-atlas {done['out']} {show}")
    if "load" in done:
        echo("\n".join(["load it:", *(f"    {line}" for line in done["load"].split("\n"))]))
    if done.get("pushed"):
        echo(f"pushed: {done['pushed']}")
    for path in done["files"]:
        echo(f"written: {path} ({_size(Path(path).stat().st_size)})")


def _size(count: int) -> str:
    return f"{count / 2**20:,.1f} MiB" if count >= 2**20 else f"{count / 2**10:,.1f} KiB"
