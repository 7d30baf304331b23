"""A folder as the Hugging Face hub has them: weights, configuration, preprocessing, a card.

It holds what `maskcon.Encoder.load` reads as well, and where timm has the same network, what
`timm.create_model("local-dir:FOLDER")` and transformers read.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path, PureWindowsPath
from typing import Any

import safetensors.torch

from maskcon.encoder import Encoder
from maskcon.errors import InputError
from maskcon.export import Request, timm_file, upload, weights
from maskcon.export.agreement import Agreement
from maskcon.export.describe import describe
from maskcon.export.place import MARK
from maskcon.model.saved import DESCRIPTION, WEIGHTS, save_encoder
from maskcon.report import card
from maskcon.runs import folder as runs
from maskcon.runtime import files
from maskcon.runtime.hub import PREFIX

PICTURES = ("curves.png", "map.png", "neighbours.png")
# What the folder may have; other files in an earlier one stay.
WRITTEN = frozenset(
    {
        *(MARK, "model.safetensors", "config.json", "preprocessor_config.json"),
        *(WEIGHTS, DESCRIPTION, "run.json", "metrics.jsonl", "README.md", *PICTURES),
    }
)
BILINEAR = 2  # Pillow's number of it, which image processors have
TASK = "image-feature-extraction"


def write(request: Request, *, license: str = "unknown", push: str | None = None) -> dict[str, Any]:
    """Fill the folder, and see that what it holds gives the encoder's vectors.

    Args:
        request: the encoder, pictures to compare on, and the run folder with its card.
        license: of the weights, as the hub calls it, such as "mit" or "cc-by-4.0".
        push: a repository of the hub, OWNER/NAME, that the folder is uploaded to.

    Returns:
        "agreement", "library" ("timm" or "maskcon"), "files", "load": Python that loads it; and
        "pushed", hf:OWNER/NAME@COMMIT, or None.

    Raises:
        InputError: the run has not finished, so that there is no card.
        TrainingError: the folder is written, and could not be uploaded.
    """
    encoder, images, run, out = request.encoder, request.images, request.run, request.out
    record = runs.read(run)
    readme = _own(run / "README.md")
    if readme is None or not record.get("results"):
        raise InputError(
            f"{run} has no results and no card (README.md) yet: let it finish, with "
            "`maskcon train --resume`"
        )
    if not license.strip() or "\n" in license:
        raise InputError(
            f"license is {license!r}: expected one of the hub's names, such as mit, or unknown"
        )
    if push is not None:
        upload.check_name(push)
    # timm's own networks have no stem for small images: its folders could not be loaded
    model, agreement = None, None
    if not timm_file.small_stem(encoder):
        try:
            model, agreement = timm_file.checked(encoder, images)
        except InputError:
            model = None
    agreements: list[Agreement] = [] if agreement is None else [agreement]
    use = _use(out.name, model)

    with files.replacing_folder(out, ours=WRITTEN.__contains__) as folder:
        (folder / MARK).touch()
        state = weights.state_of(encoder)
        saved = safetensors.torch.save(state, {"format": "pt"})
        files.write(folder / "model.safetensors", saved)
        files.write_json(folder / "config.json", _config(encoder, model))
        files.write_json(folder / "preprocessor_config.json", _preprocessor(encoder))
        save_encoder(folder, encoder.network, asdict(encoder.preprocessing))
        files.write_json(folder / "run.json", _without_paths(record))
        for name in (*PICTURES, "metrics.jsonl"):
            content = _own(run / name)
            if content is not None:
                files.write(folder / name, content)
        text = _front(record, license, model) + _card(readme, folder, use)
        files.write(folder / "README.md", text.encode())
        again = Encoder.load(folder, device="cpu", precision="fp32")
        backbone = again.network.backbone
        agreements.append(weights.agreement_of(encoder, backbone, images).check("the folder"))
    pushed = None
    if push is not None:
        request.progress.update(f"uploading to {push}")
        pushed = f"{PREFIX}{push}@{upload.upload(out, push, WRITTEN - {MARK})}"
    return {
        "pushed": pushed,
        "agreement": max(agreements, key=lambda found: found.max_difference),
        "library": "maskcon" if model is None else "timm",
        "files": sorted(str(path) for path in out.iterdir() if not path.name.startswith(".")),
        "load": f'import maskcon\nencoder = maskcon.Encoder.load("{out}")',
    }


def _own(path: Path) -> bytes | None:
    """The content of a file of the run; None where there is none, or a link to one elsewhere."""
    return path.read_bytes() if path.is_file() and not path.is_symlink() else None


def _config(encoder: Encoder, model: str | None) -> dict[str, Any]:
    """The configuration of timm where it has the network; what maskcon says in any case."""
    own = {**describe(encoder), "weights": "model.safetensors has the backbone alone"}
    if model is not None:
        return {**timm_file.config(encoder, model), "maskcon": own}
    return {"model_type": "maskcon", "hidden_size": encoder.width, "maskcon": own}


def _preprocessor(encoder: Encoder) -> dict[str, Any]:
    """The fields of an image processor that does to a picture what an evaluation does."""
    size = encoder.preprocessing.image_size
    return {
        "image_processor_type": "ViTImageProcessor",  # which resizes to a square, not cropping
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"height": size, "width": size},
        "resample": BILINEAR,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(encoder.preprocessing.mean),
        "image_std": list(encoder.preprocessing.std),
    }


def _without_paths(record: Mapping[str, Any]) -> dict[str, Any]:
    """A run's record as it may be published: no path of the machine that it was made on."""
    return {
        name: _nameless(value)
        for name, value in record.items()
        if name not in ("command", "error", "resumed")  # which tell of the machine alone
    }


