"""The data sets that have a name."""

from maskcon.data import data_sets
from maskcon.runs import paper


def datasets() -> dict[str, str]:
    """Every data set that maskcon knows by name: what it is, its recipe, and MaskCon's best."""
    best = {row.data: row for row in paper.rows() if row.best and row.method == "maskcon"}
    described = {}
    for name, known in data_sets().items():
        described[name] = known.summary
        if known.recipe is not None:
            row = best.get(name)
            values = {} if row is None else row.hyper
            hyper = ", ".join(f"{key} {value:g}" for key, value in values.items())
            described[name] += f"\nrecipe {known.recipe}" + (f"; best: {hyper}" if hyper else "")
    return described
