"""The errors that a person can cause."""


class InputError(ValueError):
    """Something given to maskcon cannot be used.

    The message says what was given, what was expected and what to do. The command line
    prints it without a traceback.
    """


class TrainingError(RuntimeError):
    """Training had to stop; the message says why, and where its last checkpoint is."""
