"""The losses that there are."""

from maskcon.methods import METHODS


def methods() -> dict[str, str]:
    """Name and summary of every method."""
    return {name: method.summary for name, method in METHODS.items()}
