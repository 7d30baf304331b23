"""The data sets that maskcon knows by name: those of MaskCon's paper, and two to try."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from maskcon.data.sets import cars, cifar, glyphs, grocery, imagenet32, sop
from maskcon.data.sets.download import Remote
from maskcon.data.table import Found
from maskcon.errors import InputError
from maskcon.runtime.plugins import with_own
from maskcon.runtime.progress import Progress, Silent


@dataclass(frozen=True)
class Counts:
    """What the whole of a set has.

    Attributes:
        images: of each split.
        coarse, fine: classes in all.
        fine_classes: of each coarse class, where known.
        per_coarse: images of each coarse class, for splits in which they are known.
    """

    images: Mapping[str, int]
    coarse: int
    fine: int
    fine_classes: Sequence[int] | None = None
    per_coarse: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def check(self, found: Found) -> None:
        """Raise `InputError` where what was found has other counts; the message lists them."""
        wrong = []
        for part, count in self.images.items():
            rows = found.parts.get(part)
            have = 0 if rows is None else len(rows)
            if have != count:
                wrong.append(f"{have:,} {part} images in place of {count:,}")
        for level, names, count in (
            ("coarse", found.coarse_names, self.coarse),
            ("fine", found.fine_names, self.fine),
        ):
            if len(names) != count:
                wrong.append(f"{len(names):,} {level} classes in place of {count:,}")
        if not wrong:
            for part, counts in self.per_coarse.items():
                have_counts = found.parts[part].coarse.bincount(minlength=self.coarse).tolist()
                wrong += self._differing(found, f"{part} images", have_counts, counts)
            if self.fine_classes is not None:
                pairs = torch.cat(
                    [
                        torch.stack([rows.coarse, rows.fine], 1)
                        for rows in found.parts.values()
                        if rows.fine is not None
                    ]
                ).unique(dim=0)
                have_counts = pairs[:, 0].bincount(minlength=self.coarse).tolist()
                wrong += self._differing(found, "fine classes", have_counts, self.fine_classes)
        if wrong:
            raise InputError(f"this is not the whole of {found.name}: {'; '.join(wrong)}")

    @staticmethod
    def _differing(
        found: Found, what: str, have: Sequence[int], expected: Sequence[int]
    ) -> list[str]:
        return [
            f"{a:,} {what} of {name} in place of {b:,}"
            for name, a, b in zip(found.coarse_names, have, expected, strict=True)
            if a != b
        ]


@dataclass(frozen=True)
class NamedSet:
    """A data set that maskcon knows by name.

    Attributes:
        summary: one line for `maskcon datasets`.
        read: finds the set in a folder, in any layout that its owners publish; None where
            there is nothing of it.
        files: what a person should put into the folder.
        source: where to get it.
        counts: of the whole set.
        download: the file to fetch, for sets that can be fetched.
        make: makes the set, for those that need no files of a person's.
        recipe: name of a recipe to train on it with.
    """

    summary: str
    read: Callable[[Path], Found | None] = lambda path: None
    files: str = ""
    source: str = ""
    counts: Callable[[], Counts] | None = None
    download: Remote | None = None
    make: Callable[[], Found] | None = None
    recipe: str | None = None

    def find(
        self, name: str, path: Path, *, download: bool = False, progress: Progress | None = None
    ) -> Found:
        """The set in a folder, whole.

        Args:
            name: of the set.
            path: of the folder.
            download: fetch it if it is not there, where that is possible.
            progress: told how a download goes.

        Raises:
            InputError: it is not there, or not whole; the message says where to get it.
        """
        if self.make is not None:
            return self.make()
        if download and self.download is not None and self.read(path) is None:
            self.download.fetch(path, progress or Silent())
        found = self.read(path) if path.exists() else None
        if found is None:
            fetch = ", or --download to fetch it from there" if self.download else ""
            raise InputError(
                f"{name} is not in {path}: looked for {self.files}. Get it from {self.source}, "
                f"and name its folder with --data-dir{fetch}"
            )
        if self.counts is not None:
            self.counts().check(found)
        return found


def _sop_counts(split: str) -> Counts:
    facts = sop.facts()
    if split == "sop_split2":
        products = len(facts["split2_test_views"])  # of 12 images each, two of them test
        return Counts({"train": 10 * products, "test": 2 * products}, 12, products)
    rules = [facts["split1"][name] for name in sorted(facts["split1"])]
    per_coarse = {part: [rule[f"{part}_images"] for rule in rules] for part in ("train", "test")}
    products_of = [rule["train_products"] + rule["test_products"] for rule in rules]
    images = {part: sum(counts) for part, counts in per_coarse.items()}
    return Counts(images, 12, sum(products_of), products_of, per_coarse)


def _imagenet32_counts() -> Counts:
    fine_classes = [61, 123, 59, 95, 60, 130, 70, 53, 105, 71, 93, 80]
    test = [50 * count for count in fine_classes]
    images = {"train": 1_281_167, "test": 50_000}
    return Counts(images, 12, 1000, fine_classes, {"test": test})


_CIFAR10_FILES = "cifar-10-batches-py or its .tar.gz, train*.parquet, or train|test/CLASS/image.png"


def _toy(name: str, groups: Mapping[str, Sequence[str]], summary: str) -> NamedSet:
    return NamedSet(
        summary,
        read=partial(cifar.read_toy, name=name, groups=groups),
        files=_CIFAR10_FILES,
        source=cifar.CIFAR10.remote.url,
        counts=lambda: Counts(
            {"train": 40_000, "test": 8_000},
            2,
            8,
            [4, 4],
            {"train": [20_000] * 2, "test": [4_000] * 2},
        ),
        download=cifar.CIFAR10.remote,
        recipe="cifartoy_paper",
    )


def _sop(name: str, summary: str) -> NamedSet:
    return NamedSet(
        summary,
        read=partial(sop.read, name=name),
        files="the folders bicycle_final to toaster_final, with Ebay_train.txt and Ebay_test.txt",
        source="https://cvgl.stanford.edu/projects/lifted_struct (Stanford_Online_Products.zip)",
        counts=partial(_sop_counts, name),
        recipe=f"{name}_paper",
    )


DATA_SETS: dict[str, NamedSet] = {
    "glyphs": NamedSet(
        "letters and digits in many fonts, made on the fly: 6 coarse classes, 34 fine",
        make=glyphs.find,
    ),
    "grocery_small": NamedSet(
        "photos of a grocery store, in the package: 8 coarse classes, 22 fine; 198 train, 110 test",
        make=grocery.find,
    ),
    "cifar100": NamedSet(
        "CIFAR-100: 20 coarse classes, 100 fine; 50,000 train and 10,000 test images of 32 px",
        read=cifar.read_cifar100,
        files="cifar-100-python or its .tar.gz, train*.parquet, or train|test/coarse/fine/image",
        source=cifar.CIFAR100.remote.url,
        counts=lambda: Counts(
            {"train": 50_000, "test": 10_000},
            20,
            100,
            [5] * 20,
            {"train": [2_500] * 20, "test": [500] * 20},
        ),
        download=cifar.CIFAR100.remote,
        recipe="cifar100_paper",
    ),
    "cifar10": NamedSet(
        "CIFAR-10: 10 classes and no coarse ones; 50,000 train and 10,000 test images of 32 px",
        read=cifar.read_cifar10,
        files=_CIFAR10_FILES,
        source=cifar.CIFAR10.remote.url,
        counts=lambda: Counts({"train": 50_000, "test": 10_000}, 1, 10),
        download=cifar.CIFAR10.remote,
        recipe="sane_cifar10",
    ),
    "cifartoy_good": _toy(
        "cifartoy_good",
        cifar.GOOD,
        "CIFAR-10 without deer and frog, vehicles and animals: 2 coarse classes, 8 fine",
    ),
    "cifartoy_bad": _toy(
        "cifartoy_bad",
        cifar.BAD,
        "the same in two groups that mix vehicles and animals: 2 coarse classes, 8 fine",
    ),
    "imagenet32": NamedSet(
        "ImageNet at 32 px: 12 coarse classes, 1,000 fine; 1,281,167 train, 50,000 test images",
        read=imagenet32.read,
        files="train_data_batch_1 to train_data_batch_10 and val_data",
        source="https://image-net.org/download-images (downsampled 32x32, after signing in)",
        counts=_imagenet32_counts,
        recipe="imagenet32_paper",
    ),
    "sop_split1": _sop(
        "sop_split1",
        "Stanford Online Products, other products to test: 12 coarse classes, 5,035 fine",
    ),
    "sop_split2": _sop(
        "sop_split2",
        "Stanford Online Products, other views to test: 12 coarse classes, 1,498 fine",
    ),
    "cars196": NamedSet(
        "Stanford Cars: 8 body types, 196 models; 8,144 train and 8,041 test images",
        read=cars.read,
        files="car_ims/ with cars_annos.mat, cars_train/ with devkit/, or train*.parquet",
        source=(
            "a copy on Kaggle or the Hugging Face hub (search for Stanford Cars; its own pages "
            "are gone)"
        ),
        counts=lambda: Counts(
            {"train": 8_144, "test": 8_041}, 8, 196, [18, 50, 36, 30, 29, 14, 6, 13]
        ),
        recipe="cars196_paper",
    ),
}


def data_sets() -> dict[str, NamedSet]:
    """`DATA_SETS`, and those that installed packages add as entry points "maskcon.data_sets"."""
    return with_own(DATA_SETS, "maskcon.data_sets", NamedSet)
