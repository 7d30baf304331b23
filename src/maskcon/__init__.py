"""Learn fine-grained image embeddings from coarse labels.

`maskcon.commands` has the commands as functions; `maskcon.methods` the losses;
`maskcon.augment` the views. Importing the package itself imports nothing heavy.
"""

from importlib.metadata import version

__version__ = version("maskcon")
