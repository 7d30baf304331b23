"""Printing what people named."""

from collections.abc import Iterable

import rich_click as click

from maskcon.runtime.progress import printable


def echo(text: str = "", *, err: bool = False) -> None:
    """Print text; names of files and classes in it cannot steer the terminal."""
    click.echo(printable(text), err=err)


def echo_skipped(reasons: Iterable[str]) -> None:
    """Print why pictures were left out."""
    for reason in reasons:
        echo(f"left out: {reason}")
