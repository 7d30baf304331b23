"""The losses that there are."""

from typing import Any

from maskcon.methods import METHODS


def methods() -> dict[str, dict[str, Any]]:
    """Every method: its "summary", and its "hyper_parameters" with their defaults."""
    return {
        name: {"summary": method.summary, "hyper_parameters": dict(method.hyper_parameters)}
        for name, method in METHODS.items()
    }
