"""The errors that a person can cause."""

import signal


class InputError(ValueError):
    """Something given to maskcon cannot be used.

    The message says what was given, what was expected and what to do. The command line
    prints it without a traceback.
    """


class TrainingError(RuntimeError):
    """Training had to stop; the message says why, and where its last checkpoint is."""


class DivergedError(TrainingError):
    """The loss or the features are not finite any more."""


class Interrupted(Exception):  # noqa: N818 - no error
    """A signal asked the run to stop; its checkpoint is written.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int):
        super().__init__(f"stopped by {signal.Signals(number).name}; a checkpoint is written")
        self.number = number
