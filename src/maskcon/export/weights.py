"""The backbone's weights alone, under the names of the library that it comes from."""

import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from maskcon.encoder import Encoder
from maskcon.errors import InputError
from maskcon.export import Request
from maskcon.export.agreement import Agreement, vectors_of
from maskcon.export.describe import describe
from maskcon.model import timm_network
from maskcon.model.libraries import is_resnet, library
from maskcon.model.network import Network
from maskcon.model.own import OWN
from maskcon.runtime import files


def state_of(encoder: Encoder) -> dict[str, Tensor]:
    """The backbone's tensors by their own names, contiguous, on the processor."""
    state = encoder.network.backbone.state_dict()
    # cloned: a file of safetensors refuses tensors that share their memory
    return {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in state.items()
    }


def write_state(
    path: Path, state: dict[str, Tensor], facts: dict[str, Any], load: str
) -> dict[str, Any]:
    """Write weights, and beside them a .json that says what they are and how to load them."""
    described = {**facts, "load": load.splitlines()}
    text = {
        key: value if isinstance(value, str) else json.dumps(value) for key, value in facts.items()
    }
    content = safetensors.torch.save(state, {"format": "pt", **text})
    with files.together(told_by_last=True) as new:
        new.write(path, content)
        new.write_json(path.with_suffix(".json"), described)
    # from where a person is, not from beside the file
    here = load
    for file in (path, path.with_suffix(".json")):
        here = here.replace(f'"{file.name}"', f'"{file}"')
    return {"bytes": len(content), "load": here}


def write(request: Request) -> dict[str, Any]:
    """Write the backbone's weights, after seeing that a new backbone takes them.

    Args:
        request: the encoder, and pictures to compare on. Beside the file comes a .json.

    Returns:
        "agreement", "bytes" and "load": Python that loads it.

    Raises:
        InputError: a new backbone does not give the same vectors.
    """
    encoder, out = request.encoder, request.out
    architecture = encoder.network.architecture
    state = state_of(encoder)
    backbone = Network(architecture).backbone
    backbone.load_state_dict(state)
    agreement = agreement_of(encoder, backbone, request.images).check("the new backbone")
    facts = {**describe(encoder), "weights": "of the backbone alone, by its own names"}
    return {"agreement": agreement, **write_state(out, state, facts, lines(encoder, out.name))}


def agreement_of(encoder: Encoder, backbone: nn.Module, images: Tensor) -> Agreement:
    """How near another backbone's vectors are, given the same normalised input."""
    other = encoder.network.backbone
    expected = vectors_of(encoder, images)
    try:
        encoder.network.backbone = backbone.eval()
        found = vectors_of(encoder, images)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"the new backbone does not take the same images: {reason}") from error
    finally:
        encoder.network.backbone = other
    return Agreement.between(expected, found)


def lines(encoder: Encoder, file: str) -> str:
    """Python that loads the weights, without maskcon where that is possible."""
    architecture = encoder.network.architecture
    name = architecture.backbone
    load = f'network.load_state_dict(load_file("{file}"))\nnetwork.eval()'
    if architecture.composed:
        return (
            "import json\n"
            "from safetensors.torch import load_file\n"
            "from maskcon.model.network import Architecture, Network\n"
            f'described = json.load(open("{Path(file).with_suffix(".json")}"))["architecture"]\n'
            f"network = Network(Architecture.of(described)).backbone\n{load}"
        )
    if name in OWN:
        return (
            "from safetensors.torch import load_file\n"
            "from maskcon.model.backbones import build_backbone\n"
            f'network, width = build_backbone("{name}")\n{load}'
        )
    if name.startswith("timm/"):
        made = timm_network.spelled(name.removeprefix("timm/"), architecture.image_size)
        return f"import timm\nfrom safetensors.torch import load_file\nnetwork = {made}\n{load}"
    model = name.removeprefix("torchvision/")
    steps = [
        "import torch, torchvision",
        "from safetensors.torch import load_file",
        f'network = torchvision.models.get_model("{model}", weights=None)',
        f'network.set_submodule("{_classifier(model)}", torch.nn.Identity())',
    ]
    if architecture.stem == "small" and is_resnet(encoder.network.backbone):
        steps += SMALL_STEM
    return "\n".join([*steps, load])


SMALL_STEM = (
    "network.conv1 = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False)",
    "network.maxpool = torch.nn.Identity()",
)


def _classifier(model: str) -> str:
    """Name of the last linear layer of a classifier of torchvision."""
    with torch.device("meta"):
        network = library("torchvision").models.get_model(model, weights=None)
    return [n for n, module in network.named_modules() if isinstance(module, nn.Linear)][-1]
