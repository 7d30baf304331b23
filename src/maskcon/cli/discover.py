"""The fine groups inside coarse classes."""

from pathlib import Path
from typing import Any

import rich_click as click

from maskcon.cli.as_json import json_option
from maskcon.cli.complete import DATA
from maskcon.cli.echo import echo
from maskcon.cli.options import PATH, data_options, encoder_options, given, split_option
from maskcon.cli.tables import show
from maskcon.errors import InputError

# options that say how groups are found, of which --assign takes none
FOUND_BY = (
    "groups", "granularity", "answers", "ask", "known", "names", "pictures", "continued", "seed",
)  # fmt: skip
SIZES = 8  # groups whose sizes the table shows


@click.command()
@click.argument("run", type=PATH)
@click.argument("data", required=False, type=DATA)
@click.option(
    "--out", "-o", type=PATH, required=True, help="the folder to write to (--assign: a .csv)"
)
@split_option
@click.option("--groups", help="their number, such as 5 or cats=4,dogs=7 [estimated]")
@click.option("--granularity", help="finer, coarser, or groups of a tree: 5 or cats=finer,dogs=7")
@click.option("--answers", type=PATH, help="a table of answers: left, right, same or different")
@click.option("--ask", is_flag=True, help="ask which pictures are of one kind; needs --answers")
@click.option("--known", type=PATH, help="a table of paths and fine labels of a few pictures")
@click.option("--names", type=PATH, help="names.csv, as sheet.html writes it")
@click.option("--assign", type=PATH, help="place DATA into the groups of this folder")
@click.option("--pictures", is_flag=True, help="write pictures that are no files as PNG")
@click.option("--overwrite", is_flag=True, help="replace the groups that are in --out")
@click.option("--continue", "continued", is_flag=True, help="replace them, keeping their numbers")
@click.option("--seed", type=int, default=0, help="of all that is drawn [0]")
@data_options
@encoder_options
@json_option()
def discover(run: Path, data: str | None, out: Path, **options: Any) -> dict[str, Any]:
    """Find the fine groups inside each coarse class.

    RUN is a run folder or its encoder.safetensors; DATA is a data set's name, folder or table,
    by default the run's own. The folder of -o gets groups.csv, which `maskcon train --data`
    takes as fine labels, and sheet.html, a page to look at and to name the groups on; --names
    applies the names. Fine labels of DATA are only used to judge.

    With --assign GROUPS the pictures of DATA are placed into the groups of that folder, or called
    new where they are far from all; -o is a table then.
    """
    from maskcon import commands
    from maskcon.runtime.progress import screen

    groups = options.pop("assign")
    if groups is not None:
        return _assign(run, data, out, groups, options)
    if options.pop("ask"):
        options["ask"] = _ask
    with screen() as progress:
        found = commands.discover(run, data, out=out, progress=progress, **given(options))
    _print_classes(found["coarse"])
    if "known" in found:
        _print_known(found["known"])
    if "judged" in found:
        _print_judged(found["judged"])
    echo(
        f"\n{out}: groups.csv, outliers.csv ({found['outliers']:,} pictures to look at), "
        "summary.json, trees.npz, sheet.html (open it to look and to name)"
    )
    return found


def _assign(
    run: Path, data: str | None, out: Path, groups: Path, options: dict[str, Any]
) -> dict[str, Any]:
    """Place pictures into groups that are there, and say how many are new."""
    from maskcon import commands
    from maskcon.runtime.progress import screen

    without = [name for name in FOUND_BY if options.pop(name)]
    if without:
        flags = ", ".join(f"--{name.replace('continued', 'continue')}" for name in without)
        raise InputError(f"--assign finds no groups, it takes those of {groups}: leave out {flags}")
    if data is None:
        raise InputError(f"--assign places new pictures into the groups of {groups}: give DATA")
    with screen() as progress:
        found = commands.assign(
            run, data, groups=groups, out=out, progress=progress, **given(options)
        )
    table = [["group", "pictures"], *([n, f"{c:,}"] for n, c in sorted(found["placed"].items()))]
    echo()
    show([*table, ["new", f"{found['new']:,}"], ["all", f"{found['images']:,}"]])
    echo(f"\n{out}: the nearest group of each picture, its distance and the group's limit")
    return found


def _ask(left: list[str], right: list[str], picture: Path, number: int) -> str:
    """Ask about two lots of pictures, which are also drawn in a file; a verdict, back or stop."""
    echo(f"\nquestion {number}: are these two of the same kind? {picture} shows them")
    for side, names in (("left", left), ("right", right)):
        echo(f"  {side}: {', '.join(names)}")
    keys = {"s": "same", "d": "different", "u": "unsure", "b": "back", "q": "stop"}
    words = "[s]ame, [d]ifferent, [u]nsure, take [b]ack the last answer, [q]uit"
    return keys[click.prompt(words, type=click.Choice(list(keys)), show_choices=False)]


def _print_classes(classes: list[dict[str, Any]]) -> None:
    """A line for each coarse class."""
    table = [["coarse class", "images", "groups", "low-high", "structure", "sizes"]]
    for c in classes:
        sizes = [f"{group['images']:,}" for group in c["groups"]]
        more = " ..." if len(sizes) > SIZES else ""
        between = f"{c['low']}-{c['high']}" if c["low"] < c["high"] else f"{c['number']}"
        number, shown = f"{c['number']:,}", " ".join(sizes[:SIZES]) + more
        table.append([c["name"], f"{c['images']:,}", number, between, c["structure"], shown])
    images, groups = (sum(c[what] for c in classes) for what in ("images", "number"))
    table.append(["all", f"{images:,}", f"{groups:,}", "", "", ""])
    echo()
    show(table, left=(0, 3, 4, 5))
    if any(c["structure"] == "kinds or visits" for c in classes):
        echo(
            "kinds or visits: vectors alone cannot tell kinds from pictures that were taken "
            "together; --ask asks you about those that matter most"
        )
    elif all(c["number"] == 1 and c["structure"] == "none" for c in classes):
        echo(
            "every class is left whole: --ask asks you what is of one kind, --granularity finer "
            "divides more, and --groups says how many kinds there are"
        )


def _print_known(known: dict[str, int]) -> None:
    """How the fine labels that were given fared when they were left out."""
    if not known["tested"]:
        echo("\nno fine label is known of two images: nothing to leave out and measure with")
        return
    share = known["right"] / known["tested"]
    echo(
        f"\nof the {known['images']:,} known images, {known['tested']:,} were left out, a fifth at "
        f"a time: {known['right']:,} ({share:.1%}) came into the group of their name"
    )


def _print_judged(scores: dict[str, float]) -> None:
    """Groups beside the fine classes of the data."""
    echo(
        f"\nbeside the {scores['classes']:.0f} fine classes of the data, which were not used to "
        "find the groups:"
    )
    table = [["", "groups", "accuracy", "ARI", "NMI"]]
    for name, number, end in (
        ("these groups", scores["groups"], ""),
        ("with the true numbers", scores["classes"], "/true_number"),
    ):
        cells = (f"{scores[f'{key}{end}']:.1%}" for key in ("accuracy", "ari", "nmi"))
        table.append([name, f"{number:.0f}", *cells])
    show(table)
    echo(
        f"the number of a coarse class is off by {scores['number/error']:.1f} on average; the more "
        f"confident half of the images is right in {scores['accuracy/confident']:.1%}, the rest "
        f"in {scores['accuracy/rest']:.1%}"
    )
