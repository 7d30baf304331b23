"""Several runs beside each other."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from maskcon.runs import compare as comparison
from maskcon.runs import folder as runs
from maskcon.runtime.files import output, write, write_json


def compare(
    folders: Sequence[str | Path],
    *,
    metrics: Sequence[str] = (),
    json: str | Path | None = None,
    csv: str | Path | None = None,
    latex: str | Path | None = None,
    picture: str | Path | None = None,
    overwrite: bool = False,
) -> list[dict[str, Any]]:
    """Several runs beside each other; runs that differ only in their seed are one row.

    Args:
        folders: of finished runs, or those that `train_seeds` made.
        metrics: to show, such as "recall@1" or "knn@200"; by default those that all runs have.
        json: a file for what is returned.
        csv: a file for the table, as comma-separated values in shares.
        latex: a file for it, as a LaTeX tabular in per cent.
        picture: a .png or .svg file for the picture.
        overwrite: replace these files.

    Returns:
        A row for each: "name", "seeds", "runs" (folders), "metrics" ({metric: [share of each
        seed]}), "mean" and "std" ({metric: share}; std is None of one seed), the best recall@1
        first.

    Raises:
        InputError: a folder is no finished run, or none has a metric.
    """
    each = [run for folder in folders for run in comparison.of_seeds(Path(folder))]
    own = [path for folder in each for path in runs.written(folder)]
    files = {"--json": json, "--csv": csv, "--latex": latex, "--picture": picture}
    with ExitStack() as stack:
        for option, file in files.items():
            if file is not None:
                stack.enter_context(output(file, option, overwrite=overwrite, inputs=own))
        rows = comparison.rows(each, metrics)
        plain = [row.as_dict() for row in rows]
        if json is not None:
            write_json(Path(json), plain)
        for path, made in ((csv, comparison.csv_table), (latex, comparison.latex_table)):
            if path is not None:
                write(Path(path), made(rows).encode())
        if picture is not None:
            comparison.draw(rows, Path(picture))
    return plain
