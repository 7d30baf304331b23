"""The command line. It knows everything; nothing knows it."""

import errno
import os
import signal
import sys
from importlib import import_module, metadata

import rich_click as click

from maskcon.cli.echo import echo
from maskcon.cli.options import panels
from maskcon.commands import COMMANDS
from maskcon.errors import InputError, Interrupted, MainProcessError, TrainingError

PROGRAM = "maskcon"
HELP = click.RichHelpConfiguration(
    command_groups={
        PROGRAM: [{"name": title, "commands": [*names]} for title, names in COMMANDS.items()]
    },
    option_groups={f"{PROGRAM} {name}": panels() for name in ("train", "reproduce")},
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "rich_help_config": HELP})
@click.version_option(metadata.version("maskcon"), prog_name=PROGRAM)
def cli() -> None:
    """Learn fine-grained image embeddings from coarse labels."""


for names in COMMANDS.values():
    for name in names:
        cli.add_command(getattr(import_module(f"maskcon.cli.{name}"), name))


def main() -> None:
    """Run the command line; errors that a person can cause are one message, no traceback."""
    # So that scratch files are removed; training, while it runs, has a handler of its own.
    for name in ("SIGTERM", "SIGHUP"):  # the second is not on Windows, and nohup ignores it
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda number, frame: sys.exit(128 + number))
    try:
        cli(prog_name=PROGRAM, standalone_mode=False)
    except click.Abort:
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
    except (MemoryError, OSError, RuntimeError) as error:
        reason = _exhausted(error)
        if reason is None:
            raise
        echo(f"{_speaker()}error: {reason}{f': {error}' if str(error) else ''}", err=True)
        sys.exit(1)
    except Interrupted as error:
        if not _speaker():
            echo(f"{error}; go on with --resume", err=True)
        sys.exit(128 + error.number)


def _exhausted(error: Exception) -> str | None:
    """What the machine has not enough of, where that is what an error says."""
    if isinstance(error, OSError):
        full = error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", None))
        return "the disk is full" if full else None
    lacks = ("can't allocate memory", "out of memory", "not enough memory")  # as torch says it
    if isinstance(error, MemoryError) or any(words in str(error) for words in lacks):
        return "there is not enough memory"
    return None


def _speaker() -> str:
    """Which of several processes that torchrun started says something; the first needs no name."""
    rank = os.environ.get("RANK", "0")
    return "" if rank == "0" else f"rank {rank}: "
