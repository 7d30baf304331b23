"""Groups as tasks of Label Studio, each with its label as a prediction to confirm or mend.

A project takes interface.xml as its labeling interface and tasks.json as an import. See
https://labelstud.io/guide/predictions and https://labelstud.io/tags/choices.
"""

import shlex
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

from maskcon.export.labels import Labels
from maskcon.export.place import MARK
from maskcon.runtime import files

TASKS, INTERFACE = "tasks.json", "interface.xml"
WRITTEN = frozenset({MARK, TASKS, INTERFACE})
CONTROL, SHOWN = "label", "image"  # names of the tags of the interface
LISTED = 12  # labels that are buttons; more of them are a list to choose from
SERVED = "/data/local-files/?d="  # where Label Studio shows files of its own disk


def write(labels: Labels, out: Path, *, root: Path | None = None) -> dict[str, Any]:
    """Write a folder with tasks and the interface that they fit.

    Args:
        labels: of the pictures.
        out: the folder.
        root: what Label Studio is told as LOCAL_FILES_DOCUMENT_ROOT, from which it shows files;
            by default the innermost folder that all pictures lie in.

    Returns:
        "images", "labels" (how many), "files", "load": what to do with them.

    Raises:
        InputError: a picture does not lie in `root`.
        TrainingError: the disk is full or read-only.
    """
    places = labels.inside(root)
    tasks = [_task(f"{SERVED}{quote(place)}", labels, row) for row, place in enumerate(places)]
    with files.replacing_folder(out, ours=WRITTEN.__contains__) as folder:
        files.write(folder / MARK, b"")
        files.write_json(folder / TASKS, tasks)
        files.write(folder / INTERFACE, _interface(labels.names))
    home = shlex.quote(labels.paths[0][: -len(places[0]) - 1])
    return {
        "images": len(labels),
        "labels": len(labels.names),
        "files": [str(out / name) for name in (TASKS, INTERFACE)],
        "load": (
            "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true \\\n"
            f"LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT={home} label-studio start\n"
            f"a new project: {INTERFACE} as its labeling interface (Custom template, Code),\n"
            f"a source storage of local files in {home}, not synchronised, then import {TASKS}"
        ),
    }


def _task(image: str, labels: Labels, row: int) -> dict[str, Any]:
    """One picture, and what it may be."""
    result = {
        "id": "group",
        "from_name": CONTROL,
        "to_name": SHOWN,
        "type": "choices",
        "value": {"choices": [labels.label[row]]},
    }
    prediction: dict[str, Any] = {"model_version": "maskcon", "result": [result]}
    if labels.confidence is not None:
        prediction["score"] = float(labels.confidence[row])
    data = {SHOWN: image, "coarse": labels.coarse[row]}
    return {"data": data, "predictions": [prediction]}


def _interface(names: tuple[str, ...]) -> bytes:
    """A picture, and one of the labels to choose."""
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Image", name=SHOWN, value=f"${SHOWN}")
    layout = "select" if len(names) > LISTED else "inline"
    how = {"name": CONTROL, "toName": SHOWN, "choice": "single-radio", "layout": layout}
    choices = ElementTree.SubElement(view, "Choices", how)
    for name in names:
        ElementTree.SubElement(choices, "Choice", value=name)
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="utf-8") + b"\n"
