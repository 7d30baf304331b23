"""The tables that data come in.

A reader finds `Part`s: pictures with labels, split or not, of any size. What training works
with is a `DataSet` of two `Split`s, made of them by `maskcon.data.load`.
"""

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from maskcon.data.images import Images, Normalisation
from maskcon.data.pictures import Pictures
from maskcon.data.readers.vectors import Computed
from maskcon.errors import InputError
from maskcon.methods import METHODS
from maskcon.runtime.seeds import generator

# What splits are called where people name them.
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("val", "valid", "validation", "eval"), "validation"),
}
PARTS = ("train", "test", "validation")
ALL = "all"  # the one coarse class of data whose labels have one level


@dataclass(frozen=True)
class Part:
    """Pictures with their labels, as they were found.

    Attributes:
        pictures: N of them.
        coarse: int64 [N], indices into the coarse names.
        fine: int64 [N], indices into the fine names; None where nobody labelled them.
    """

    pictures: Pictures
    coarse: Tensor
    fine: Tensor | None

    def __len__(self) -> int:
        return len(self.pictures)

    def take(self, rows: np.ndarray) -> "Part":
        """Some of the rows, in that order."""
        chosen = torch.from_numpy(rows)
        fine = None if self.fine is None else self.fine[chosen]
        return Part(self.pictures.take(rows), self.coarse[chosen], fine)


@dataclass(frozen=True)
class Found:
    """What a reader found.

    Attributes:
        name: of the set.
        parts: "train" and "test"; or only one of them, where the set is not split. Beside a test
            part there may be one of "validation", which neither trains nor tests: the best epoch
            is chosen on it.
        coarse_names, fine_names: of the classes; no fine names where nobody labelled them.
        notes: what a person should know of how it was read.
        made_split: the test part was drawn from the train part, by `with_test`.
        made_validation: the validation part was, by `with_validation`.
    """

    name: str
    parts: Mapping[str, Part]
    coarse_names: tuple[str, ...]
    fine_names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    made_split: bool = False
    made_validation: bool = False

    def __post_init__(self) -> None:
        for part, rows in self.parts.items():
            check_labels(self, part, len(rows), rows.coarse, rows.fine)

    @property
    def one_level(self) -> bool:
        """Whether there are labels to judge by, and no coarse ones to tell classes apart."""
        return len(self.coarse_names) == 1 and bool(self.fine_names)

    def with_test(self, share: float, seed: int) -> "Found":
        """The same; where there is no test part, one is drawn from the train part (`_drawn`).

        Raises:
            InputError: there are test images alone, or too few to split.
        """
        if "train" not in self.parts:
            raise InputError(f"{self.name} has test images alone: nothing to train on")
        if "test" in self.parts:
            return self
        found = self._with_part("test", share, generator(seed, "split"))
        return replace(found, made_split=True)

    def with_validation(self, share: float, seed: int) -> "Found":
        """The same with a validation part that is drawn from the train part; as is without a share.

        Raises:
            InputError: there is one, or there are too few images to split.
        """
        if not share:
            return self
        if "validation" in self.parts:
            raise InputError(
                f"--val-share has no effect: {self.name} has a validation split of its own; leave "
                "it out. It belongs to data without one"
            )
        found = self._with_part("validation", share, generator(seed, "validation"))
        return replace(found, made_validation=True)

    def _with_part(self, name: str, share: float, random: Generator) -> "Found":
        """The same with another part that is drawn from the train part."""
        whole = self.parts["train"]
        drawn, again = _drawn(whole, share, random)
        if not drawn.any():
            label = whole.coarse if whole.fine is None else whole.fine
            raise InputError(
                f"{self.name} has {len(whole)} images in {len(label.unique())} classes: too few to "
                f"leave some out {'to test with' if name == 'test' else 'for validation'}; give a "
                f"{name} split"
            )
        parts = dict(self.parts)
        for part, rows in (("train", ~drawn), (name, drawn)):
            parts[part] = whole.take(rows.nonzero()[:, 0].numpy())
        notes = self.notes
        if again:
            notes += (
                f"{again:,} of the rows list a picture that is there more than once: all rows of a "
                "picture are in the same split",
            )
        return replace(self, parts=parts, notes=notes)


