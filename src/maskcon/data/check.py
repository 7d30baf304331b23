"""`maskcon data check`: everything about a set that a person should know before training."""

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maskcon.config import SMALL_IMAGE, Config
from maskcon.data import near_duplicates
from maskcon.data.pictures import Pictures
from maskcon.data.scan import each
from maskcon.data.table import Found, lacks_coarse
from maskcon.errors import InputError
from maskcon.methods import METHODS
from maskcon.runtime.progress import Progress

LOOKED_AT = 4  # pixels of a picture, at least, along one of its thumbnail
TWELVE_BITS = 2**4  # a level that the upper 8 of 16 bits reach where no more than 12 are used
MISSING = (
    "nan",
    "none",
    "null",
    "n/a",
    "na",
    "#n/a",
    "nat",
    "undefined",
)  # labels, as programs say it
TINY = 5  # images; a class of fewer is tiny
SHOWN = 8  # names in a list


@dataclass(frozen=True)
class Report:
    """What was found.

    Attributes:
        wrong: what makes training wrong or impossible.
        warnings: what a person should look at.
        facts: counts and settings, plain data.
        lines: the same for people.
    """

    wrong: tuple[str, ...]
    warnings: tuple[str, ...]
    facts: Mapping[str, Any]
    lines: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for --json."""
        return asdict(self)


@dataclass
class _Told:
    """The report as it comes together."""

    wrong: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    def warn(self, what: str, entries: Sequence[str]) -> None:
        """A warning that lists the first entries; none where there are no entries."""
        if entries:
            self.warnings.append(f"{what}, {len(entries):,}:" + _list(entries))


@dataclass
class _Seen:
    """What was seen of one part's pictures."""

    sizes: list[tuple[int, int]] = field(default_factory=list)
    kinds: Counter = field(default_factory=Counter)
    digests: dict[int, bytes] = field(default_factory=dict)
    thumbnails: Tensor = field(default_factory=lambda: torch.empty(0))
    errors: dict[int, str] = field(default_factory=dict)
    deep: list[int] = field(default_factory=list)  # brightest levels of pictures of 16 bits


def check(found: Found, config: Config, fitting_size: int, progress: Progress) -> Report:
    """Read every picture of a set once, and say what is there and what is wrong with it.

    Args:
        found: the set, with a train and a test split; the latter is empty where a set is too small.
        config: options that training would take.
        fitting_size: a side for the views that the pictures fill.
        progress: told how it goes.
    """
    seen = {
        name: _look(part.pictures, config.readers, progress, name)
        for name, part in found.parts.items()
    }
    told = _Told(warnings=[*found.notes], facts={"name": found.name})
    readable = {
        name: part.take(np.setdiff1d(np.arange(len(part)), list(seen[name].errors)))
        for name, part in found.parts.items()
    }
    sound = replace(found, parts=readable)
    _splits(sound, config, told)
    _pictures(seen, told)
    _twelve_bits(seen, told)
    _unreadable(seen, config, told)
    _classes(sound, config, told)
    progress.update("comparing the splits")
    _duplicates(found, seen, told)
    count = len(found.parts["train"]) - len(seen["train"].errors)
    if count < 2:
        told.wrong.append(f"{count} train images can be read: nothing to learn from")
    else:
        whole = len(found.parts["train"])  # as training counts, before it leaves any out
        _settings(config.settled(whole, fitting_size), count, told)
    progress.close()
    return Report(tuple(told.wrong), tuple(told.warnings), told.facts, tuple(told.lines))


def _look(pictures: Pictures, workers: int, progress: Progress, part: str) -> _Seen:
    seen = _Seen(thumbnails=torch.zeros(len(pictures), near_duplicates.SIDE**2))

    def work(row: int) -> tuple[tuple[int, int], str, bytes]:
        size = pictures.size(row)
        enough = LOOKED_AT * near_duplicates.SIDE  # small JPEGs look alike at an eighth
        reduce = next(r for r in (8, 4, 2, 1) if min(size) >= enough * r or r == 1)
        picture = pictures.decode(row, reduce)
        seen.thumbnails[row] = near_duplicates.thumbnail_of(picture)
        kind = pictures.kind(row)
        if " I" in kind:  # 16 bits, of which the upper ones are decoded
            seen.deep.append(int(picture.max()))
        return size, kind, pictures.digest(row)

    for row, result in each(work, len(pictures), workers, progress, f"reading {part} pictures"):
        if isinstance(result, InputError):
            seen.errors[row] = str(result)
        else:
            size, kind, digest = result
            seen.sizes.append(size)
            seen.kinds[kind] += 1
            seen.digests[row] = digest
    return seen


def _splits(found: Found, config: Config, told: _Told) -> None:
    train, test = (len(found.parts[name]) for name in ("train", "test"))
    told.facts["splits"] = {"train": train, "test": test, "made": found.made_split}
    made = f" ({config.test_share:.0%} of each class, drawn from seed {config.seed})"
    told.lines.append(
        f"splits      {train:,} train and {test:,} test images{made if found.made_split else ''}"
    )
    if "validation" in found.parts:
        count = told.facts["splits"]["validation"] = len(found.parts["validation"])
        told.lines.append(f"              {count:,} validation images, to choose the best epoch on")


