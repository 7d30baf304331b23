"""An encoder in the forms that other programs read: what there is, nothing heavy imported."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """One form.

    Attributes:
        name: of the file or folder, in the run folder, where no other is given.
        summary: for people.
        options: that this form alone takes.
    """

    name: str
    summary: str
    options: tuple[str, ...] = ()

    @property
    def suffix(self) -> str:
        """Of the file; empty for a folder."""
        return "." + self.name.rpartition(".")[2] if "." in self.name else ""


TARGETS: dict[str, Target] = {
    "onnx": Target("encoder.onnx", "one graph from levels 0..1 to unit-length vectors"),
    "safetensors": Target("backbone.safetensors", "the backbone's weights alone, and a .json"),
    "hf": Target("hf", "a folder as the Hugging Face hub has them, with a card", ("license",)),
    "timm": Target("timm.safetensors", "weights that timm.create_model loads, and a .json"),
    "atlas": Target(
        "atlas.parquet",
        "vectors as a table with x, y and neighbours, for embedding-atlas",
        ("projection", "neighbours", "thumbnail", "vectors", "seed"),
    ),
}
