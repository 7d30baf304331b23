"""The fine groups inside coarse classes."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

import maskcon
from maskcon.commands._embed import all_readable
from maskcon.commands.sources import chosen_set, name_of
from maskcon.config import Config, similar
from maskcon.data import Found
from maskcon.data.pictures import Pictures, choose
from maskcon.data.table import of_split
from maskcon.discover import Division, naming, place, sheet
from maskcon.discover import discover as divide
from maskcon.discover import known as labels
from maskcon.discover.judging import judged
from maskcon.discover.kmeans import UNKNOWN
from maskcon.encoder import Encoder, joined
from maskcon.errors import InputError
from maskcon.runtime.progress import Progress, Silent


def discover(  # longer than a screen for the sake of what it says of its options
    run: str | Path,
    data: str | Path | Found | None = None,
    *,
    out: str | Path,
    split: str = "all",
    groups: int | str | Mapping[str, int] | None = None,
    known: str | Path | None = None,
    names: str | Path | None = None,
    pictures: bool = False,
    overwrite: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Find the fine groups inside each coarse class, and write a folder of them.

    `out` gets groups.csv (a row for each picture, which `train(data=...)` takes as fine
    labels), summary.json and sheet.html, a page to look at and to name the groups on. Fine
    labels of the data are only used to judge.

    Args:
        run: a run folder, or the encoder.safetensors in it.
        data: a data set's name or path, or arrays; by default the run's own.
        out: the folder; made if need be, in one that is there.
        split: "all", "train", "test" or "validation".
        groups: their number in every coarse class; or in some, {"cats": 4} or "cats=4,dogs=7".
            The others are estimated.
        known: a table of paths and fine labels, which name groups and are left out, a fifth at
            a time, to measure with.
        names: a table of groups and names, as the page writes it.
        pictures: write pictures that are no files as PNG, so that groups.csv can be trained on.
        overwrite: replace the files of an earlier discovery.
        seed: of all that is drawn.
        progress: told how it goes.
        options: how to read the data, fields `READING_FIELDS` of Config; device; precision.

    Returns:
        the content of summary.json: for each coarse class its groups, their number and how
        clear they are; and "judged" and "known", where there is something to measure with.

    Raises:
        InputError: something given cannot be used; nothing was written.
        TrainingError: the disk is full or read-only.
    """
    progress = progress or Silent()
    folder = Path(out)
    place.refuse(folder, overwrite)
    _check(known, names)
    machine = {k: options.pop(k) for k in ("device", "precision") if options.get(k) is not None}
    encoder = Encoder.load(run, **machine)
    found, config = chosen_set(Path(run), data, options, progress)
    found = of_split(found, split)
    numbers = _numbers(groups, found.coarse_names)
    seen = _seen(encoder, found, known, config, progress)
    divisions = divide(
        seen.x,
        seen.coarse,
        numbers=numbers,
        known=None if seen.told is None else seen.told.label,
        seed=seed,
        progress=progress,
    )
    facts = {"run": str(run), "split": split, "seed": seed, "encoder": encoder.identity}
    result = place.Discovery(
        name=found.name,
        pictures=seen.pictures,
        split=seen.split if len(set(seen.split)) > 1 else [],
        coarse=found.coarse_names,
        divisions=divisions,
        groups=_named(divisions, found, seen.told, names, seen.pictures, progress),
        known=seen.told,
        judged=_judged(seen, divisions, seed, progress),
        facts={"version": maskcon.__version__, **facts},
    )
    again = _command(run, data, folder, split, groups, known, seed, options)
    workers = config.readers
    written = sheet.page(result, again, workers=workers, progress=progress)
    place.write(folder, result, written, pictures=pictures, workers=workers, progress=progress)
    progress.close()
    return place.summary(result)


def _check(known: str | Path | None, names: str | Path | None) -> None:
    """Raise `InputError` before any work is done in vain."""
    for table in (known, names):
        if table is not None and not Path(table).is_file():
            raise InputError(f"there is no table {table}")


class _Seen(NamedTuple):
    """Pictures that could be read, and all that is known of them.

    Attributes:
        pictures: N of them.
        x: their features [N, F].
        coarse: labels, int64 [N].
        fine: labels, int64 [N], which only judge; None where the data have none.
        split: of each [N].
        told: fine labels that a table tells.
    """

    pictures: Pictures
    x: Tensor
    coarse: Tensor
    fine: Tensor | None
    split: list[str]
    told: labels.Known | None


def _seen(
    encoder: Encoder,
    found: Found,
    known: str | Path | None,
    config: Config,
    progress: Progress,
) -> _Seen:
    """Embed a set."""
    for note in found.notes:
        progress.note(note)
    whole, coarse, fine, splits = _joined(found)
    told = None
    if known is not None:
        called = [whole.name(row) for row in range(len(whole))]
        told = _told(Path(known), called, progress)
    rows, x = _embedded(encoder, whole, config, progress)
    progress.note(
        f"{found.name}: {len(rows):,} images in {len(coarse[rows].unique())} coarse classes"
        + ("; its fine labels are only used to judge" if fine is not None else "")
    )
    return _Seen(
        pictures=choose(whole, rows),
        x=x,
        coarse=coarse[rows],
        fine=None if fine is None else fine[rows],
        split=[splits[row] for row in rows],
        told=None if told is None else replace(told, label=told.label[rows]),
    )


