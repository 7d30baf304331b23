"""The folder of groups: groups.csv, which trains and labels, and summary.json."""

import io
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from maskcon.data.image_file import taken as taken_at
from maskcon.data.pictures import Pictures
from maskcon.data.scan import each
from maskcon.discover import spreadsheet
from maskcon.discover.groups import Division
from maskcon.discover.kmeans import UNKNOWN
from maskcon.discover.known import Known
from maskcon.discover.naming import Group
from maskcon.discover.outliers import Outlier
from maskcon.discover.questions import LEAST, Question, smaller
from maskcon.errors import InputError
from maskcon.runtime import files
from maskcon.runtime.progress import Progress

TABLE, SUMMARY, SHEET, PICTURES = "groups.csv", "summary.json", "sheet.html", "pictures"
MARK = ".maskcon-discover"  # a file in a folder of pictures that a discovery wrote
TREES, OUTLIERS = "trees.npz", "outliers.csv"


@dataclass(frozen=True)
class Discovery:
    """Everything that was found in one set of pictures.

    Attributes:
        name: of the set.
        pictures: N of them.
        split: of each, "train" or "test"; empty where the set has one of them alone.
        coarse: names of coarse labels.
        divisions: of the coarse classes; their rows are those of the pictures.
        groups: of all of them, in order, named.
        outliers: pictures to look at first.
        questions: that the page asks.
        answers: left, right and answer of those that were given before.
        known: fine labels that people gave.
        judged: how well groups match the fine classes of the set, where it has them.
        facts: how they were found: run, seed and the like.
    """

    name: str
    pictures: Pictures
    split: Sequence[str]
    coarse: Sequence[str]
    divisions: Sequence[Division]
    groups: Sequence[Group]
    outliers: Sequence[Outlier]
    questions: Sequence[Question]
    answers: Sequence[tuple[str, str, str]]
    known: Known | None
    judged: Mapping[str, float] | None
    facts: Mapping[str, Any]

    def of(self, division: int) -> list[Group]:
        """The groups of a coarse class, the largest first."""
        return [group for group in self.groups if group.division == division]

    def typical(self, group: Group) -> np.ndarray:
        """Rows of a group's pictures, the most typical first."""
        division = self.divisions[group.division]
        return division.rows[division.members(group.place)]


def taken(pictures: Pictures, workers: int, progress: Progress) -> np.ndarray:
    """When pictures that are files were taken, in seconds, NaN where nothing says so [N]."""

    def when(row: int) -> float:
        path = pictures.path(row)
        return math.nan if path is None else taken_at(path)

    read = each(when, len(pictures), workers, progress, "looking when pictures were taken")
    return np.array([at for _, at in read], np.float64)


def table(found: Discovery, paths: Sequence[str] | None) -> bytes:
    """groups.csv: a row for each picture, in the order of the data.

    Columns path, coarse and fine, and split where there are two, are what `maskcon train --data`
    reads; group, confidence, typical (rank in the group), outlier (0 or 1) and, where fine labels
    were given, known (0 or 1) are for people and labelling tools. Pictures that are no files
    have a column name in place of path, and cannot be trained on.

    Args:
        found: what was found.
        paths: of the pictures; None where they are no files.
    """
    names = (
        paths if paths is not None else [found.pictures.name(r) for r in range(len(found.pictures))]
    )
    head = ["path" if paths is not None else "name", "coarse", "fine"]
    head += ["split"] if found.split else []
    head += ["group", "confidence", "typical", "outlier"] + (["known"] if found.known else [])
    lines: list[list[object]] = [[] for _ in names]
    for d, division in enumerate(found.divisions):
        groups = found.of(d)
        for i, row in enumerate(division.rows.tolist()):
            group = groups[division.group[i]]
            line: list[object] = [names[row], found.coarse[division.label], group.name]
            line += [found.split[row]] if found.split else []
            line += [group.id, f"{division.confidence[i]:.4f}", int(division.rank[i])]
            line += [int(division.outlier[i])]
            line += [int(found.known.label[row] != UNKNOWN)] if found.known else []
            lines[row] = line
    return spreadsheet.write(head, lines)


