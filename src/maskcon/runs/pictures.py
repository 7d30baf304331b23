"""Which pictures a run was trained and tested with, told by their content wherever they lie now."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load, save

from maskcon.data import Found, Part
from maskcon.data.pictures import Joined, Pictures
from maskcon.data.scan import each
from maskcon.data.table import PARTS
from maskcon.errors import InputError
from maskcon.runtime import files
from maskcon.runtime.distributed import ALONE, Ranks
from maskcon.runtime.progress import Progress

FILE = "pictures.safetensors"
WIDTH = 16  # bytes of a digest
UNREADABLE = bytes(WIDTH)
Digests = Mapping[str, Sequence[bytes]]  # of the parts of a set


def digests(pictures: Pictures, progress: Progress, ranks: Ranks = ALONE) -> list[bytes]:
    """What tells the content of each picture; several `ranks` share the reading."""
    own = ranks.part(len(pictures))
    read = each(
        pictures.digest, own.stop - own.start, 4, progress, "looking at pictures", own.start
    )
    made = [UNREADABLE if isinstance(one, InputError) else one for _, one in read]
    return [digest for part in ranks.all_gather_object(made) for digest in part]


def of_parts(found: Found, progress: Progress, ranks: Ranks = ALONE) -> Digests:
    """The digests of the train and the test part, and of the validation part if there is one."""
    return {
        name: digests(found.parts[name].pictures, progress, ranks)
        for name in PARTS
        if name in found.parts
    }


def write(folder: Path, known: Digests) -> None:
    """Note in a run folder what it is trained and tested with."""
    rows = {
        name: torch.from_numpy(np.frombuffer(b"".join(part), np.uint8).reshape(-1, WIDTH).copy())
        for name, part in known.items()
    }
    files.write(folder / FILE, save(rows))


def read(folder: Path) -> Digests | None:
    """What `write` noted; None where there is nothing: 0.1 noted nothing.

    Raises:
        InputError: the file is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        rows = load(path.read_bytes())
        names = ("train", "test", *(["validation"] if "validation" in rows else []))
        return {name: [row.tobytes() for row in rows[name].numpy()] for name in names}
    except Exception as error:  # whatever a file that somebody made can raise
        raise InputError(f"{path} is damaged ({error}): put it back, or delete it") from error


def arranged(found: Found, known: Digests, now: Digests, progress: Progress) -> Found:
    """A set with the pictures that a run was begun with, in their order, to go on with.

    Args:
        found: with both parts, perhaps under other names, split otherwise, or with more pictures.
        known: of the run.
        now: of the set.
        progress: told of pictures that are new.

    Raises:
        InputError: some of them are not there any more, or were changed.
    """
    if {name: [*part] for name, part in now.items()} == known:
        return found
    whole = _whole([found.parts[name] for name in now])
    rows = _rows(chain.from_iterable(now.values()))
    taken = {name: _taken(rows, part) for name, part in known.items()}
    for name, part in taken.items():
        if lost := part.count(-1):
            raise InputError(
                f"{lost:,} of the {len(part):,} pictures of the {name} split that the run was "
                f"started with are not in {found.name}, or were changed: put them back, or start "
                "a new run"
            )
    if new := sum(map(len, rows.values())):
        progress.note(f"left out: {new:,} pictures of {found.name} that the run was begun without")
    parts = {name: whole.take(np.array(part)) for name, part in taken.items()}
    return replace(found, parts=parts)


def trained_on(part: Part, known: Digests, progress: Progress) -> Part | None:
    """The pictures of a part that a run was trained on, in its order; None where some are missing.

    Args:
        part: with these pictures, in any order, and perhaps others.
        known: of the run.
        progress: told how it goes.
    """
    taken = _taken(_rows(digests(part.pictures, progress)), known["train"])
    return None if -1 in taken else part.take(np.array(taken))


def _rows(now: Iterable[bytes]) -> dict[bytes, list[int]]:
    """The rows of each content."""
    rows = defaultdict(list)
    for row, digest in enumerate(now):
        rows[digest].append(row)
    return rows


def _taken(rows: dict[bytes, list[int]], wanted: Iterable[bytes]) -> list[int]:
    """A row of each content, which nobody else gets then; -1 where there is none."""
    return [rows[digest].pop(0) if rows.get(digest) else -1 for digest in wanted]


def split_again(found: Found, known: Digests, progress: Progress) -> Found:
    """A set without a test part, with the one that a run was tested with; the others are train."""
    whole = found.parts["train"]
    tested = {*known["test"]}
    test = np.array([digest in tested for digest in digests(whole.pictures, progress)])
    if not test.any() or test.all():
        progress.note(f"no picture of {found.name} is one that the run was tested with")
        return found
    parts = {"train": whole.take(np.flatnonzero(~test)), "test": whole.take(np.flatnonzero(test))}
    return replace(found, parts=parts, made_split=True)


def judged(found: Found, known: Digests, progress: Progress, *, own: bool) -> Found:
    """A set whose test part has no picture that a run was trained on.

    Args:
        found: its test part is judged, or all of it where there is none.
        known: of the run.
        progress: told what is left out, and what is other than in training.
        own: it is the run's own: where it has no test part, what the run was tested with is
            judged, and nothing that came later.

    Raises:
        InputError: nothing is left to judge.
    """
    given = "test" in found.parts
    part = found.parts["test" if given else "train"]
    now = digests(part.pictures, progress)
    tested = {*known["test"]} - {UNREADABLE}
    trained = {*known["train"], *known.get("validation", ())} - tested - {UNREADABLE}
    seen = np.array([digest in trained for digest in now])
    new = np.array([digest not in trained and digest not in tested for digest in now])
    kept = ~(seen | new) if own and not given else ~seen
    if seen.all() and not own:
        progress.note(
            f"the run was trained on all {len(part):,} pictures of {found.name}: what they show "
            "says nothing of others"
        )
        return found
    used = "trained or chosen on" if "validation" in known else "trained on"
    told = seen if given or not own else seen & False
    _tell(found.name, used, told, new, tested - {*now}, progress)
    if not kept.any():
        raise InputError(
            f"none of the {len(part):,} pictures of {found.name} is one that the run was tested "
            "with: put those back, or give others with --data"
        )
    parts = {name: other for name, other in found.parts.items() if name == "train" and given}
    if not given and seen.any():
        parts["train"] = part.take(np.flatnonzero(seen))
    parts["test"] = part if kept.all() else part.take(np.flatnonzero(kept))
    return replace(found, parts=parts)


def _tell(
    name: str, used: str, seen: np.ndarray, new: np.ndarray, lost: set[bytes], progress: Progress
) -> None:
    """What a person should know of pictures that are judged; nothing where all are new."""
    if new.all():
        return
    count = len(new)
    for number, what in (
        (int(seen.sum()), f"are ones that the run was {used}: they are left out"),
        (int(new.sum()), "are new, or were changed, since the run was trained"),
    ):
        if number:
            progress.note(f"{number:,} of {count:,} pictures of {name} {what}")
    if lost:
        progress.note(
            f"{len(lost):,} pictures that the run was tested with are not in {name}, or were "
            "changed"
        )


def _whole(parts: Sequence[Part]) -> Part:
    """Parts one after the other."""
    fine = [part.fine for part in parts if part.fine is not None]
    return Part(
        Joined([part.pictures for part in parts]),
        torch.cat([part.coarse for part in parts]),
        torch.cat(fine) if len(fine) == len(parts) else None,
    )
