"""The groups of a project for other programs: tables, folders, annotation tools, encoder."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from maskcon.app.command import maskcon
from maskcon.app.workplace import Workplace
from maskcon.discover import place, spreadsheet
from maskcon.discover.answers import HEAD
from maskcon.discover.groups import Division
from maskcon.discover.kmeans import UNKNOWN, confidence
from maskcon.discover.naming import Group as Named
from maskcon.discover.naming import renamed
from maskcon.discover.number import Number
from maskcon.discover.place import Discovery
from maskcon.discover.spectral import unit
from maskcon.errors import InputError
from maskcon.export import TARGETS
from maskcon.export.labels import Labels
from maskcon.model.saved import DESCRIPTION, WEIGHTS
from maskcon.runs import folder as runs
from maskcon.runtime import files

HOME = "exports"  # a folder of the project, which has one of each kind
_UNFIT = re.compile(r'[/\\:*?"<>|\x00-\x1f]')  # no file system's names have them


def discovery(work: Workplace) -> Discovery:
    """The groups now, as a discovery has them."""
    state, ground = work.live.state, work.live.state.ground
    different = state.questions.different()
    divisions, groups = list[Division](), list[Named]()
    called = {group.id: group.name for group in state.groups if group.name}
    for c, grown in enumerate(ground.grown):
        mine = [group for group in state.groups if group.coarse == c]
        if not mine:
            continue
        rows = np.flatnonzero(state.coarse == c)
        of = np.empty(len(ground), np.int64)
        rank, outlier = np.empty(len(ground), np.int64), np.zeros(len(ground), bool)
        for at, group in enumerate(mine):
            order, far = work.live.order(group)
            of[order], rank[order], outlier[order] = at, np.arange(1, len(order) + 1), far
            groups.append(Named(len(divisions), at, group.id, group.id))
        for row, said in state.said.outlier.items():
            outlier[row] = said
        number = Number(len(mine), len(mine), len(mine), None, "answered")
        divisions.append(
            Division(
                label=grown.label,
                rows=rows,
                number=len(mine),
                found=number,
                group=of[rows],
                confidence=_confidence(ground.x[rows], of[rows], len(mine)),
                rank=rank[rows],
                outlier=outlier[rows],
                names=(UNKNOWN,) * len(mine),
                grown=grown,
                strength=different[c],
            )
        )
    return Discovery(
        name=work.facts.name,
        pictures=work.photos.files,
        split=(),
        coarse=ground.names,
        divisions=divisions,
        groups=renamed(groups, called),
        outliers=(),
        questions=(),
        answers=(),
        known=None,
        judged=None,
        facts={},
    )


def _confidence(x: np.ndarray, group: np.ndarray, count: int) -> np.ndarray:
    """In (0, 1] of each picture of a class [n], as a discovery has it."""
    z = unit(x - x.mean(0))
    sums = np.zeros((count, z.shape[1]))
    np.add.at(sums, group, z)
    return confidence(z @ unit(sums).T, group)


def table(work: Workplace) -> bytes:
    """groups.csv, as `maskcon discover` writes it; `maskcon train --data` and `--known` read it."""
    return place.table(discovery(work), work.paths)


def answers(work: Workplace) -> bytes:
    """The answers as a table, as `maskcon train --answers` takes them.

    Those about pictures that were given two coarse labels since are left out.
    """
    state, names = work.live.state, work.index.rows["path"].to_pylist()
    rows = [
        (names[left], names[right], verdict)
        for left, right, verdict in state.said.answers
        if state.coarse[left] == state.coarse[right]
    ]
    return spreadsheet.write(HEAD, rows)


def export(work: Workplace, kind: str) -> Path:
    """Write one kind of export, in place of an earlier one of this kind.

    Returns:
        the file or folder, absolute.

    Raises:
        InputError: the pictures are no files, one is gone, or a report cannot be made.
        TrainingError: the disk is full or read-only.
    """
    home = work.folder.absolute() / HOME
    files.make_folder(home)
    out = home / NAMES.get(kind, kind)
    if kind in TREES:  # one for each state of the groups, which stays
        out = home / f"{kind}-{work.revision}"
    # the command that writes a report has its file to itself
    with nullcontext() if kind == "report" else files.locked(out):
        if kind not in TREES or not out.exists():
            KINDS[kind](work, out)
    return out


def _groups(work: Workplace, out: Path) -> None:
    files.write(out, table(work))


def _links(work: Workplace, out: Path) -> None:
    with files.filling(out) as folder:
        for path, target in _placed(work, folder):
            target.symlink_to(path)


def _copies(work: Workplace, out: Path) -> None:
    with files.filling(out) as folder:
        for path, target in _placed(work, folder):
            try:
                content = path.read_bytes()
            except OSError as error:
                raise InputError(f"{path} cannot be copied: {error}") from error
            files.write(target, content)


def _placed(work: Workplace, folder: Path) -> Iterator[tuple[Path, Path]]:
    """Each picture's file, and where it goes: a folder of its coarse class, one of its group."""
    paths = _files(work)
    found = discovery(work)
    taken: Counter[Path] = Counter()
    for row, (group, division) in place.group_of(found):
        within = folder / _fit(found.coarse[division.label]) / _fit(group.name)
        files.make_folder(within)
        path = Path(paths[row])
        target = within / path.name
        taken[target] += 1
        if taken[target] > 1:  # two folders of pictures have one of this name
            target = within / f"{path.stem} ({row}){path.suffix}"
        yield path, target


