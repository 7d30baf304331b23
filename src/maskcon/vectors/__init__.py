"""Pictures become vectors: computed in one place, kept, read and written as files.

    encode            the one loop: batches of pictures -> preprocessing -> network
    once              each picture through a network once; what a store knows is found there
    store             Store: the vectors that are known, by picture and network
    file              Embeddings, a file of vectors; reading and writing are its formats
    frozen            vectors of a backbone that does not learn, in place of images
    as_data           a file of vectors as a data set: in place of pictures, or beside them

Importing this imports nothing heavy: what is named here is imported when it is asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maskcon.vectors.file import Embeddings, read, write
    from maskcon.vectors.store import Store

__all__ = ["Embeddings", "Store", "read", "write"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        module = "store" if name == "Store" else "file"
        return getattr(import_module(f"maskcon.vectors.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
