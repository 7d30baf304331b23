"""The fine groups inside coarse classes."""

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

import maskcon
from maskcon.commands._embed import all_readable
from maskcon.commands.sources import chosen_set, inputs_of, name_of
from maskcon.config import Config, similar
from maskcon.data import Found
from maskcon.data.pictures import Pictures
from maskcon.data.table import of_split
from maskcon.discover import Division, Questions, identity, naming, place, sheet
from maskcon.discover import answers as replies
from maskcon.discover import known as labels
from maskcon.discover.groups import divided
from maskcon.discover.judging import judged
from maskcon.discover.kmeans import UNKNOWN
from maskcon.discover.outliers import outliers
from maskcon.discover.questions import Verdict
from maskcon.encoder import Encoder, joined
from maskcon.errors import InputError
from maskcon.model.hub import located
from maskcon.runtime import files
from maskcon.runtime.progress import Progress, follower
from maskcon.vectors.store import Store

MACHINE = ("device", "precision", "backend")
ASKED = 24  # questions on the page
Ask = Callable[[list[str], list[str], Path, int], str]


def discover(  # longer than a screen for the sake of what it says of its options
    run: str | Path,
    data: str | Path | Found | None = None,
    *,
    out: str | Path,
    split: str = "all",
    groups: int | str | Mapping[str, int] | None = None,
    granularity: int | str | Mapping[str, int | str] | None = None,
    answers: str | Path | None = None,
    ask: Ask | None = None,
    known: str | Path | None = None,
    names: str | Path | None = None,
    pictures: bool = False,
    overwrite: bool = False,
    continued: bool = False,
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
        granularity: "finer", "coarser" or the number of groups to take from the tree, in every
            coarse class; or in some, {"cats": "finer"} or "cats=finer,dogs=7".
        answers: a table of answers, with columns left, right (pictures) and answer (same,
            different, unsure); `ask` adds to it.
        ask: is given the names of two lots of pictures, an image file that shows them and the
            question's number; returns the answer, "back" or "stop".
        known: a table of paths and fine labels, which name groups and are left out, a fifth at
            a time, to measure with.
        names: a table of groups and names, as the page writes it; of the pictures that names
            stand beside they are answers, too.
        pictures: write pictures that are no files as PNG, so that groups.csv can be trained on.
        overwrite: replace the files of an earlier discovery.
        continued: replace them, and let groups that are there already keep their numbers and
            names, which are told by their pictures.
        seed: of all that is drawn.
        progress: told how it goes.
        options: how to read the data, fields `READING_FIELDS` of Config; device; precision;
            backend.

    Returns:
        the content of summary.json: for each coarse class its groups, their number and how
        clear they are; and "judged" and "known", where there is something to measure with.

    Raises:
        InputError: something given cannot be used; nothing was written.
        TrainingError: the disk is full or read-only.
    """
    progress = follower(progress)
    folder = Path(out)
    read = [table for table in (known, names, answers) if table is not None]
    with ExitStack() as stack:
        stack.callback(progress.close)
        _check_continued(folder, overwrite, continued)
        again = overwrite or continued
        stack.enter_context(place.reserved(folder, again, pictures=pictures, inputs=read))
        _check(known, names, answers, ask)
        if ask is not None and answers is not None:
            # no other process may take back a question meanwhile
            stack.enter_context(files.locked(_shown(answers), f"the questions of {answers}"))
        machine = {name: options.pop(name) for name in MACHINE if options.get(name) is not None}
        at = located(run, download=options.get("download") or False)
        encoder = Encoder.load(at.name, store=Store(), **machine)
        found, config = chosen_set(at.folder, data, options, progress)
        files.check_apart([folder], inputs_of(config, found))
        found = of_split(found, split)
        numbers = _numbers(groups, found.coarse_names)
        cuts = _granularity(granularity, found.coarse_names, numbers)
        seen = _seen(encoder, found, known, config, progress)
        called = [seen.pictures.name(row) for row in range(len(seen.pictures))]
        earlier = identity.read(folder / place.TABLE, called) if continued else None
        named = _beside(earlier, names, called, seen.told.names if seen.told else ())
        questions = _questions(seen, named, seed, progress)
        _answer(questions, seen, called, answers, ask, progress)
        divisions = divided(
            seen.x,
            questions,
            numbers=numbers,
            known=None if seen.told is None else seen.told.label,
            named=named,
            granularity=cuts,
            seed=seed,
        )
        facts = {
            "run": at.name if at.of_hub else str(run),
            "split": split,
            "seed": seed,
            "encoder": encoder.identity,
        }
        result = place.Discovery(
            name=found.name,
            pictures=seen.pictures,
            split=seen.split if len(set(seen.split)) > 1 else [],
            coarse=found.coarse_names,
            divisions=divisions,
            groups=_named(divisions, found, seen.told, earlier, names, called, progress),
            questions=questions.worth(ASKED),
            answers=[(called[a.a], called[a.b], a.verdict) for a in questions.answers],
            outliers=outliers(seen.x.numpy(), seen.coarse.numpy(), divisions, seed=seed),
            known=seen.told,
            judged=_judged(seen, divisions, seed),
            facts={"version": maskcon.__version__, **facts},
        )
        tables = {"known": known, "answers": answers}
        how = "--continue" if continued else "--overwrite"
        others = tables | {"answers": None}
        asking = _command(run, data, folder, how, split, groups, granularity, others, seed, options)
        words = _command(run, data, folder, how, split, groups, granularity, tables, seed, options)
        workers = config.readers
        written = sheet.page(
            result,
            words,
            asking.removesuffix("--names") + "--answers",
            workers=workers,
            progress=progress,
        )
        place.write(folder, result, written, pictures=pictures, workers=workers, progress=progress)
        return place.summary(result)


def _check_continued(folder: Path, overwrite: bool, continued: bool) -> None:
    """Raise `InputError` where there is nothing to go on with."""
    if continued and overwrite:
        raise InputError(
            "--continue replaces the groups too, and keeps their numbers: leave out --overwrite"
        )
    if continued and not (folder / place.TABLE).is_file():
        raise InputError(
            f"--continue goes on with the groups in {folder}, and it has no {place.TABLE}: leave "
            "it out the first time"
        )


def _beside(
    earlier: identity.Earlier | None,
    names: str | Path | None,
    called: list[str],
    known: Sequence[str],
) -> np.ndarray | None:
    """Names beside typical pictures, of earlier groups and of a table, whose word counts."""
    found = {} if earlier is None else earlier.beside
    if names is not None:
        found |= naming.beside(Path(names), called)
    return naming.coded(found, len(called), known) if found else None


def _check(
    known: str | Path | None,
    names: str | Path | None,
    answers: str | Path | None,
    ask: Ask | None,
) -> None:
    """Raise `InputError` before any work is done in vain."""
    if ask is not None and answers is None:
        raise InputError("--ask needs a table to write answers to: give --answers FILE")
    for table in (known, names, None if ask else answers):
        if table is not None and not Path(table).is_file():
            raise InputError(f"there is no table {table}")


class _Seen(NamedTuple):
    """Pictures that could be read, and all that is known of them.

    Attributes:
        pictures: N of them.
        x: their features [N, F].
        taken: when they were taken, in seconds, NaN where nothing says so [N].
        coarse: labels, int64 [N].
        fine: labels, int64 [N], which only judge; None where the data have none.
        split: of each [N].
        told: fine labels that a table tells.
    """

    pictures: Pictures
    x: Tensor
    taken: np.ndarray
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
    pictures = whole.take(rows)
    return _Seen(
        pictures=pictures,
        x=x,
        taken=place.taken(pictures, config.readers, progress),
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
    found = _by_class("groups", groups, coarse)
    for label, number in found.items():
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise InputError(
                f"{number!r} groups of {coarse[label]} were asked for; give one or more"
            )
    return {label: int(number) for label, number in found.items()}


def _granularity(
    given: int | str | Mapping[str, int | str] | None,
    coarse: Sequence[str],
    numbers: Mapping[int, int],
) -> dict[int, int | str]:
    """How fine each coarse class is cut, by label, of what was given."""
    found = _by_class("granularity", given, coarse)
    for label, value in found.items():
        fits = value in ("finer", "coarser") or (isinstance(value, int) and value >= 1)
        if not fits or isinstance(value, bool):
            raise InputError(
                f"the granularity of {coarse[label]} is {value!r}: expected finer, coarser, or a "
                "number of groups from 1"
            )
        if label in numbers:
            raise InputError(
                f"{coarse[label]} has both --groups and --granularity: give one of them"
            )
    return found


def _by_class(
    what: str, given: int | str | Mapping[str, Any] | None, coarse: Sequence[str]
) -> dict[int, Any]:
    """Values by coarse label, of one value for all or of some classes' values."""
    if given is None:
        return {}
    if isinstance(given, str):
        given = _parsed(what, given)
    if not isinstance(given, Mapping):
        given = dict.fromkeys(coarse, given)
    unknown = next((name for name in given if name not in coarse), None)
    if unknown is not None:
        raise InputError(
            f"{what} of {unknown!r} were asked for, and there is no such coarse class"
            f"{similar(unknown, coarse)}: there are {', '.join(coarse)}"
        )
    return {coarse.index(name): value for name, value in given.items()}


def _parsed(what: str, text: str) -> Any:
    """The value of "5" or "finer", or those of "cats=4,dogs=finer"; names may hold commas."""
    words = r"\d+" if what == "groups" else r"\d+|finer|coarser"
    if one := re.fullmatch(rf"\s*({words})\s*", text):
        return _value(one[1])
    found = list(re.finditer(rf"\s*(.+?)\s*=\s*({words})\s*(?:,|$)", text))
    if not found or "".join(match[0] for match in found) != text:
        kind = "a number" if what == "groups" else "finer, coarser or a number"
        raise InputError(
            f"{what} is {text!r}: expected {kind} for every coarse class, such as 5, or for some, "
            "such as cats=4,dogs=7"
        )
    return {match[1]: _value(match[2]) for match in found}


def _value(word: str) -> int | str:
    return int(word) if word.isdecimal() else word


def _questions(seen: _Seen, named: np.ndarray | None, seed: int, progress: Progress) -> Questions:
    """The trees, and what labels and names say of them."""
    questions = Questions.of(seen.x, seen.coarse, taken=seen.taken, seed=seed, progress=progress)
    if seen.told is not None:
        questions.name(seen.told.label.numpy())
    if named is not None:
        questions.name(named, apart=True)
    return questions


def _answer(
    questions: Questions,
    seen: _Seen,
    called: list[str],
    table: str | Path | None,
    ask: Ask | None,
    progress: Progress,
) -> None:
    """Tell the answers of a table, and those that a person gives now, which are added to it."""
    if table is None:
        return
    path = Path(table)
    if path.exists():
        found, unmatched = replies.read(path, called, seen.coarse.tolist())
        progress.note(f"{path}: {len(found):,} answers")
        if unmatched:
            progress.note(
                f"{len(unmatched):,} of its pictures are none of the data: {unmatched[0]}"
            )
        for a in found:
            questions.tell(a.a, a.b, a.verdict)
    if ask is not None:
        _asked(questions, seen.pictures, called, path, ask)


def _shown(answers: str | Path) -> Path:
    """The file that shows a question."""
    return Path(f"{answers}.question.png")


def _asked(
    questions: Questions, pictures: Pictures, names: list[str], path: Path, ask: Ask
) -> None:
    """Ask until nothing is open or the person stops; each answer is in the table at once."""
    given = 0
    picture = _shown(path)
    while (question := questions.next()) is not None:
        sides = [rows.tolist() for rows in (question.shown_left, question.shown_right)]
        files.write(picture, sheet.question(pictures, *sides))
        left, right = ([names[row] for row in rows] for rows in sides)
        verdict = ask(left, right, picture, given + 1)
        if verdict == "stop":
            break
        if verdict == "back":
            if given:
                questions.take_back()
                replies.take_back(path)
                given -= 1
            continue
        questions.answer(question, cast("Verdict", verdict))
        replies.append(path, left[0], right[0], verdict)
        given += 1


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
    earlier: identity.Earlier | None,
    names: str | Path | None,
    called: list[str],
    progress: Progress,
) -> list[naming.Group]:
    """The groups under the names that were told, had before, or are given in a table."""
    numbers = None
    if earlier is not None:
        numbers = identity.kept(divisions, found.coarse_names, earlier)
    groups = naming.groups_of(divisions, found.coarse_names, told.names if told else (), numbers)
    given: dict[str, str] = {}
    if earlier is not None:
        given = {f"{coarse} {n}": name for (coarse, n), name in earlier.names.items()}
        there = {group.id for group in groups}
        for id_ in sorted(given.keys() - there):
            progress.note(f"no group is {given[id_]} ({id_}) any more")
    if names is not None:
        table = naming.read(Path(names), groups, divisions, called)
        progress.note(f"{len(table)} of {len(groups)} groups are named by {names}")
        given |= table
    return naming.renamed(groups, given)