def _joined(found: Found) -> tuple[Pictures, Tensor, Tensor | None, list[str]]:
    """Pictures, coarse and fine labels and the split of each."""
    parts = found.parts
    fine = [part.fine for part in parts.values() if part.fine is not None]
    return (
        joined(found),
        torch.cat([part.coarse for part in parts.values()]),
        torch.cat(fine) if len(fine) == len(parts) else None,
        [name for name, part in parts.items() for _ in range(len(part))],
    )


def _numbers(groups: int | str | Mapping[str, int] | None, coarse: Sequence[str]) -> dict[int, int]:
    """Numbers of groups by coarse label, of what was given."""
    if groups is None:
        return {}
    if isinstance(groups, str):
        groups = _parsed(groups)
    if isinstance(groups, int):
        groups = dict.fromkeys(coarse, groups)
    unknown = next((name for name in groups if name not in coarse), None)
    if unknown is not None:
        raise InputError(
            f"groups of {unknown!r} were asked for, and there is no such coarse class"
            f"{similar(unknown, coarse)}: there are {', '.join(coarse)}"
        )
    for name, number in groups.items():
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise InputError(f"{number!r} groups of {name} were asked for; give one or more")
    return {coarse.index(name): number for name, number in groups.items()}


def _parsed(text: str) -> int | dict[str, int]:
    """The number of "5", or the numbers of "cats=4,dogs=7"; names may hold commas."""
    if re.fullmatch(r"\s*\d+\s*", text):
        return int(text)
    found = list(re.finditer(r"\s*(.+?)\s*=\s*(\d+)\s*(?:,|$)", text))
    if not found or "".join(match[0] for match in found) != text:
        raise InputError(
            f"groups is {text!r}: expected a number for every coarse class, such as 5, or numbers "
            "for some, such as cats=4,dogs=7"
        )
    return {match[1]: int(match[2]) for match in found}


def _told(path: Path, called: list[str], progress: Progress) -> labels.Known:
    """The fine labels that a table tells, and a note of what it does not."""
    told = labels.read(path, called)
    progress.note(f"{path}: {told.count:,} images with {len(told.names)} fine labels")
    if told.unmatched:
        progress.note(
            f"{len(told.unmatched):,} of its paths match no picture of the data, or several: "
            + ", ".join(told.unmatched[: labels.SHOWN])
            + (" ..." if len(told.unmatched) > labels.SHOWN else "")
        )
    return told


def _embedded(
    encoder: Encoder, pictures: Pictures, config: Config, progress: Progress
) -> tuple[np.ndarray, Tensor]:
    """Rows that could be read, int64 [n], and their features [n, F]."""
    made = encoder.embed_readable(pictures, progress=progress, workers=config.workers)
    errors = [(pictures.name(row), why) for row, why in made.errors]
    all_readable(errors, len(pictures), config.skip_unreadable)
    for _, why in errors:
        progress.note(f"left out: {why}")
    return made.rows, torch.from_numpy(made.vectors)


def _named(
    divisions: Sequence[Division],
    found: Found,
    told: labels.Known | None,
    names: str | Path | None,
    pictures: Pictures,
    progress: Progress,
) -> list[naming.Group]:
    """The groups under the names that were told, or given in a table."""
    groups = naming.groups_of(divisions, found.coarse_names, told.names if told else ())
    given: dict[str, str] = {}
    if names is not None:
        called = [pictures.name(row) for row in range(len(pictures))]
        given = naming.read(Path(names), groups, divisions, called)
        progress.note(f"{len(given)} of {len(groups)} groups are named by {names}")
    return naming.renamed(groups, given)


def _judged(
    seen: _Seen, divisions: Sequence[Division], seed: int, progress: Progress
) -> dict[str, float] | None:
    """What the groups are worth on images whose fine label was not told; None without labels."""
    if seen.fine is None:
        return None
    rest = torch.ones(len(seen.fine), dtype=torch.bool)
    if seen.told is not None and bool((seen.told.label == UNKNOWN).any()):
        rest = seen.told.label == UNKNOWN
    return judged(
        seen.x, seen.coarse, seen.fine, divisions, rest=rest, seed=seed, progress=progress
    )


def _command(
    run: str | Path,
    data: str | Path | Found | None,
    folder: Path,
    split: str,
    groups: int | str | Mapping[str, int] | None,
    known: str | Path | None,
    seed: int,
    options: Mapping[str, Any],
) -> str:
    """The command that makes the same groups again, for the page to show."""
    words = ["maskcon", "discover", str(run)] + ([] if data is None else [name_of(data)])
    words += ["-o", str(folder), "--overwrite"]
    if isinstance(groups, Mapping):
        groups = ",".join(f"{name}={number}" for name, number in groups.items())
    flags = {"split": None if split == "all" else split, "groups": groups, "known": known}
    flags |= {"seed": seed or None, **options}
    for name, value in flags.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif value is not None:
            words += [f"--{flag}", str(value)]
    return shlex.join([*words, "--names"])
