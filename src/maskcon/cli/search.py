"""The pictures of an index that are alike, or that words describe."""

from pathlib import Path
from typing import Any

import rich_click as click

from maskcon.cli.as_json import json_option
from maskcon.cli.echo import echo, echo_skipped
from maskcon.cli.options import PATH, encoder_options, given
from maskcon.cli.tables import show

SHOWN = 20  # queries that are printed


@click.command()
@click.argument("index", type=PATH)
@click.argument("queries", nargs=-1, required=True)
@click.option("-k", type=int, help="hits of each query [10]")
@click.option("--run", type=PATH, help="the run folder [the one that the index was made with]")
@click.option("--html", type=PATH, help="write a page with thumbnails to this file")
@click.option("--overwrite", is_flag=True, help="replace these files")
@click.option("--keep-self", is_flag=True, help="do not leave the query out of its own hits")
@click.option("--skip-unreadable", is_flag=True, help="go on without queries that cannot be read")
@click.option("--workers", type=int, help="threads that read pictures [one for each core]")
@click.option("--download", is_flag=True, help="fetch an encoder of the hub that is not here")
@encoder_options
@json_option(own=True)
def search(index: Path, queries: tuple[str, ...], **options: Any) -> dict[str, Any]:
    """Find the pictures of an index that are most like others, or that words describe.

    QUERIES are pictures, or folders of pictures; and words, such as "green apple", where the index
    was made by a network with a text side (`maskcon backbones` lists some). Words are what is no
    file there and does not end as one of a picture. A query that is in the index itself, by its
    path or its very pixels, is left out of its own hits. Scores are cosine similarities, 1 at most.
    """
    from maskcon import commands
    from maskcon.runtime.progress import screen

    with screen() as progress:
        result = commands.search(index, list(queries), progress=progress, **given(options))
    echo_skipped(reason for _, reason in result["skipped"])
    for query in result["queries"][:SHOWN]:
        _print_hits(query)
    rest = len(result["queries"]) - SHOWN
    if rest > 0:
        echo(f"\n... and {rest:,} more queries: --json or --html write all of them")
    for file in (options["json"], options["html"]):
        if file is not None:
            echo(f"{file} is written")
    return result


def _print_hits(query: dict[str, Any]) -> None:
    from maskcon.commands._search import displayed

    itself = str(Path(query["path"] or "").absolute())
    copies = [path for path in query["left_out"] if path != itself]
    left_out = "  (in the index, left out)" if itself in query["left_out"] else ""
    echo(f"\n{displayed(query['words'] or query['path'])}{left_out}")
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
    show(table, left=range(2, len(shown)))