def _judged(seen: _Seen, divisions: Sequence[Division], seed: int) -> dict[str, float] | None:
    """What the groups are worth on images whose fine label was not told; None without labels."""
    if seen.fine is None:
        return None
    rest = torch.ones(len(seen.fine), dtype=torch.bool)
    if seen.told is not None and bool((seen.told.label == UNKNOWN).any()):
        rest = seen.told.label == UNKNOWN
    return judged(seen.x, seen.fine, divisions, rest=rest, seed=seed)


def _command(
    run: str | Path,
    data: str | Path | Found | None,
    folder: Path,
    how: str,
    split: str,
    groups: int | str | Mapping[str, int] | None,
    granularity: int | str | Mapping[str, int | str] | None,
    tables: Mapping[str, str | Path | None],
    seed: int,
    options: Mapping[str, Any],
) -> str:
    """The command that makes the same groups again, for the page to show."""
    words = ["maskcon", "discover", str(run)] + ([] if data is None else [name_of(data)])
    words += ["-o", str(folder), how]
    flags: dict[str, Any] = {"split": None if split == "all" else split}
    for flag, given in {"groups": groups, "granularity": granularity}.items():
        flags[flag] = given
        if isinstance(given, Mapping):
            flags[flag] = ",".join(f"{name}={value}" for name, value in given.items())
    flags |= {**tables, "seed": seed or None, **options}
    for name, value in flags.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif value is not None:
            words += [f"--{flag}", str(value)]
    return shlex.join([*words, "--names"])
