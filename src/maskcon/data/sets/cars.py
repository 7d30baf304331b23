"""Stanford Cars (Krause et al., 2013) with the eight body types of MaskCon's paper."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from maskcon.data.pictures import Files
from maskcon.data.readers import arrow
from maskcon.data.readers.columns import Columns
from maskcon.data.sets import matlab
from maskcon.data.table import Found, Part
from maskcon.errors import InputError

BODIES = ("Cab", "Sedan", "SUV", "Convertible", "Coupe", "Hatchback", "Wagon", "Van")
# The last of these words in a class name says the body type.
WORDS = {body: body for body in BODIES} | {"SuperCab": "Cab", "Minivan": "Van"}
# Names without such a word, as MaskCon's released annotations (MIT licence) have them.
WITHOUT_A_WORD = {
    "Acura TL Type-S 2008": "Sedan",
    "Acura Integra Type R 2001": "Coupe",
    "Buick Regal GS 2012": "Sedan",
    "Chevrolet Corvette ZR1 2012": "Convertible",
    "Chevrolet Corvette Ron Fellows Edition Z06 2007": "Convertible",
    "Chevrolet HHR SS 2010": "SUV",
    "Chevrolet Cobalt SS 2010": "Coupe",
    "Chevrolet TrailBlazer SS 2009": "SUV",
    "Chrysler 300 SRT-8 2010": "Sedan",
    "Dodge Challenger SRT8 2011": "Coupe",
    "Dodge Charger SRT-8 2009": "Sedan",
    "FIAT 500 Abarth 2012": "Hatchback",
    "Jaguar XK XKR 2012": "Convertible",
    "Lamborghini Gallardo LP 570-4 Superleggera 2012": "Convertible",
}


def body_of(name: str) -> int:
    """Index into `BODIES` of a class such as "Audi TT RS Coupe 2012".

    Raises:
        InputError: the name tells no body type.
    """
    words = [WORDS[word] for word in name.split() if word in WORDS]
    body = words[-1] if words else WITHOUT_A_WORD.get(name)
    if body is None:
        raise InputError(f"{name!r} is no class of Stanford Cars: it names no body type")
    return BODIES.index(body)


def read(path: Path) -> Found | None:
    """Read the set in any of its layouts; None where there is none.

    The devkit's first one (car_ims/, cars_annos.mat), that of torchvision (cars_train/,
    cars_test/, devkit/, cars_test_annos_withlabels.mat), or Hugging Face's (columns image and
    label, Parquet or saved to disk).
    """
    for home in (path, path / "stanford_cars"):
        if (home / "cars_annos.mat").is_file():
            return _first_layout(home)
        if (home / "cars_train").is_dir() or (home / "devkit").is_dir():
            return _torchvision_layout(home)
    if arrow.found(path):
        found = arrow.read(path, Columns(coarse="label", fine="none"))
        parts = {
            part: _part(rows.pictures, rows.coarse, found.coarse_names)
            for part, rows in found.parts.items()
        }
        return Found("cars196", parts, BODIES, found.coarse_names)
    return None


def _first_layout(home: Path) -> Found:
    lists = matlab.read(home / "cars_annos.mat")
    names = _names(lists, home / "cars_annos.mat")
    rows: dict[str, list[tuple[str, int]]] = {"train": [], "test": []}
    file = home / "cars_annos.mat"
    for path, label, test in _annotations(file, ("relative_im_path", "class", "test")):
        part = "test" if _number(test, file) else "train"
        rows[part].append((str(path), _number(label, file)))
    return _found(home, rows, names)


def _torchvision_layout(home: Path) -> Found:
    lists = {
        "train": (home / "devkit" / "cars_train_annos.mat", home / "cars_train"),
        "test": (home / "cars_test_annos_withlabels.mat", home / "cars_test"),
    }
    meta = home / "devkit" / "cars_meta.mat"
    missing = [
        str(p.relative_to(home))
        for p in (meta, *(p for pair in lists.values() for p in pair))
        if not p.exists()
    ]
    if missing:
        raise InputError(
            f"{home} lacks {', '.join(missing)}: Stanford's own pages are gone; "
            "Kaggle and the Hugging Face hub have copies (search for Stanford Cars)"
        )
    names = _names(matlab.read(meta), meta)
    rows = {}
    for part, (file, folder) in lists.items():
        rows[part] = [
            (f"{folder.name}/{name}", _number(label, file))
            for name, label in _annotations(file, ("fname", "class"))
        ]
    return _found(home, rows, names)


def _found(home: Path, rows: dict[str, list[tuple[str, int]]], names: tuple[str, ...]) -> Found:
    missing = [name for part in rows.values() for name, _ in part if not (home / name).is_file()]
    if missing:
        raise InputError(
            f"{home} lacks {len(missing):,} of the images that its lists name, {missing[0]} the "
            "first: unpack the archives again"
        )
    parts = {}
    for part, entries in rows.items():
        fine = torch.tensor([label - 1 for _, label in entries], dtype=torch.long)
        parts[part] = _part(Files([home / name for name, _ in entries]), fine, names)
    return Found("cars196", parts, BODIES, names)


def _part(pictures: Any, fine: torch.Tensor, names: Sequence[str]) -> Part:
    body = torch.tensor([body_of(name) for name in names])
    wrong = ((fine < 0) | (fine >= len(names))).nonzero()
    if len(wrong):
        raise InputError(f"class {int(fine[wrong[0]]) + 1} is outside 1..{len(names)}")
    return Part(pictures, body[fine], fine)


def _annotations(file: Path, fields: tuple[str, ...]) -> list[tuple]:
    """Some fields of each row of a list."""
    rows = matlab.read(file).get("annotations")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{file} has no list of annotations: it is not what Stanford published")
    missing = [name for name in fields if any(name not in row for row in rows)]
    if missing:
        hint = ": the labels of the test images are in cars_test_annos_withlabels.mat"
        raise InputError(
            f"the annotations of {file} have no {missing[0]}{hint if 'class' in missing else ''}"
        )
    return [tuple(row[name] for name in fields) for row in rows]


def _number(value: Any, file: Path) -> int:
    """A number of a list."""
    if isinstance(value, list) and len(value) == 1 and math.isfinite(value[0]):
        return int(value[0])
    raise InputError(f"{file} has {value!r} in place of one number")


def _names(meta: dict[str, Any], file: Path) -> tuple[str, ...]:
    if not isinstance(meta.get("class_names"), list):
        raise InputError(f"{file} has no class_names: it is not what Stanford published")
    return tuple(str(name) for name in meta["class_names"])