def _pictures(seen: Mapping[str, _Seen], told: _Told) -> None:
    sizes = np.array([size for part in seen.values() for size in part.sizes])
    if not len(sizes):
        told.lines.append("sizes       no picture can be read")
        return
    kinds: Counter = Counter()
    for part in seen.values():
        kinds += part.kinds
    height, width = np.median(sizes, 0).astype(int).tolist()
    low, high = sizes.min(0).tolist(), sizes.max(0).tolist()
    told.facts["sizes"] = {
        "smallest": [low[1], low[0]],
        "median": [width, height],
        "largest": [high[1], high[0]],
    }
    told.facts["kinds"] = dict(kinds.most_common())
    if low == high:
        told.lines.append(f"sizes       all {width} x {height} px")
    else:
        told.lines.append(
            f"sizes       {width} x {height} px in the middle; widths {low[1]} to {high[1]}, "
            f"heights {low[0]} to {high[0]}"
        )
    told.lines.append(
        "kinds       " + ", ".join(f"{n:,} {kind}" for kind, n in kinds.most_common())
    )


def _twelve_bits(seen: Mapping[str, _Seen], told: _Told) -> None:
    brightest = [level for part in seen.values() for level in part.deep]
    if brightest and max(brightest) < TWELVE_BITS:
        told.warnings.append(
            f"{len(brightest):,} pictures of 16 bits are nearly black: no level is above "
            f"{256 * TWELVE_BITS - 1:,} of 65,535, as where a camera's 12 bits or fewer lie in 16; "
            "multiply their levels by 16"
        )


def _unreadable(seen: Mapping[str, _Seen], config: Config, told: _Told) -> None:
    errors = [error for part in seen.values() for error in part.errors.values()]
    told.facts["unreadable"] = errors
    if config.skip_unreadable:
        told.warn("pictures that cannot be read (they will be left out)", errors)
    elif errors:
        told.wrong.append(
            "pictures that cannot be read (mend them, or --skip-unreadable), "
            f"{len(errors):,}:" + _list(errors)
        )


def _list(entries: Sequence[str]) -> str:
    before = "\n              "
    more = f"{before}... and {len(entries) - SHOWN:,} more" if len(entries) > SHOWN else ""
    return "".join(before + entry for entry in entries[:SHOWN]) + more


def _classes(found: Found, config: Config, told: _Told) -> None:
    train, test = found.parts["train"], found.parts["test"]
    levels = {"coarse": found.coarse_names, "fine": found.fine_names}
    if found.one_level:
        del levels["coarse"]
        told.lines.append("coarse      none: labels have one level, and evaluation judges by them")
    told.facts["classes"] = {
        level: _level(found, level, names, told) for level, names in levels.items() if names
    }
    for level, names in levels.items():
        _names(level, names, told)
    one = train.coarse.unique().numel() < 2
    reads = METHODS[config.method].labels and config.label == "coarse"
    if reads and found.one_level:
        told.wrong.append(lacks_coarse(found.name, config.method))
    elif one and reads:
        free = [name for name, method in METHODS.items() if not method.labels]
        told.wrong.append(
            f"all train images are of one coarse class, and {config.method} needs two: give "
            f"labels, or a --method that reads none ({', '.join(free)})"
        )
    if test.fine is None and not one:
        told.warnings.append(
            "no fine labels: evaluation can tell the recall of coarse classes alone"
        )
    if test.fine is not None:
        _fine_under_two(found, told)
        alone = (test.fine.bincount(minlength=len(found.fine_names)) == 1).nonzero()[:, 0].tolist()
        told.warn(
            "fine classes of one test image, which has no other to find",
            [found.fine_names[i] for i in alone],
        )
    if len(test) == 1:
        told.wrong.append("1 test image: an evaluation needs two or more")


def _names(level: str, names: Sequence[str], told: _Told) -> None:
    """Warn of names that may mean one class, or none."""
    alike: dict[str, list[str]] = {}
    for name in names:
        key = "".join(unicodedata.normalize("NFKC", name).casefold().split())
        alike.setdefault(key, []).append(name)
    told.warn(
        f"{level} classes whose names look alike, and differ in capitals, blanks or the form of "
        "Unicode alone (one class?)",
        [" and ".join(map(repr, group)) for group in alike.values() if len(group) > 1],
    )
    told.warn(
        f"{level} classes that may be missing labels",
        [repr(name) for name in names if name.rpartition("/")[2].strip().lower() in MISSING],
    )