def strange(found: Discovery, paths: Sequence[str] | None) -> bytes:
    """outliers.csv: pictures to look at first, and why, in columns like those of groups.csv.

    "nearer" is the coarse class that most of the nearest pictures have, where the label of the
    picture may be wrong; "reason" says why it is here.
    """
    of = dict(group_of(found))
    head = ["path" if paths is not None else "name", "coarse", "group", "nearer", "reason"]
    lines = []
    for o in found.outliers:
        name = found.pictures.name(o.row) if paths is None else paths[o.row]
        group, division = of[o.row]
        nearer = "" if o.nearer is None else found.coarse[o.nearer]
        coarse = found.coarse[division.label]
        lines.append([name, coarse, group.id, nearer, o.reason(found.coarse)])
    return spreadsheet.write(head, lines)


def group_of(found: Discovery) -> Iterator[tuple[int, tuple[Group, Division]]]:
    """The group and the division of each row."""
    for d, division in enumerate(found.divisions):
        groups = found.of(d)
        for row, place in zip(division.rows.tolist(), division.group.tolist(), strict=True):
            yield row, (groups[place], division)


def summary(found: Discovery) -> dict[str, Any]:
    """What summary.json holds, and what `maskcon.commands.discover` returns."""
    classes = []
    for d, division in enumerate(found.divisions):
        sizes = np.bincount(division.group, minlength=division.number)
        outlier = np.bincount(division.group[division.outlier], minlength=division.number)
        classes.append(
            {
                "name": found.coarse[division.label],
                "images": len(division.rows),
                "number": division.number,
                "low": division.found.low,
                "high": division.found.high,
                "how": division.found.how,
                "different": division.found.different,
                "structure": division.found.structure,
                "tree": merges(division),
                "groups": [
                    {
                        "id": group.id,
                        "name": group.name,
                        "images": int(sizes[group.place]),
                        "outlier": int(outlier[group.place]),
                        "confidence": float(
                            division.confidence[division.group == group.place].mean()
                        ),
                        "typical": found.pictures.name(int(found.typical(group)[0])),
                    }
                    for group in found.of(d)
                ],
            }
        )
    result = {
        **found.facts,
        "data": found.name,
        "images": len(found.pictures),
        "groups": len(found.groups),
        "outliers": len(found.outliers),
        "coarse": classes,
    }
    if found.known is not None:
        result["known"] = {
            "images": found.known.count,
            "unmatched": len(found.known.unmatched),
            "tested": sum(division.tested for division in found.divisions),
            "right": sum(division.right for division in found.divisions),
        }
    if found.judged is not None:
        result["judged"] = dict(found.judged)
    return result


def merges(division: Division) -> list[list[float]]:
    """The merges of a class's tree that groups may come of, the last first.

    Each has its number in trees.npz, the pictures on its two sides, its height, and how likely
    it joins different kinds.
    """
    tree = division.grown.tree
    a, b = tree.joined.T
    count, least = tree.stop - tree.start, smaller(tree)
    return [
        [m, int(count[a[m]]), int(count[b[m]]), float(tree.merges[m, 2]), float(strength)]
        for m, strength in reversed(list(enumerate(division.strength)))
        if least[m] >= LEAST
    ]


def trees(found: Discovery) -> bytes:
    """trees.npz: the tree of each coarse class c.

    "c/merges" is a linkage as `scipy.cluster.hierarchy` has it, "c/strength" how likely each merge
    joins different kinds, "c/rows" the row of groups.csv, from 0, that each leaf is.
    """
    content = {"names": np.array([found.coarse[d.label] for d in found.divisions])}
    for c, division in enumerate(found.divisions):
        content[f"{c}/merges"] = division.grown.tree.merges
        content[f"{c}/strength"] = division.strength
        content[f"{c}/rows"] = division.grown.images
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **content)
    return file.getvalue()


