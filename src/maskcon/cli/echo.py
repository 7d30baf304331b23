"""Printing what people named."""

import click

from maskcon.runtime.progress import printable


def echo(text: str = "", *, err: bool = False) -> None:
    """Print text; names of files and classes in it cannot steer the terminal."""
    click.echo(printable(text), err=err)
