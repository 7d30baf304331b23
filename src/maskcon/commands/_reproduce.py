"""Published rows, run again."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from maskcon.commands import _eval
from maskcon.commands._train_seeds import check_seeds, run_or_go_on
from maskcon.commands.sources import resolved
from maskcon.errors import InputError
from maskcon.runs import folder as runs
from maskcon.runs import ledger as ledgers
from maskcon.runs import paper
from maskcon.runs.callbacks import Callback
from maskcon.runs.results import own_evaluation
from maskcon.runtime import distributed
from maskcon.runtime.progress import Progress, Silent, follower


def reproduce(
    data: str | None = None,
    method: str | None = None,
    *,
    seeds: Sequence[int] = (0,),
    out: str | Path = "runs",
    upper_bound: str = paper.UPPER_BOUND_METHODS[0],
    resume: bool = False,
    ledger: str | Path | None = None,
    callbacks: Sequence[Callback | str] = (),
    progress: Progress | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Run a published row, and set what comes out beside what was published.

    Args:
        data: a data set of the rows; without one, nothing is run and the rows are returned.
        method: as the paper calls it; "supfine" is the upper bound.
        seeds: one run each.
        out: folder of the run folders, DATA-METHOD-...-seedN.
        upper_bound: what supfine trains with, "supcon" or "supce"; the paper does not state it.
        resume: go on with runs that were broken off; finished ones are not run again, and those
            that were not begun are begun.
        ledger: file that finished runs are appended to; by default that of the source tree.
        callbacks: told of each run in turn, as `train` takes them.
        progress: told how it goes.
        options: "w" and "tau" choose the row; others change the recipe, and the comparison says
            so. Initial weights are those of the row, ImageNet's of MaskCon's, unless `init` says
            otherwise.

    Returns:
        "rows" alone, or "row", "runs" (their run.json, with what `eval` found where the row
        has more than the recall of training; nothing in processes that are not the first of
        several), and "not_comparable": why not.

    Raises:
        InputError: there is no such row, or something given cannot be used.
    """
    if data is None:
        return {"rows": [_described(row) for row in paper.rows()]}
    if method is None:
        rows = [row.name for row in paper.rows() if row.data == data]
        if not rows:
            sets = dict.fromkeys(row.data for row in paper.rows())
            raise InputError(f"no row is of {data!r}: rows are of {', '.join(sets)}")
        raise InputError(f"give a method of the rows of {data}: {'; '.join(rows)}")
    if "seed" in options:
        raise InputError(f"seed is {options['seed']}: give seeds=({options['seed']},)")
    check_seeds(seeds)
    hyper: dict[str, Any] = {n: options.pop(n) for n in [*options] if n in ("w", "tau")}
    row, as_published = _published(data, method, hyper, upper_bound)
    reference = resolved(as_published, row.recipe).as_dict()
    file = Path(ledger) if ledger is not None else ledgers.home()
    name = row.name + (f" {upper_bound}" if row.method == paper.UPPER_BOUND else "")
    stem = "-".join([data, *name.replace("=", "").split()])
    folders = {seed: Path(out) / f"{stem}-seed{seed}" for seed in seeds}
    done = []
    with distributed.process_group() as ranks:
        told = follower(progress) if ranks.is_main else Silent()
        again = resume or distributed.restarted()
        begun = [s for s, folder in folders.items() if again and (folder / runs.RUN_FILE).exists()]
        begun = ranks.broadcast_object(begun)

        def check() -> None:
            for seed, folder in folders.items():
                runs.check(folder, resume=seed in begun, overwrite=False)
            ledgers.add(file, [])  # can it be written?

        ranks.main_only(check)
        for seed, folder in folders.items():
            given = {**as_published, **options, "seed": seed}
            told.note(f"{row.name} on {data}, seed {seed}: {folder}")
            done.append(_run(folder, given, row, seed in begun, callbacks, told))
            ranks.main_only(lambda: ledgers.add(file, done[-1:]))
        told.note(f"the ledger is {file}")
    reasons = [*row.differs, *paper.differences(done[0]["config"], reference)]
    return {
        "row": _described(row),
        "runs": done if ranks.is_main else [],
        "not_comparable": reasons,
    }


def _described(row: paper.Row) -> dict[str, Any]:
    return asdict(row) | {"name": row.name, "command": row.command}


def _published(
    data: str, method: str, hyper: Mapping[str, Any], upper_bound: str
) -> tuple[paper.Row, dict[str, Any]]:
    """A published row, and the options that make it, beside those of the recipe."""
    for name, value in hyper.items():
        if not isinstance(value, int | float):
            raise InputError(f"{name} is {value!r}: the published rows have a number for it")
    row = paper.row_of(data, method, hyper)
    if not row.has_name:
        raise InputError(
            f"{data} is no set that is read by its name, so you say where it lies: {row.command}"
        )
    if upper_bound not in paper.UPPER_BOUND_METHODS:
        raise InputError(
            f"upper_bound is {upper_bound!r}: expected {' or '.join(paper.UPPER_BOUND_METHODS)}"
        )
    options = {"init": row.init, **hyper, **row.hyper, "data": data, "method": row.method}
    if row.method == paper.UPPER_BOUND:
        options |= {"method": upper_bound, "label": "fine"}
    return row, options


def _run(
    folder: Path,
    given: Mapping[str, Any],
    row: paper.Row,
    resume: bool,
    callbacks: Sequence[Callback | str],
    progress: Progress,
) -> dict[str, Any]:
    """Train, go on with a run that is there, or take it as it is where it is finished; judge it."""
    run = run_or_go_on(
        folder, given, row.recipe, resume=resume, callbacks=callbacks, progress=progress
    )
    if row.protocols and not set(row.published) <= set(own_evaluation(run)):
        device = given.get("device", "auto")
        _eval.eval(folder, protocol=row.protocols, device=device, progress=progress)
        run = runs.read(folder)
    return dict(run)
