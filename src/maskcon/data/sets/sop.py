"""Stanford Online Products (Song et al., 2016), in the two splits of MaskCon's paper.

Coarse class = one of 12 categories, fine class = product. An image is
CATEGORY_final/PRODUCT_VIEW.JPG.
"""

import tomllib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from maskcon.data.pictures import Files
from maskcon.data.table import Found, Part
from maskcon.errors import InputError

FOLDER = "Stanford_Online_Products"
LISTS = ("Ebay_train.txt", "Ebay_test.txt")
_FACTS = Path(__file__).parent / "facts" / "sop.toml"


@dataclass(frozen=True, order=True)
class Image:
    """An image, by its name."""

    category: str
    product: int
    view: int

    @classmethod
    def parse(cls, name: str) -> "Image":
        """Of "bicycle_final/111085122871_0.JPG".

        Raises:
            InputError: it is no such name.
        """
        place, _, file = name.rpartition("/")
        product, _, view = file.rpartition(".")[0].partition("_")
        category = place.rpartition("/")[2].removesuffix("_final")
        if not (category and product.isdecimal() and view.isdecimal()):
            raise InputError(
                f"{name!r} is no image of SOP: expected CATEGORY_final/PRODUCT_VIEW.JPG"
            )
        return cls(category, int(product), int(view))

    @property
    def path(self) -> str:
        """Where it lies in the set's folder."""
        return f"{self.category}_final/{self.product}_{self.view}.JPG"


def facts() -> dict:
    """Rules and counts of the two splits."""
    return tomllib.loads(_FACTS.read_text(encoding="utf-8"))


def split1(images: Iterable[Image]) -> dict[str, list[Image]]:
    """Products of 8 images or more; train up to a product of each category, test beyond it."""
    last = {name: rule["last_train_product"] for name, rule in facts()["split1"].items()}
    parts: dict[str, list[Image]] = {"train": [], "test": []}
    for product in _products(images):
        first = product[0]
        if len(product) >= 8 and first.category in last:
            part = "train" if first.product <= last[first.category] else "test"
            parts[part] += product
    return parts


def split2(images: Iterable[Image]) -> dict[str, list[Image]]:
    """Products of exactly 12 images; two listed views of each are test, the others train."""
    views = {
        int(product): {int(v) for v in pair.split()}
        for product, pair in facts()["split2_test_views"].items()
    }
    parts: dict[str, list[Image]] = {"train": [], "test": []}
    for product in _products(images):
        if len(product) == 12:
            test = views.get(product[0].product)
            if test is None:
                raise InputError(
                    f"product {product[0].product} has 12 images but is not among the 1,498 of "
                    "split 2: this is not the published set"
                )
            for image in product:
                parts["test" if image.view in test else "train"].append(image)
    return parts


def _products(images: Iterable[Image]) -> list[list[Image]]:
    products: dict[tuple[str, int], list[Image]] = defaultdict(list)
    for image in sorted(set(images)):
        products[image.category, image.product].append(image)
    return list(products.values())


SPLITS = {"sop_split1": split1, "sop_split2": split2}


def read(path: Path, name: str) -> Found | None:
    """Read the lists, or the folders where there are no lists; None where there is no set."""
    home = next((h for h in (path, path / FOLDER) if h.is_dir() and any(h.glob("*_final"))), None)
    if home is None:
        return None
    images = _listed(home)
    parts = SPLITS[name](images)
    every = [image for part in parts.values() for image in part]
    missing = [image.path for image in every if not (home / image.path).is_file()]
    if missing:
        raise InputError(
            f"{home} lacks {len(missing):,} of the {len(every):,} images of {name}, "
            f"{missing[0]} the first: unpack the archive again"
        )
    coarse_names = tuple(sorted({image.category for image in every}))
    products = sorted({(image.category, image.product) for image in every})
    coarse_of = {name: i for i, name in enumerate(coarse_names)}
    fine_of = {product: i for i, product in enumerate(products)}
    return Found(
        name,
        {
            part: Part(
                Files([home / image.path for image in rows]),
                torch.tensor([coarse_of[image.category] for image in rows], dtype=torch.long),
                torch.tensor(
                    [fine_of[image.category, image.product] for image in rows], dtype=torch.long
                ),
            )
            for part, rows in parts.items()
        },
        coarse_names,
        tuple(f"{category}/{product}" for category, product in products),
    )


def _listed(home: Path) -> list[Image]:
    lists = [home / name for name in LISTS if (home / name).is_file()]
    if len(lists) == 1:
        raise InputError(f"{home} has {lists[0].name} alone: expected {' and '.join(LISTS)}")
    if not lists:
        return [
            Image.parse(f"{file.parent.name}/{file.name}") for file in home.glob("*_final/*.JPG")
        ]
    names = []
    for file in lists:
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{file} cannot be read as UTF-8 text: {error}") from error
        for number, line in enumerate(lines[1:], 2):  # a head comes first
            cells = line.split()
            if len(cells) != 4:
                raise InputError(
                    f"line {number} of {file} has {len(cells)} cells: expected image_id class_id "
                    "super_class_id path"
                )
            names.append(cells[3])
    return [Image.parse(name) for name in names]
