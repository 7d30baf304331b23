"""grocery_small: 308 photographs of the Grocery Store Dataset (Klasson et al., 2019)."""

from dataclasses import replace
from pathlib import Path

from maskcon.data.readers import folder
from maskcon.data.table import Found

HERE = Path(__file__).parent / "grocery_small"


def find() -> Found:
    """The set, as a folder tree `train|test/coarse/fine/image.jpg` has it."""
    return replace(folder.read(HERE), name="grocery_small")
