"""Speeds."""

from typing import Any

import rich_click as click

from maskcon.cli.as_json import json_option
from maskcon.cli.echo import echo
from maskcon.cli.options import PATH
from maskcon.cli.tables import show


@click.group()
def benchmark() -> None:
    """Measure speeds beside what people would otherwise run."""


_DEVICE = click.option("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps [auto]")


_REPEATS = click.option("--repeats", type=int, default=5, help="turns of each side [5]")


# Of what begins with files of pictures.
_BACKBONE = click.option(
    "--backbone",
    default="timm/tf_efficientnet_lite0",
    help="with random weights [timm/tf_efficientnet_lite0]",
)
_SIZE = click.option("--image-size", type=int, default=224, help="in pixels [224]")
_THREADS = click.option(
    "--threads", type=int, default=0, help="of each side; 0 is one for each core [0]"
)

_JSON = json_option(overwrite=True)


@benchmark.command()
@click.option("--sides", help="some of the sides, with commas [all]")
@click.option("--backbone", default="resnet18", help="of all sides [resnet18]")
@click.option("--image-size", type=int, default=32, help="in pixels [32]")
@click.option("--batch-size", type=int, default=128, help="images of a step [128]")
@click.option("--bank-size", type=int, default=8192, help="keys of the bank [8192]")
@click.option("--steps", type=int, default=0, help="of a turn; 0 is 4, on a GPU 200 [0]")
@_REPEATS
@_DEVICE
@_JSON
def step(sides: str | None, **options: Any) -> dict[str, Any]:
    """The training step, end to end with its data.

    Beside a step in plain PyTorch ("reference") and beside the bare networks ("floor"): the
    forward and backward pass of the query and the forward pass of the key. Takes some minutes.
    """
    if sides is not None:
        options["sides"] = [name.strip() for name in sides.split(",")]
    return _benchmark(["step"], **options)


@benchmark.command()
@click.option("--image-size", type=int, default=32, help="in pixels [32]")
@click.option("--batch-size", type=int, default=128, help="images of a batch, for ours [128]")
@_REPEATS
@_DEVICE
@_JSON
def views(**options: Any) -> dict[str, Any]:
    """Weak and strong views, beside image-by-image transforms.

    Those of torchvision on Pillow images, and its v2 on tensors; one thread of a processor each.
    """
    return _benchmark(["views"], **options)


@benchmark.command()
@click.option("--data", type=PATH, help="a folder tree of pictures [JPEGs made on the fly]")
@click.option("--images", type=int, default=1024, help="how many of those [1024]")
@click.option("--width", type=int, default=700, help="of those, in pixels [700]")
@click.option("--height", type=int, default=480, help="of those [480]")
@click.option("--workers", type=int, default=0, help="processes; 0 is one for each core [0]")
@_REPEATS
@_JSON
def loader(**options: Any) -> dict[str, Any]:
    """Views of 224 px, beside torchvision's loader.

    From JPEG files and from a pack, with the same number of worker processes.
    """
    return _benchmark(["loader"], **options)


@benchmark.command()
@_REPEATS
@_DEVICE
@_JSON
def recall(**options: Any) -> dict[str, Any]:
    """Exact Recall@K, beside FAISS and beside a product with topk.

    On sets of 10,000 x 512 and 50,000 x 128; then how time and memory grow, up to the size of
    ImageNet's train split.
    """
    return _benchmark(["recall"], **options)


@benchmark.command()
@click.option("--sides", help="some of the sides, with commas [those that are installed]")
@_BACKBONE
@_SIZE
@click.option("--data", type=PATH, help="a folder of pictures [JPEGs made on the fly]")
@click.option("--images", type=int, default=512, help="how many of them [512]")
@_THREADS
@_REPEATS
@_JSON
def embed(sides: str | None, **options: Any) -> dict[str, Any]:
    """From JPEG files to vectors, on a processor.

    By each --backend that is installed; beside the same network called with timm in float32 and
    bf16, and beside onnxruntime and OpenVINO where they are installed. All read the same files
    while the network runs.
    """
    if sides is not None:
        options["sides"] = [name.strip() for name in sides.split(",")]
    return _benchmark(["embed"], **options)


@benchmark.command()
@_BACKBONE
@_SIZE
@click.option("--data", type=PATH, help="a folder for each class [JPEGs made on the fly]")
@click.option("--images", type=int, default=512, help="how many of those [512]")
@_THREADS
@click.option("--repeats", type=int, default=3, help="turns of each side [3]")
@_JSON
def answer(**options: Any) -> dict[str, Any]:
    """From a folder of pictures to groups, a page and an index, on a processor.

    Beside a plain script: the same network, k-means of each class with the best silhouette,
    exact neighbours of scikit-learn, a page.
    """
    return _benchmark(["answer"], **options)


@benchmark.command("all")
@_REPEATS
@_DEVICE
@_JSON
def every(device: str, **options: Any) -> dict[str, Any]:
    """All but embed and answer, one after the other; about half an hour on two cores.

    Close everything else first.
    """
    return _benchmark(["step", "views", "loader", "recall"], device=device, **options)


def _benchmark(names: list[str], **options: Any) -> dict[str, Any]:
    """Run benchmarks and print their tables; one record, or a mapping of several."""
    from maskcon.benchmark import BENCHMARKS, table
    from maskcon.runtime.progress import screen

    records = {}
    for name in names:
        taken = {k: v for k, v in options.items() if name != "loader" or k != "device"}
        with screen() as progress:
            records[name] = BENCHMARKS[name](progress=progress, **taken)
        for part in table.told(records[name]):
            if isinstance(part, str):
                echo(part)
            else:
                show(part)
    return records if len(names) > 1 else records[names[0]]
