"""The command line. It knows everything; nothing knows it."""

import os
import signal
import sys
from importlib import metadata

import click

from maskcon.cli import benchmark, listing
from maskcon.cli import data as pictures
from maskcon.cli import discover as discovering
from maskcon.cli import eval as judging
from maskcon.cli import export as exporting
from maskcon.cli import report as reporting
from maskcon.cli import search as searching
from maskcon.cli import train as training
from maskcon.cli.echo import echo
from maskcon.errors import InputError, Interrupted, MainProcessError, TrainingError

PROGRAM = "maskcon"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(metadata.version("maskcon"), prog_name=PROGRAM)
def cli() -> None:
    """Learn fine-grained image embeddings from coarse labels."""


for command in (
    training.train,
    training.demo,
    training.reproduce,
    judging.eval,
    discovering.discover,
    judging.compare,
    reporting.report,
    exporting.export,
    searching.embed,
    searching.index,
    searching.search,
    pictures.data,
    benchmark.benchmark,
    listing.methods,
    listing.datasets,
):
    cli.add_command(command)


def main() -> None:
    """Run the command line; errors that a person can cause are one message, no traceback."""
    # So that scratch files are removed; training, while it runs, has a handler of its own.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        cli(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except MainProcessError:  # the first process has told it
        sys.exit(1)
    except (InputError, TrainingError) as error:
        echo(f"{_speaker()}error: {error}", err=True)
        sys.exit(2 if isinstance(error, InputError) else 1)
    except MemoryError as error:
        echo(f"error: there is not enough memory{f': {error}' if str(error) else ''}", err=True)
        sys.exit(1)
    except Interrupted as error:
        if not _speaker():
            echo(f"{error}; go on with --resume", err=True)
        sys.exit(128 + error.number)


def _speaker() -> str:
    """Which of several processes that torchrun started says something; the first needs no name."""
    rank = os.environ.get("RANK", "0")
    return "" if rank == "0" else f"rank {rank}: "