def _level(
    found: Found, level: str, names: Sequence[str], told: _Told
) -> dict[str, dict[str, int]]:
    """How many train and test images each class has."""
    train, test = (
        getattr(found.parts[part], level).bincount(minlength=len(names)).tolist()
        for part in ("train", "test")
    )
    counts = {name: {"train": train[i], "test": test[i]} for i, name in enumerate(names)}
    used = [i for i in range(len(names)) if train[i] or test[i]]
    if not used:
        return counts
    each_has = sorted(train[i] for i in used)
    told.lines.append(
        f"{level:11} {len(used):,} classes of {each_has[0]:,} to {each_has[-1]:,} train images"
    )
    if level == "coarse" or len(used) <= SHOWN:
        told.lines += [
            f"              {names[i]}: {train[i]:,} train, {test[i]:,} test"
            for i in used[: 4 * SHOWN]
        ]
        if len(used) > 4 * SHOWN:
            told.lines.append(f"              ... and {len(used) - 4 * SHOWN:,} more")
    small = [names[i] for i in used if 0 < train[i] < TINY]
    told.warn(f"{level} classes of fewer than {TINY} train images", small)
    meant = " (as it should be, if new ones are to be found)" if level == "fine" else ""
    unseen = [names[i] for i in used if not train[i]]
    told.warn(f"{level} classes of test images alone{meant}", unseen)
    return counts


def _fine_under_two(found: Found, told: _Told) -> None:
    pairs = torch.cat(
        [
            torch.stack([part.fine, part.coarse], 1)
            for part in found.parts.values()
            if part.fine is not None
        ]
    ).unique(dim=0)
    times = pairs[:, 0].bincount(minlength=len(found.fine_names))
    under: dict[str, list[str]] = {}
    for fine, coarse in pairs[times[pairs[:, 0]] > 1].tolist():
        under.setdefault(found.fine_names[fine], []).append(found.coarse_names[coarse])
    # In a tree a fine class is "coarse/fine", so that the same name is another class.
    for name in found.fine_names:
        coarse_name, slash, fine_name = name.partition("/")
        if slash:
            under.setdefault(fine_name, []).append(coarse_name)
    twice = [f"{name}: {', '.join(coarse)}" for name, coarse in under.items() if len(coarse) > 1]
    told.facts["fine_under_two_coarse"] = twice
    told.warn(
        "fine classes under two coarse ones or more (wrong labels? In a tree they count as "
        "different classes)",
        twice,
    )


def _duplicates(found: Found, seen: Mapping[str, _Seen], told: _Told) -> None:
    train, test = (found.parts[part] for part in ("train", "test"))
    first: dict[bytes, int] = {}
    for row, digest in seen["train"].digests.items():
        first.setdefault(digest, row)
    exact = [(first[d], row) for row, d in seen["test"].digests.items() if d in first]
    the_same = {row for _, row in exact}
    alike = near_duplicates.pairs(seen["test"].thumbnails, seen["train"].thumbnails)
    near = [(other, row) for row, other in alike if row not in the_same]
    within = len(seen["train"].digests) - len(first)
    level = "fine" if found.one_level else "coarse"  # that copies of a picture must share
    label = getattr(train, level)
    conflicting = [
        (first[d], row) for row, d in seen["train"].digests.items() if label[first[d]] != label[row]
    ]
    told.facts["duplicates"] = {
        "exact_across_splits": len(exact),
        "near_across_splits": len(near),
        "exact_within_train": within,
        f"with_two_{level}_labels": len(conflicting),
        "pairs": [[train.pictures.name(a), test.pictures.name(b)] for a, b in [*exact, *near]],
    }
    for what, pairs in (("the same as", exact), ("nearly the same as", near)):
        told.warn(
            f"test pictures {what} a train picture",
            [f"{train.pictures.name(a)}  =  {test.pictures.name(b)}" for a, b in pairs],
        )
    told.warn(
        f"train pictures the same as another of a different {level} class",
        [f"{train.pictures.name(a)}  =  {train.pictures.name(b)}" for a, b in conflicting],
    )
    if within:
        told.warnings.append(f"train pictures that are there more than once: {within:,}")


def _settings(config: Config, count: int, told: _Told) -> None:
    size = config.image_size
    stem = config.stem if config.stem != "auto" else ("small" if size <= SMALL_IMAGE else "large")
    bank = min(config.bank_size, count)
    told.facts["settings"] = {
        "image_size": size,
        "stem": stem,
        "bank_size": bank,
        "batch_size": config.batch_size,
        "query_view": config.query_view,
        "key_view": config.key_view,
    }
    packed = "packed RGB" in told.facts.get("kinds", ())
    large = "read from the pack" if packed else "pictures read from disk in each epoch"
    kept = "images in memory" if size <= SMALL_IMAGE else large
    told.lines += [
        f"training    would use views of {size} px ({config.query_view} and {config.key_view}), "
        f"{kept},",
        f"              a ResNet's {stem} stem, a bank of {bank:,} and batches of "
        f"{config.batch_size}",
    ]
    if size > SMALL_IMAGE and not packed:
        told.lines.append("              `maskcon data pack` makes every epoch cheaper")
