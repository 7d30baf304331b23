"""ImageNet at 32 px (Chrabaszcz et al., 2017) with the 12 coarse classes of MaskCon's paper."""

import tomllib
from pathlib import Path

import numpy as np
import torch

from maskcon.data.pictures import Arrays
from maskcon.data.sets.pickles import entry, small_images, unpickle
from maskcon.data.table import Found, Part, whole_numbers
from maskcon.errors import InputError

BATCHES = {
    "train": tuple(f"train_data_batch_{n}" for n in range(1, 11)),
    "test": ("val_data",),
}
_FACTS = Path(__file__).parent / "facts" / "imagenet.toml"


def coarse_classes() -> tuple[tuple[str, ...], list[int]]:
    """Names of the coarse classes, and that of each ILSVRC class (0-999) as an index."""
    facts = tomllib.loads(_FACTS.read_text(encoding="utf-8"))["coarse"]
    coarse = [-1] * 1000
    for index, ranges in enumerate(facts.values()):
        for span in ranges.split():
            first, _, last = span.partition("-")
            for member in range(int(first), int(last or first) + 1):
                coarse[member] = index
    return tuple(facts), coarse


def ilsvrc_of_label() -> list[int]:
    """ILSVRC class of each label of the 32 px files less one, which have an order of their own."""
    return [
        int(n)
        for n in tomllib.loads(_FACTS.read_text(encoding="utf-8"))["labels"]["ilsvrc"].split()
    ]


def locate(path: Path) -> dict[str, list[Path]] | None:
    """The batches of each split, in the folder or those that the archives unpack to."""
    places: dict[str, list[Path]] = {}
    for part, names in BATCHES.items():
        for home in (path, path / f"Imagenet32_{'val' if part == 'test' else 'train'}"):
            files = [home / name for name in names]
            if any(file.is_file() for file in files):
                places[part] = files
    return places or None


def read(path: Path) -> Found | None:
    """Read all batches; None where there is none."""
    places = locate(path)
    if places is None:
        return None
    missing = [
        name
        for part, names in BATCHES.items()
        for name in names
        if part not in places or not places[part][names.index(name)].is_file()
    ]
    if missing:
        raise InputError(
            f"{path} has some batches of ImageNet32, but not {', '.join(missing)}: fetch them "
            "from https://image-net.org (downsampled, 32x32, after signing in)"
        )
    names, coarse_of = coarse_classes()
    order = torch.tensor(ilsvrc_of_label())
    parts = {}
    for part, files in places.items():
        images, labels = [], []
        for file in files:
            rows = unpickle(file.read_bytes(), str(file))
            images.append(small_images(rows, str(file)))
            label = whole_numbers(entry(rows, "labels", str(file)), f"{file}: labels")
            wrong = ((label < 1) | (label > 1000)).nonzero()
            if len(wrong):
                raise InputError(
                    f"{file}: label {int(label[wrong[0]])} of row {int(wrong[0])}: expected 1 to "
                    "1,000"
                )
            labels.append(label)
        fine = order[torch.cat(labels) - 1]
        parts[part] = Part(
            Arrays(torch.from_numpy(np.concatenate(images)), f"{path} ({part})"),
            torch.tensor(coarse_of)[fine],
            fine,
        )
    return Found("imagenet32", parts, names, tuple(map(str, range(1000))))
