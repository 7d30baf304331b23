"""Pictures become vectors: computed in one place, kept, read and written as files.

    encode            the one loop: batches of pictures -> preprocessing -> network
    file              Embeddings, a file of vectors; reading and writing are its formats
    journal           what is embedded so far, where a command may be broken off
    frozen            vectors of a backbone that does not learn, kept for the next run
    as_data           a file of vectors as a data set

Importing this imports nothing heavy: what is named here is imported when it is asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maskcon.vectors.file import Embeddings, read, write

__all__ = ["Embeddings", "read", "write"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("maskcon.vectors.file"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
