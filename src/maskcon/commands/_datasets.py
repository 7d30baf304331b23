"""The data sets that have a name."""

from typing import Any

from maskcon.data import data_sets
from maskcon.runs import paper


def datasets() -> dict[str, dict[str, Any]]:
    """Every data set that maskcon knows by name.

    Returns:
        For each "summary", "recipe" (its name, or None), and "best": the hyper-parameters of
        MaskCon's best published row with this recipe.
    """
    best = {row.data: row.hyper for row in paper.rows() if row.best and row.method == "maskcon"}
    return {
        name: {
            "summary": known.summary,
            "recipe": known.recipe,
            "best": {} if known.recipe is None else dict(best.get(name, {})),
        }
        for name, known in data_sets().items()
    }
