"""Groups as tags of CVAT: annotations in its XML 1.1 for images, and the labels of a task.

See https://docs.cvat.ai/docs/manual/advanced/xml_format.
"""

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from maskcon.data.pictures import Files
from maskcon.errors import InputError
from maskcon.export.labels import Labels
from maskcon.export.place import MARK
from maskcon.runtime import files

ANNOTATIONS, LABELS = "annotations.xml", "labels.json"
WRITTEN = frozenset({MARK, ANNOTATIONS, LABELS})
ATTRIBUTE = "coarse"
_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write(labels: Labels, out: Path, *, root: Path | None = None) -> dict[str, Any]:
    """Write a folder with annotations and the labels that a task needs before it takes them.

    Args:
        labels: of the pictures, whose headers are read for their sizes.
        out: the folder.
        root: the folder from which the task names its pictures; by default the innermost that
            all of them lie in.

    Returns:
        "images", "labels" (how many), "files", "load": what to do with them.

    Raises:
        InputError: a picture does not lie in `root`, cannot be read, or has a name that XML
            cannot hold.
        TrainingError: the disk is full or read-only.
    """
    places = labels.inside(root)
    for text in (*places, *labels.names, *labels.coarse):
        if _NO_XML.search(text):
            raise InputError(f"XML cannot hold the name {text!r}: rename it")
    top = ElementTree.Element("annotations")
    ElementTree.SubElement(top, "version").text = "1.1"
    _describe(ElementTree.SubElement(top, "meta"), labels)
    pictures = Files(labels.paths)
    for row, place in enumerate(places):
        high, wide = pictures.size(row)
        about = {"id": str(row), "name": place, "width": str(wide), "height": str(high)}
        image = ElementTree.SubElement(top, "image", about)
        tag = ElementTree.SubElement(image, "tag", label=labels.label[row], source="auto")
        ElementTree.SubElement(tag, "attribute", name=ATTRIBUTE).text = labels.coarse[row]
    ElementTree.indent(top)
    with files.replacing_folder(out, ours=WRITTEN.__contains__) as folder:
        files.write(folder / MARK, b"")
        xml = ElementTree.tostring(top, encoding="utf-8", xml_declaration=True)
        files.write(folder / ANNOTATIONS, xml + b"\n")
        files.write_json(folder / LABELS, [_label(name) for name in labels.names])
    return {
        "images": len(labels),
        "labels": len(labels.names),
        "files": [str(out / name) for name in (ANNOTATIONS, LABELS)],
        "load": (
            f"a new task: {LABELS} as its labels (Raw), the pictures with their folders from\n"
            f"{labels.paths[0][: -len(places[0]) - 1]} on; then, in its menu,\n"
            f"Upload annotations, CVAT 1.1, {ANNOTATIONS}"
        ),
    }


def _label(name: str) -> dict[str, Any]:
    """A label as the raw form of a task's labels has it."""
    coarse = {
        "name": ATTRIBUTE,
        "mutable": False,
        "input_type": "text",
        "default_value": "",
        "values": [""],
    }
    return {"name": name, "type": "tag", "attributes": [coarse]}


def _describe(meta: ElementTree.Element, labels: Labels) -> None:
    """What the head of the file says of the task."""
    task = ElementTree.SubElement(meta, "task")
    ElementTree.SubElement(task, "name").text = "maskcon"
    ElementTree.SubElement(task, "size").text = str(len(labels))
    ElementTree.SubElement(task, "mode").text = "annotation"
    known = ElementTree.SubElement(task, "labels")
    for name in labels.names:
        label = ElementTree.SubElement(known, "label")
        ElementTree.SubElement(label, "name").text = name
        ElementTree.SubElement(label, "type").text = "tag"
        attribute = ElementTree.SubElement(ElementTree.SubElement(label, "attributes"), "attribute")
        told = {"name": ATTRIBUTE, "mutable": "False", "input_type": "text"}
        for key, text in {**told, "default_value": "", "values": ""}.items():
            ElementTree.SubElement(attribute, key).text = text