def as_one_level(found: Found) -> Found:
    """A set whose labels have one level: they are the fine ones, and coarse is one class, `ALL`.

    Raises:
        InputError: it has two levels.
    """
    if found.fine_names:
        raise InputError(
            f"{found.name} has {len(found.coarse_names):,} coarse and {len(found.fine_names):,} "
            "fine classes: leave out --one-level, which is for labels of one level"
        )
    parts = {
        name: Part(rows.pictures, torch.zeros_like(rows.coarse), rows.coarse)
        for name, rows in found.parts.items()
    }
    return replace(found, parts=parts, coarse_names=(ALL,), fine_names=found.coarse_names)


def lacks_coarse(name: str, method: str) -> str:
    """Why a method that reads coarse labels cannot train where labels have one level."""
    free = ", ".join(name for name, record in METHODS.items() if not record.labels)
    return (
        f"the labels of {name} have one level, and evaluation judges by them: there is no coarse "
        f"label, which {method} needs. Choose a --method that reads none ({free}), or --label fine "
        "to train with them, for an upper bound"
    )


def settle(parts: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Parts by the values of `SPLITS`, in the order of `PARTS`; and a note.

    A validation part stands in for a test part that is not there.
    """
    parts, notes = dict(parts), tuple[str, ...]()
    if "validation" in parts and "test" not in parts:
        parts["test"] = parts.pop("validation")
        notes = ("the validation split serves as the test split",)
    return {name: parts[name] for name in PARTS if name in parts}, notes


def of_split(found: Found, split: str) -> Found:
    """A set with one of its parts alone, by any of its names in `SPLITS`; or with "all".

    Raises:
        InputError: there is no such part.
    """
    if split == "all":
        return found
    name = SPLITS.get(split.lower())
    if name is None:
        raise InputError(f"split is {split!r}: expected all, {', '.join(PARTS)}")
    if name not in found.parts:
        raise InputError(
            f"{found.name} has no {name} split, only {', '.join(found.parts)}: leave out --split"
        )
    return replace(found, parts={name: found.parts[name]})


def _drawn(part: Part, share: float, random: Generator) -> tuple[Tensor, int]:
    """Rows that are left out of training, bool [N]; and how many list a picture again.

    From each class (fine where known, else coarse) a share of the images, rounded, but at least
    two of four or more and never one, so that an image that is judged has another to find. An
    image that is listed again counts once, and is left out with all of its rows or with none.
    """
    label = part.coarse if part.fine is None else part.fine
    order = torch.randperm(len(part), generator=random)
    first = _first_rows(part.pictures)
    again = first != torch.arange(len(part))
    order = order[~again[order]]
    drawn = torch.zeros(len(part), dtype=torch.bool)
    for members in _by_class(label[order]):
        n = len(members)
        count = max(round(share * n), 2 if n >= 4 else 0)
        count = max(min(count, n - 1), 0) if count > 1 else 0
        drawn[order[members[:count]]] = True
    return drawn[first], int(again.sum())


def _first_rows(pictures: Pictures) -> Tensor:
    """The first row that has the same content as each row, int64 [N]; itself where none has.

    Contents are read where their lengths are equal; what cannot be read is itself.
    """
    same_length: dict[int, list[int]] = {}
    for row in range(len(pictures)):
        same_length.setdefault(pictures.length(row), []).append(row)
    first = torch.arange(len(pictures))
    for rows in same_length.values():
        known: dict[bytes, int] = {}
        for row in rows if len(rows) > 1 else ():
            with suppress(InputError):
                first[row] = known.setdefault(pictures.digest(row), row)
    return first


def _by_class(label: Tensor) -> list[Tensor]:
    order = label.argsort(stable=True)
    return list(order.split(label.bincount().tolist()))


@dataclass(frozen=True)
class Split:
    """Images with their labels.

    Attributes:
        images: N, in memory, on the disk, or vectors in their place.
        coarse: int64 [N], indices into the data set's coarse names.
        fine: int64 [N], indices into its fine names; None where nobody labelled them.
        computed: the vectors of an encoder that came with them.
    """

    images: Images
    coarse: Tensor
    fine: Tensor | None
    computed: Computed | None = None

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: Tensor) -> "Split":
        """Some of the rows, in that order."""
        fine = None if self.fine is None else self.fine[rows]
        computed = None if self.computed is None else self.computed.take(rows.numpy())
        return Split(self.images.take(rows), self.coarse[rows], fine, computed)

    def fingerprint(self) -> str:
        """Tells these images and labels from others."""
        digest = hashlib.blake2b(digest_size=16)
        for part in self.images.content():
            digest.update(part)
        for label in (self.coarse, self.fine):
            if label is not None:
                digest.update(str(tuple(label.shape)).encode())
                digest.update(label.contiguous().numpy().data)
        return digest.hexdigest()


@dataclass(frozen=True)
class DataSet:
    """A train and a test split, and the names of the classes.

    Attributes:
        name: of the set.
        train, test: the splits.
        coarse_names, fine_names: of the classes; no fine names where nobody labelled them.
        made_split: the test split was drawn from the set, because it came without one.
        skipped: pictures that were left out because they cannot be read: (name, reason).
        validation: images that neither train nor test, to choose the best epoch on.
    """

    name: str
    train: Split
    test: Split
    coarse_names: tuple[str, ...]
    fine_names: tuple[str, ...]
    made_split: bool = False
    skipped: tuple[tuple[str, str], ...] = ()
    validation: Split | None = None

    def __post_init__(self) -> None:
        for part in PARTS:
            split = getattr(self, part)
            if split is None:
                continue
            if not len(split):
                raise InputError(f"{self.name} has no {part} images")
            check_labels(self, part, len(split), split.coarse, split.fine)

    @property
    def one_level(self) -> bool:
        """`Found.one_level`."""
        return len(self.coarse_names) == 1 and bool(self.fine_names)

    def normalisation(self) -> Normalisation:
        """Mean and std of each channel, for levels in 0..1.

        Over the train images where they are in memory; those of ImageNet elsewhere, which is
        what pretrained networks were trained with; of vectors that of the pictures they are of.
        """
        return self.train.images.normalisation


def check_labels(
    data: Found | DataSet, part: str, count: int, coarse: Tensor, fine: Tensor | None
) -> None:
    """Raise `InputError` where labels are too few or too many, or outside their names."""
    for level, label, names in (
        ("coarse", coarse, data.coarse_names),
        ("fine", fine, data.fine_names),
    ):
        if label is None:
            continue
        if len(label) != count:
            raise InputError(f"{data.name}: {count} {part} images have {len(label)} {level} labels")
        wrong = ((label < 0) | (label >= len(names))).nonzero()
        if len(wrong):
            row = int(wrong[0])
            raise InputError(
                f"{data.name}: {level} label {int(label[row])} of {part} image {row} is "
                f"outside 0..{len(names) - 1}; there are {len(names)} {level} names"
            )


def whole_numbers(values: Sequence, name: str) -> Tensor:
    """Labels as int64 [N].

    Raises:
        InputError: one is not a whole number; the message names the row.
    """
    for row, value in enumerate(values):
        if not isinstance(value, Integral):
            raise InputError(f"{name}: label {value!r} of row {row} is no whole number")
    return torch.tensor(list(values), dtype=torch.long)


def numbered(values: Sequence[str]) -> tuple[Tensor, tuple[str, ...]]:
    """Class names as int64 [N] and the names, numbers in numeric order, else alphabetically."""
    names = sorted(
        set(values), key=lambda name: (0, int(name), name) if _number(name) else (1, 0, name)
    )
    index = {name: i for i, name in enumerate(names)}
    return torch.tensor([index[value] for value in values], dtype=torch.long), tuple(names)


def _number(name: str) -> bool:
    return len(name) < 20 and name.isascii() and name.removeprefix("-").isdigit()