def refuse(
    folder: Path, overwrite: bool, *, pictures: bool = False, inputs: Iterable[str | Path] = ()
) -> None:
    """Raise `InputError` where the folder cannot be written to.

    Args:
        folder: where.
        overwrite: an earlier discovery may be replaced.
        pictures: pictures are to be written to it too.
        inputs: tables that are read; they may lie in the folder, as no file that is written.
    """
    earlier = [folder / name for name in (TABLE, OUTLIERS, SUMMARY, SHEET, TREES)]
    files.check_output(folder, folder=True, earlier=earlier, overwrite=overwrite)
    files.check_apart([*earlier, folder / PICTURES], inputs)
    ours = (folder / SUMMARY).exists() or (folder / PICTURES / MARK).exists()
    if pictures and (folder / PICTURES).exists() and not ours:
        raise InputError(
            f"{folder / PICTURES} is there, and no discovery wrote it: give another --out"
        )
    if (folder / "run.json").exists():
        raise InputError(f"{folder} is a run folder: give the groups one of their own")


@contextmanager
def reserved(folder: Path, overwrite: bool, **how: Any) -> Iterator[None]:
    """Have the folder to oneself, after `refuse`, which says what is given here, too."""
    with files.reserved([folder], lambda: refuse(folder, overwrite, **how)):
        if folder.is_dir():
            for name in (TABLE, OUTLIERS, SUMMARY, SHEET, TREES):
                files.clear_left(folder / name)
        yield


def write(
    folder: Path,
    found: Discovery,
    sheet: bytes,
    *,
    pictures: bool,
    workers: int,
    progress: Progress,
) -> None:
    """Write groups.csv, outliers.csv, summary.json, sheet.html, trees.npz, perhaps pictures/.

    Args:
        folder: where; made if need be, in a folder that is there.
        found: what was found.
        sheet: the page.
        pictures: write pictures that are no files as PNG, so that groups.csv can name them.
        workers: threads that write pictures.
        progress: told what is missing, and how far it is.

    Raises:
        InputError: the folder cannot be made, or a picture cannot be read.
    """
    try:
        files.make_folder(folder)
    except OSError as error:
        raise InputError(f"{folder} cannot be made: {error}") from error
    rows = range(len(found.pictures))
    here = [found.pictures.path(row) for row in rows]
    paths = [path for path in here if path is not None]
    named: list[str] | None = paths if len(paths) == len(here) else None
    if named is None and pictures:
        named = _as_png(folder / PICTURES, found.pictures, workers, progress)
    elif named is None:
        progress.note(
            f"the pictures of {found.name} are no files of their own, so {TABLE} has their names "
            "and cannot be trained on; --pictures writes them as PNG, and then it can"
        )
    elif pictures:
        progress.note("--pictures: the pictures are files already; none is written")
    with files.together(told_by_last=True) as new:
        new.write(folder / TABLE, table(found, named))
        new.write(folder / OUTLIERS, strange(found, named))
        new.write(folder / SHEET, sheet)
        new.write(folder / TREES, trees(found))
        new.write_json(folder / SUMMARY, summary(found))


def _as_png(folder: Path, pictures: Pictures, workers: int, progress: Progress) -> list[str]:
    """Write every picture as PNG; their paths, relative to the folder above."""
    written = re.compile(rf"\d{{7}}\.png|{re.escape(MARK)}")
    with files.replacing_folder(folder, ours=written.fullmatch) as new:
        files.write(new / MARK, b"")

        def save(row: int) -> str:
            Image.fromarray(pictures.decode(row)).save(new / f"{row:07d}.png")
            return f"{folder.name}/{row:07d}.png"

        paths = []
        for _, result in each(save, len(pictures), workers, progress, "writing pictures"):
            if isinstance(result, InputError):
                raise result
            paths.append(result)
    return paths
