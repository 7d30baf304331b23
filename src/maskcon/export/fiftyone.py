"""Groups as a data set of FiftyOne, of its type FiftyOneImageClassificationDataset.

data.json says where the pictures lie, so that none is copied; it is named when the folder is read,
as FiftyOne looks for a folder of pictures otherwise. See
https://docs.voxel51.com/user_guide/import_datasets.html.
"""

import os
from pathlib import Path
from typing import Any

from maskcon.export.labels import Labels
from maskcon.export.place import MARK
from maskcon.runtime import files

DATA, LABELS = "data.json", "labels.json"
WRITTEN = frozenset({MARK, DATA, LABELS})


def write(labels: Labels, out: Path) -> dict[str, Any]:
    """Write a folder that `fiftyone.Dataset.from_dir` reads.

    Each picture has its label, the confidence of it, and its coarse class as an attribute.

    Args:
        labels: of the pictures, which stay where they are.
        out: the folder.

    Returns:
        "images", "labels" (how many), "files", "load": Python that loads it.

    Raises:
        TrainingError: the disk is full or read-only.
    """
    names = {name: number for number, name in enumerate(labels.names)}
    data: dict[str, str] = {}
    told: dict[str, dict[str, Any]] = {}
    for row, place in enumerate(labels.inside()):
        stem, suffix = os.path.splitext(place)  # noqa: PTH122 - labels have names without an ending
        name, count = stem, 1
        while name in told:
            count += 1
            name = f"{stem}-{count}"
        data[name + suffix] = labels.paths[row]
        label: dict[str, Any] = {"label": names[labels.label[row]]}
        if labels.confidence is not None:
            label["confidence"] = float(labels.confidence[row])
        told[name] = {**label, "attributes": {"coarse": labels.coarse[row]}}
    with files.replacing_folder(out, ours=WRITTEN.__contains__) as folder:
        files.write(folder / MARK, b"")
        files.write_json(folder / DATA, data)
        files.write_json(folder / LABELS, {"classes": list(labels.names), "labels": told})
    return {
        "images": len(labels),
        "labels": len(labels.names),
        "files": [str(out / name) for name in (DATA, LABELS)],
        "load": (
            "import fiftyone\n"
            "kind = fiftyone.types.FiftyOneImageClassificationDataset\n"
            f'data = fiftyone.Dataset.from_dir("{out}", kind, data_path="{DATA}")\n'
            "fiftyone.launch_app(data)"
        ),
    }
