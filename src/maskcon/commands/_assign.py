"""New pictures into the groups that a discovery found."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from maskcon.commands._discover import MACHINE
from maskcon.commands._embed import all_readable
from maskcon.commands.labelled import labelled
from maskcon.data import Found
from maskcon.data.pictures import Files, Pictures
from maskcon.discover import place, spreadsheet
from maskcon.discover.placing import placed
from maskcon.encoder import Encoder
from maskcon.errors import InputError
from maskcon.model.hub import located
from maskcon.runtime import files
from maskcon.runtime.progress import Progress, Silent
from maskcon.vectors.store import Store

COLUMNS = {"path": ("path",), "coarse": ("coarse",), "fine": ("fine",), "group": ("group",)}
HEAD = ("path", "coarse", "fine", "nearest", "distance", "limit", "new")


def assign(
    run: str | Path,
    data: str | Path | Found,
    *,
    groups: str | Path,
    out: str | Path,
    split: str = "all",
    overwrite: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Place new pictures into groups that `discover` found, or call them new.

    A picture's distance from a group is 1 less the mean cosine similarity with its ten nearest
    there; it is new where that is beyond what the group's own members have
    (`maskcon.discover.placing`). A picture whose coarse class the groups know is compared with
    the groups of that class alone.

    Args:
        run: a run folder, the encoder.safetensors in it, or hf:OWNER/NAME[@REVISION].
        data: pictures, with coarse labels or without.
        groups: the folder that `discover` wrote; nothing in it is changed.
        out: a table, .csv: path, coarse, fine (the group's name; "" where it is new), nearest
            (group), distance, limit, new (0 or 1).
        split: "all", "train", "test" or "validation".
        overwrite: replace the table.
        progress: told how it goes.
        options: how to read the data, fields `READING_FIELDS` of Config; device; precision;
            backend.

    Returns:
        "images", "groups", "new", and "placed", the pictures of each group by its name.

    Raises:
        InputError: something given cannot be used; nothing was written.
        TrainingError: the disk is full or read-only.
    """
    progress = progress or Silent()
    table = Path(groups) / place.TABLE
    with ExitStack() as stack:
        stack.callback(progress.close)
        stack.enter_context(
            files.output(out, suffixes=(".csv",), overwrite=overwrite, inputs=[table])
        )
        paths, coarse_of, name_of, group = _groups(table)
        machine = {k: options.pop(k) for k in MACHINE if options.get(k) is not None}
        at = located(run, download=options.get("download") or False)
        encoder = Encoder.load(at.name, store=Store(), **machine)
        given = labelled(data, at.folder, split, options, progress)
        files.check_apart([out], given.inputs)
        skip, workers = given.config.skip_unreadable, given.config.workers

        def embedded(pictures: Pictures) -> tuple[np.ndarray, np.ndarray]:
            made = encoder.embed_readable(pictures, progress=progress, workers=workers)
            errors = [(pictures.name(row), why) for row, why in made.errors]
            all_readable(errors, len(pictures), skip)
            return made.rows, made.vectors

        here, members = embedded(Files(paths))
        rows, x = embedded(given.pictures)
        names, code = np.unique(group[here], return_inverse=True)
        called = {g: (c, n) for g, c, n in zip(group, coarse_of, name_of, strict=True)}
        known = given.columns["coarse"]
        labels = np.full(len(rows), "") if known is None else known[rows]
        of_group = np.array([called[g][0] for g in names])
        allowed = labels[:, None] == of_group
        allowed[~allowed.any(1)] = True
        found = placed(x, members, code.ravel(), allowed)
        fine = [called[names[g]][1] for g in found.group]
        lines = [
            [given.pictures.name(int(row)), labels[i], "" if found.new[i] else fine[i],
             names[found.group[i]], f"{found.distance[i]:.4f}", f"{found.limit[i]:.4f}",
             int(found.new[i])]
            for i, row in enumerate(rows)
        ]  # fmt: skip
        files.write(Path(out), spreadsheet.write(HEAD, lines))
    counts = dict.fromkeys(fine, 0)
    for i in np.flatnonzero(~found.new):
        counts[fine[i]] += 1
    new = int(found.new.sum())
    return {"images": len(rows), "groups": len(names), "new": new, "placed": counts}


def _groups(table: Path) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
    """Paths of the pictures of groups, and of each the coarse class, the name and the group."""
    if not table.is_file():
        raise InputError(f"{table.parent} has no {table.name}: give a folder that discover wrote")
    head = table.read_bytes().partition(b"\n")[0].decode("utf-8", "replace").split(",")
    if head[0] == "name":
        raise InputError(
            f"{table} has pictures that are no files, so nothing can be compared with them: run "
            "discover again with --pictures"
        )
    rows = spreadsheet.read(table, COLUMNS)
    if not rows:
        raise InputError(f"{table} has no pictures: run discover again")
    paths = [str(table.parent / row["path"]) for row in rows]
    coarse, fine, group = (np.array([r[c] for r in rows]) for c in ("coarse", "fine", "group"))
    return paths, coarse, fine, group