def _nameless(value: Any) -> Any:
    """The same with the last name alone of each absolute path in it."""
    if isinstance(value, dict):
        return {_nameless(name): _nameless(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_nameless(part) for part in value]
    if isinstance(value, str) and (Path(value).is_absolute() or PureWindowsPath(value).drive):
        return PureWindowsPath(value).name or "data"
    return value


def _front(record: Mapping[str, Any], license: str, model: str | None) -> str:
    """The YAML at the head of the card; JSON's scalars are YAML's too."""
    config, results = record["config"], record["results"]
    data = _nameless(record["data"]["name"])

    def text(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False)

    tags = ["maskcon", TASK, "fine-grained", "coarse-labels", config["method"]]
    if model is not None:
        tags.append("timm")
    name = f"{config['backbone']} trained on {data} with {config['method']}"
    metrics = [
        f"    - type: recall\n      name: {text(key)}\n      value: {value:.6f}"
        for key, value in results.items()
        if key.startswith("recall@") and isinstance(value, int | float)
    ]
    return "\n".join(
        [
            "---",
            f"license: {text(license.strip())}",
            f"library_name: {'maskcon' if model is None else 'timm'}",
            f"pipeline_tag: {TASK}",
            "tags:",
            *(f"- {text(tag)}" for tag in dict.fromkeys(tags)),
            "metrics:",
            "- recall",
            "model-index:",
            f"- name: {text(name)}",
            "  results:",
            f"  - task:\n      type: {TASK}",
            f"    dataset:\n      type: {text(data)}\n      name: {text(data)}",
            "      split: test",
            "    metrics:",
            *metrics,
            "---",
            "",
            "",
        ]
    )


def _card(readme: bytes, folder: Path, use: str) -> str:
    """The run's own card, without pictures that are not there, and with how to use the folder."""
    text = readme.decode(errors="replace").partition(card.USE)[0]
    kept = [
        line
        for line in text.splitlines()
        if not line.startswith("![") or (folder / line.rpartition("(")[2].rstrip(")")).exists()
    ]
    return "\n".join(kept).rstrip() + "\n\n" + use


def _use(name: str, model: str | None) -> str:
    text = card.usage(name)
    if model is not None:
        text += (
            "\ntimm gives the same features, before they are scaled to unit length:\n\n"
            "```python\nimport timm\n\n"
            f'network = timm.create_model("local-dir:{name}", pretrained=True, num_classes=0)\n'
            "data = timm.data.resolve_model_data_config(network)\n"
            "transform = timm.data.create_transform(**data)  # of Pillow images\n```\n"
        )
    return text
