"""From a trained encoder to vectors, an index, and the pictures that are alike."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from maskcon.cli.columns import aligned
from maskcon.cli.echo import echo
from maskcon.cli.options import PATH, data_options, given

SHOWN = 20  # queries, or paths, that are printed


def encoder_options(command: Callable) -> Callable:
    """Where and in what numbers an encoder computes."""
    for flag, text in (
        ("--precision", "auto, fp32, bf16 or fp16 [the run's own]"),
        ("--device", "auto, cpu, cuda, cuda:1 [auto]"),
    ):
        command = click.option(flag, help=text)(command)
    return command


@click.command()
@click.argument("run", type=PATH)
@click.argument("data", required=False)
@click.option(
    "-o", "--out", type=PATH, required=True, help="the file, NAME.parquet, NAME.npz or NAME.csv"
)
@click.option("--overwrite", is_flag=True, help="replace the file that is there")
@click.option("--batch-size", type=int, help="pictures that are embedded together [256]")
@data_options
@encoder_options
def embed(run: Path, data: str | None, out: Path, **options: Any) -> None:
    """Write the vectors of pictures to a file.

    RUN is a run folder, or the encoder.safetensors in it; DATA a data set's name, folder or
    table, a folder of pictures without labels, or a picture [the run's own data]. The file has
    columns path, coarse, fine, split, vector. Until it is whole, OUT.part holds what is embedded,
    and the same command goes on with that.
    """
    from maskcon import commands
    from maskcon.runtime.progress import screen

    with screen() as progress:
        done = commands.embed(run, data, out=out, progress=progress, **given(options))
    if not done:  # which the first of several processes alone tells
        return
    _print_skipped(done["skipped"])
    echo(f"{out}: {done['images']:,} vectors of {done['width']}, {done['bytes'] / 2**20:,.1f} MiB")


@click.command()
@click.argument("source", metavar="RUN|INDEX", type=PATH)
@click.argument("data", required=False)
@click.option("-o", "--out", type=PATH, help="the index, such as shop.index")
@click.option("--add", is_flag=True, help="add to the index; the same path takes its old place")
@click.option("--remove", multiple=True, help="a path or pattern, such as 'old/*'; may be repeated")
@click.option("--kind", help="exact; hnsw: approximate; auto: exact up to 200,000 pictures [auto]")
@click.option(
    "--thumbnails/--no-thumbnails",
    default=None,
    help="keep a small JPEG of each picture [yes]",
)
@click.option("--overwrite", is_flag=True, help="replace the index that is there")
@click.option("--batch-size", type=int, help="pictures that are embedded together [256]")
@data_options
@encoder_options
def index(source: Path, data: str | None, remove: tuple[str, ...], **options: Any) -> None:
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
    _print_skipped(done["skipped"])
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


@click.command()
@click.argument("index", type=PATH)
@click.argument("queries", nargs=-1, required=True, type=PATH)
@click.option("-k", type=int, help="hits of each query [10]")
@click.option("--run", type=PATH, help="the run folder [the one that the index was made with]")
@click.option("--html", type=PATH, help="write a page with thumbnails to this file")
@click.option("--json", type=PATH, help="write the result to this file")
@click.option("--keep-self", is_flag=True, help="do not leave the query out of its own hits")
@click.option("--skip-unreadable", is_flag=True, help="go on without queries that cannot be read")
@click.option("--workers", type=int, help="threads that read pictures [one for each core]")
@encoder_options
def search(index: Path, queries: tuple[Path, ...], **options: Any) -> None:
    """Find the pictures of an index that are most like others.

    QUERIES are pictures, or folders of pictures. A query that is in the index itself, by its path
    or its very pixels, is left out of its own hits. Scores are cosine similarities, 1 at most.
    """
    from maskcon import commands
    from maskcon.runtime.progress import screen

    with screen() as progress:
        result = commands.search(index, list(queries), progress=progress, **given(options))
    _print_skipped(result["skipped"])
    for query in result["queries"][:SHOWN]:
        _print_hits(query)
    rest = len(result["queries"]) - SHOWN
    if rest > 0:
        echo(f"\n... and {rest:,} more queries: --json or --html write all of them")
    for file in (options["json"], options["html"]):
        if file is not None:
            echo(f"{file} is written")


def _print_hits(query: dict[str, Any]) -> None:
    from maskcon.commands._search import displayed

    itself = str(Path(query["path"]).absolute())
    copies = [path for path in query["left_out"] if path != itself]
    left_out = "  (in the index, left out)" if itself in query["left_out"] else ""
    echo(f"\n{displayed(query['path'])}{left_out}")
    for path in copies:
        echo(f"left out: {displayed(path)}, which has the same pixels")
    hits = query["hits"]
    if not hits:
        echo("nothing else is in the index")
        return
    columns = {
        "rank": [str(hit["rank"]) for hit in hits],
        "score": [f"{hit['score']:.3f}" for hit in hits],
        **{n: [displayed(hit[n] or "-") for hit in hits] for n in ("coarse", "fine")},
        "path": [displayed(hit["path"]) for hit in hits],
    }
    shown = {n: c for n, c in columns.items() if n in ("rank", "score") or {*c} != {"-"}}
    table = [tuple(shown), *zip(*shown.values(), strict=True)]
    for line in aligned(table, left=range(2, len(shown))):
        echo(line)


def _print_skipped(skipped: Sequence[tuple[str, str]]) -> None:
    for _, reason in skipped:
        echo(f"left out: {reason}")


def _print_paths(word: str, paths: Sequence[str]) -> None:
    from maskcon.commands._search import displayed

    for path in paths[:SHOWN]:
        echo(f"{word}: {displayed(path)}")
    if len(paths) > SHOWN:
        echo(f"... and {len(paths) - SHOWN:,} more")