def _fit(name: str) -> str:
    """A name as one of a folder."""
    return _UNFIT.sub("_", name).strip(". ")[:100] or "_"


def _files(work: Workplace) -> list[str]:
    if work.paths is None:
        raise InputError(
            f"the pictures of {work.facts.name} are no files of their own, and this export needs "
            "files: take groups.csv"
        )
    return work.paths


def _tool(name: str) -> Callable[[Workplace, Path], None]:
    """An export for an annotation tool."""

    def write(work: Workplace, out: Path) -> None:
        paths = _files(work)
        found = discovery(work)
        coarse, fine = [""] * len(paths), [""] * len(paths)
        sure = np.empty(len(paths))
        for row, (group, division) in place.group_of(found):
            coarse[row], fine[row] = found.coarse[division.label], group.name
        for division in found.divisions:
            sure[division.rows] = division.confidence
        labels = Labels(tuple(paths), tuple(coarse), tuple(fine), sure)
        TARGETS[name].make(labels, out)

    return write


def _encoder(work: Workplace, out: Path) -> None:
    with files.replacing_folder(out) as folder:
        for name in (WEIGHTS, DESCRIPTION):
            files.write(folder / name, (work.here.run / name).read_bytes())


def _report(work: Workplace, out: Path) -> None:
    if not (work.here.run / "run.json").is_file():
        raise InputError(
            "there is no report: nothing was learned yet, the vectors are those of a pretrained "
            "network as it is. Name groups, and learn"
        )
    table, data = work.here.learned_from, list[str | Path]()
    if files.is_gone(runs.read(work.here.run)["config"]["data"]):  # and was found elsewhere
        data = [table] if table.is_file() else [work.facts.data, *_flags(work.facts.options)]
    maskcon("report", work.here.run, *data, "--out", out, "--overwrite")


def _flags(options: Mapping[str, Any]) -> Iterator[str]:
    """Options as they are typed."""
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        yield flag if value is True else f"{flag}={value}"


KINDS: Mapping[str, Callable[[Workplace, Path], None]] = {
    "groups.csv": _groups,
    "links": _links,
    "copies": _copies,
    "label-studio": _tool("label-studio"),
    "cvat": _tool("cvat"),
    "fiftyone": _tool("fiftyone"),
    "encoder": _encoder,
    "report": _report,
}
NAMES = {"report": "report.html"}
TREES = ("links", "copies")  # folders of folders
