"""What readers ask of a file before they believe it.

A few bytes can claim anything: a table of 10^12 numbers, a text nested a million times, an archive
that unpacks to more than there is memory. Readers compare what a file claims with its own size.
"""

import json
from pathlib import Path
from typing import Any

from maskcon.errors import InputError

UNPACKED = 100  # times its own size that a file may unpack to; deflate does 1,000 with zeros
ALWAYS = 2**26  # bytes that any file may unpack to


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is none, or nested deeper than can be followed.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def check_unpacked(path: Path, claimed: int) -> None:
    """See that a file does not claim to hold far more than its own bytes can say.

    Args:
        path: of the file.
        claimed: bytes of memory that its content would take, as its header has it.

    Raises:
        InputError: it does.
    """
    size = path.stat().st_size
    if claimed > max(UNPACKED * size, ALWAYS):
        raise InputError(
            f"{path} has {size:,} bytes and says that it holds {claimed:,}: it is damaged, or made "
            "to fill memory; write it anew with less compression if it is yours"
        )
