"""The pictures of a project since: where they were moved to; which were added, removed, changed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from maskcon.app import project as projects
from maskcon.app.project import Facts, Generation
from maskcon.app.thumbnails import CHANGED, Photos
from maskcon.app.workplace import opened
from maskcon.commands._index import entries_of
from maskcon.commands.labelled import Labelled, labelled
from maskcon.data.readers.tables import SUFFIXES
from maskcon.data.scan import each
from maskcon.data.table import ALL
from maskcon.data.thumbnails import SIDE
from maskcon.discover import spreadsheet
from maskcon.encoder import BATCH, Encoder
from maskcon.errors import InputError
from maskcon.model.saved import DESCRIPTION
from maskcon.runtime import files
from maskcon.runtime.progress import Progress, Silent
from maskcon.search import file as index_file
from maskcon.search.index import SCHEMA, Index, kind_for_many
from maskcon.vectors.store import Store


def look(here: Generation, facts: Facts, progress: Progress) -> Labelled | None:
    """The pictures of a project's data as they are now; None where they cannot be seen."""
    progress.update(f"looking for the pictures of {facts.data}")
    options = {**facts.options, "skip_unreadable": True}
    try:
        return labelled(facts.data, here.run, "all", options, Silent())
    except InputError as error:
        if projects.read(here.folder).data != facts.data:  # which were given in place of others
            raise
        progress.note(f"the project is shown as it was, since its pictures cannot be seen: {error}")
        if files.is_gone(facts.data):
            progress.note(
                f"where they are now can be said: maskcon explore PHOTOS --project {here.folder}"
            )
        return None


def find_moved(here: Generation, facts: Facts, there: Labelled, progress: Progress) -> None:
    """Have a project know its pictures where they are now, if that is elsewhere than before.

    Args:
        here: its generation.
        facts: of the project, with the data as they were given now.
        there: their pictures.
        progress: told how many were found again.

    Raises:
        InputError: they are others: more than half of the project's pictures are not among them.
    """
    before = projects.read(here.folder).data
    if before == facts.data:
        return
    index, paths = opened(here, progress), there.columns["paths"]
    assert paths is not None
    known, old, new = {*paths.tolist()}, _root(before), _root(facts.data)

    def place(path: str) -> str:  # the same where it is asked again, after a kill in the middle
        return path if path in known else _elsewhere(path, old, new)

    now = [place(path) for path in index.rows["path"].to_pylist()]
    found = len({*now} & known)
    if 2 * found < len(now):
        raise InputError(
            f"{here.folder} is a project of {before}, which is not there any more; of its "
            f"{len(now):,} pictures {facts.data} has {found:,}: give the folder that they are in "
            "now, or another --project"
        )
    rows = index.rows.set_column(0, SCHEMA.field("path"), pa.array(now, pa.string()))
    index_file.write(replace(index, rows=rows), here.index)
    if here.learned_from.is_file():
        table = spreadsheet.read(here.learned_from, {"path": ("path",), "coarse": ("coarse",)})
        lines = [(place(line["path"]), line["coarse"]) for line in table]
        files.write(here.learned_from, spreadsheet.write(("path", "coarse"), lines))
    projects.write(here.folder, facts)
    progress.note(
        f"the pictures were in {before} and are in {facts.data}: {found:,} of {len(now):,} were "
        "found there"
    )


def _root(data: str) -> Path:
    """The folder that the pictures of some data lie in: it, or that of a table."""
    tables = (*SUFFIXES, ".parquet")
    return Path(data).parent if Path(data).suffix.lower() in tables else Path(data)


def _elsewhere(path: str, old: Path, new: Path) -> str:
    """A path below one folder, below another in its place."""
    return str(new / Path(path).relative_to(old)) if Path(path).is_relative_to(old) else path


def follow(
    here: Generation, facts: Facts, there: Labelled, progress: Progress, *, read_only: bool
) -> None:
    """Say what pictures were added, removed and changed since, and put those added into the index.

    Their places in it come after all others, so that each keeps its number.
    """
    index, paths = opened(here, progress), there.columns["paths"]
    assert paths is not None
    known = {*index.rows["path"].to_pylist()}
    fresh = [row for row, path in enumerate(paths.tolist()) if path not in known]
    gone = len(known - {*paths.tolist()})
    # the vectors came after the encoder, whose file is never written again as the index's is
    since = (here.run / DESCRIPTION).stat().st_mtime
    changed = _changed(index, since, there.config.readers, progress)
    unread, notes = 0, list[str]()
    if fresh and read_only:
        notes = ["those that were added are not shown: leave out --read-only once"]
    elif fresh:
        try:
            unread, notes = _add(here, index, there.take(np.array(fresh)), progress)
        except InputError as error:
            notes = [f"those that were added are left out: {error}"]
    counts = ((len(fresh) - unread, "added"), (gone, "removed"), (changed, "changed"))
    parts = [f"{n:,} {'was' if n == 1 else 'were'} {what}" for n, what in counts if n]
    said = [f"{', '.join(parts)} since"] if parts else []
    said += [f"{unread:,} cannot be read"] if unread else []
    if said:
        progress.note(f"of the pictures of {facts.name}, {', and '.join(said)}")
    for note in notes:
        progress.note(note)


def _changed(index: Index, since: float, threads: int, progress: Progress) -> int:
    """How many pictures are others than they were; of files that were not touched, none."""
    photos = Photos(index)
    touched = [row for row, path in enumerate(photos.files.paths) if _touched(path) > since]

    def look(place: int) -> str:
        return photos.state(touched[place])

    seen = each(look, len(touched), threads, progress, "looking at pictures that may be others")
    found = sum(state == CHANGED for _, state in seen)
    photos.close()
    return found


def _touched(path: str) -> float:
    """When a file was written or put in its place, in seconds; 0 where there is none."""
    try:
        now = Path(path).stat()
    except (OSError, ValueError):
        return 0.0
    return max(now.st_mtime, now.st_ctime)


def _add(
    here: Generation, index: Index, given: Labelled, progress: Progress
) -> tuple[int, list[str]]:
    """Put pictures into the index of a project.

    Returns:
        how many cannot be read, and lines about these.

    Raises:
        InputError: they have no coarse labels, and the others have.
    """
    own = {*index.rows["coarse"].to_pylist()}
    if own <= {None, ALL}:
        same = np.full(len(given.pictures), next(iter(own)), object)
        given = replace(given, columns={**given.columns, "coarse": same})
    elif given.columns["coarse"] is None:
        raise InputError("they have no coarse labels, and the others have: put them into a folder")
    encoder = Encoder.load(here.run, store=Store())
    try:
        vectors, rows, skipped = entries_of(encoder, given, SIDE, BATCH, progress)
    except InputError as error:  # none of them can
        return len(given.pictures), [f"left out: {error}"]
    kind = kind_for_many(len(index) + len(rows))
    index_file.write(
        replace(index, about=replace(index.about, kind=kind)).add(vectors, rows), here.index
    )
    return len(skipped), [f"left out: {name}" for name, _ in skipped]
