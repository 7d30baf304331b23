"""The ranges of hyper-parameters, for messages that say what was expected."""

from torch import Tensor

from maskcon.errors import InputError

Number = float | Tensor  # a tensor of no dimensions, where a schedule changes the value


def check(ok: object, name: str, value: Number, expected: str) -> None:
    """Raise `InputError` unless ok."""
    if not ok:
        raise InputError(f"{name} is {value}: expected {expected}")


def temperature(**values: Number) -> None:
    """Values must be above 0; those of schedules were looked at before the run."""
    for name, value in values.items():
        if not isinstance(value, Tensor):
            check(value > 0, name, value, "a temperature above 0")


def share(**values: Number) -> None:
    """Values must be in [0, 1], likewise."""
    for name, value in values.items():
        if not isinstance(value, Tensor):
            check(0 <= value <= 1, name, value, "a share in [0, 1]")


def at_least_zero(**values: Number) -> None:
    """Values must not be below 0, likewise."""
    for name, value in values.items():
        if not isinstance(value, Tensor):
            check(value >= 0, name, value, "0 or more")
