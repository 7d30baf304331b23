"""The errors that a person can cause."""

import signal
from collections.abc import Sequence

NAMED = 10  # unreadable pictures that an error names


class InputError(ValueError):
    """Something given to maskcon cannot be used.

    The message says what was given, what was expected and what to do. The command line
    prints it without a traceback.
    """


def brief(value: object) -> str:
    """A value for a message, whatever somebody wrote: not longer than a line."""
    text = repr(value[:100] if isinstance(value, str) else value)
    return text if len(text) <= 80 else text[:80] + "..."


def unreadable(reasons: Sequence[str], count: int, what_to_do: str) -> InputError:
    """The error of pictures that cannot be read; it names the first ten.

    Args:
        reasons: why each of them cannot be read.
        count: pictures that were asked for.
        what_to_do: such as "mend or remove them".
    """
    more = f"\n... and {len(reasons) - NAMED:,} more" if len(reasons) > NAMED else ""
    return InputError(
        "\n".join(reasons[:NAMED])
        + more
        + f"\n{len(reasons):,} of {count:,} pictures cannot be read: {what_to_do}"
    )


class TrainingError(RuntimeError):
    """Training had to stop; the message says why, and where its last checkpoint is."""


class DivergedError(TrainingError):
    """The loss or the features are not finite any more."""


class MainProcessError(RuntimeError):
    """Of several processes, the first has raised an error, and tells it; the others stop too."""


class Interrupted(Exception):  # noqa: N818 - no error
    """A signal asked the run to stop; its checkpoint is written.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int):
        super().__init__(f"stopped by {signal.Signals(number).name}; a checkpoint is written")
        self.number = number
