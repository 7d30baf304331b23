"""Learn fine-grained image embeddings from coarse labels.

`maskcon.Encoder` turns pictures into vectors; `maskcon.commands` has the commands as functions;
`maskcon.methods` the losses; `maskcon.data.augment` the views. Importing the package itself
imports nothing heavy: what is named here is imported when it is asked for.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maskcon.encoder import Encoder
    from maskcon.estimator import CoarseToFine

__all__ = ["CoarseToFine", "Encoder"]
__version__ = version("maskcon")

_WHERE = {"CoarseToFine": "maskcon.estimator", "Encoder": "maskcon.encoder"}


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    if name in ("commands", "data", "methods", "vectors"):
        return import_module(f"maskcon.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
