"""An encoder, or groups, in the forms that other programs read; nothing heavy is imported."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Literal

from maskcon.runtime.plugins import with_own
from maskcon.runtime.progress import Progress

if TYPE_CHECKING:
    from torch import Tensor

    from maskcon.data import Found
    from maskcon.encoder import Encoder


@dataclass(frozen=True)
class Request:
    """What a form is made of.

    Attributes:
        encoder: of the run; where the form is compared, on the processor and in float32.
        run: its folder.
        out: the file or folder to write, checked.
        images: squares to compare on, uint8 [N, 3, S, S]; none where nothing is compared.
        find: finds the pictures that were given, or the run's own.
        skip_unreadable: leave out those that cannot be read, in place of an error.
        progress: told how it goes.
    """

    encoder: "Encoder"
    run: Path
    out: Path
    images: "Tensor"
    find: "Callable[[], Found]"
    skip_unreadable: bool
    progress: Progress


@dataclass(frozen=True)
class Target:
    """One form.

    Attributes:
        name: of the file or folder, in the run folder, where no other is given.
        summary: for people.
        write: a function of a `Request`, or of `maskcon.export.labels.Labels` and a path where it
            is of groups; with `options` as keywords. It writes the form and returns what there is
            to say of it. Or "module:function", imported when it is asked for. It raises
            `InputError` where it cannot, and then has written nothing.
        options: that this form alone takes.
        of: what it holds: the encoder, with which it is compared; vectors of pictures; or
            pictures with the names of their groups.
    """

    name: str
    summary: str
    write: Callable[..., dict[str, Any]] | str
    options: tuple[str, ...] = ()
    of: Literal["encoder", "pictures", "groups"] = "encoder"

    @property
    def suffix(self) -> str:
        """Of the file; empty for a folder."""
        return "." + self.name.rpartition(".")[2] if "." in self.name else ""

    def make(self, *what: Any, **options: Any) -> dict[str, Any]:
        """Write the form, as `write` does."""
        write = resolve_name(self.write) if isinstance(self.write, str) else self.write
        return write(*what, **options)


TARGETS: dict[str, Target] = {
    "onnx": Target(
        "encoder.onnx",
        "one graph from levels 0..1 to unit-length vectors",
        "maskcon.export.onnx_file:write",
    ),
    "safetensors": Target(
        "backbone.safetensors",
        "the backbone's weights alone, and a .json",
        "maskcon.export.weights:write",
    ),
    "hf": Target(
        "hf",
        "a folder as the Hugging Face hub has them, with a card",
        "maskcon.export.hub:write",
        ("license", "push"),
    ),
    "timm": Target(
        "timm.safetensors",
        "weights that timm.create_model loads, and a .json",
        "maskcon.export.timm_file:write",
    ),
    "atlas": Target(
        "atlas.parquet",
        "vectors as a table with x, y and neighbours, for embedding-atlas",
        "maskcon.export.atlas:write",
        ("projection", "neighbours", "thumbnail", "vectors", "seed", "device"),
        of="pictures",
    ),
    "label-studio": Target(
        "label-studio",
        "a folder of groups as Label Studio's tasks with predictions, and their interface",
        "maskcon.export.label_studio:write",
        ("root",),
        of="groups",
    ),
    "cvat": Target(
        "cvat",
        "a folder of groups as CVAT's annotations (XML 1.1), and the labels of a task",
        "maskcon.export.cvat:write",
        ("root",),
        of="groups",
    ),
    "fiftyone": Target(
        "fiftyone",
        "a folder of groups as FiftyOne's FiftyOneImageClassificationDataset",
        "maskcon.export.fiftyone:write",
        of="groups",
    ),
}


def targets() -> dict[str, Target]:
    """The forms by name: these, and those of installed packages (`maskcon.exporters`)."""
    return with_own(TARGETS, "maskcon.exporters", Target)
