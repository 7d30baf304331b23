"""Networks of open_clip, which put words beside pictures: both sides, from the files of the hub.

A repository or a folder holds such a network if it has open_clip's own description of it. What a
head makes of its vectors, or training of its weights, has no text side any more.
"""

import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from maskcon.config import similar
from maskcon.errors import InputError
from maskcon.model.fetching import kept_alone
from maskcon.model.libraries import library
from maskcon.model.network import Architecture, Network
from maskcon.model.recommended import RECOMMENDED
from maskcon.runtime.device import without_memory
from maskcon.runtime.files import parse_json

PREFIX = "open_clip/"
CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
FILES = (CONFIG, WEIGHTS, *TOKENIZER)
EXTRA = "pip install 'maskcon[words]'"
USUAL = f"{PREFIX}ViT-B-32@openai"  # the smallest of OpenAI's
OWN_CODE = "trust_remote_code"  # with which transformers would run code of the files


class ImageSide(nn.Module):
    """The part of a network that takes images."""

    def __init__(self, visual: nn.Module):
        super().__init__()
        self.visual = visual

    def forward(self, images: Tensor) -> Tensor:
        """Images [N, 3, S, S] -> vectors [N, F], beside which those of words lie."""
        made = self.visual(images)
        vectors: Tensor = made[0] if isinstance(made, tuple) else made  # CoCa's tokens follow
        return vectors


class TextSide:
    """The part of a network that takes words.

    Args:
        folder: as `is_one` knows it.
        device: where it computes, in float32.

    Raises:
        InputError: it is damaged, or a package or a file that its tokenizer needs is missing.
    """

    def __init__(self, folder: Path, device: torch.device):
        try:
            self._tokenizer = _tokenizer(folder)
            model: Any = _whole(folder)
        except InputError:
            raise
        except Exception as error:  # a damaged file can raise anything
            raise InputError(f"the text side in {folder} is damaged: {str(error)[:300]}") from error
        del model.visual
        self._model, self._device = model.to(device), device

    @torch.inference_mode()
    def embed(self, words: Sequence[str]) -> np.ndarray:
        """Vectors of texts: float32 [n, F], unit length; of a long text the beginning counts."""
        vectors = self._model.encode_text(self._tokenizer([*words]).to(self._device))
        found: np.ndarray = nn.functional.normalize(vectors.float(), dim=1).cpu().numpy()
        return found


def is_one(folder: Path) -> bool:
    """Whether a folder has such a network, and no encoder of maskcon's."""
    return (folder / CONFIG).is_file() and not (folder / "encoder.json").exists()


def is_called(run: object) -> bool:
    """Whether something is called as these networks are, open_clip/MODEL@WEIGHTS, and no path."""
    return str(run).startswith(PREFIX) and not Path(str(run)).exists()


def repository(name: str) -> str:
    """Where a network of open_clip's lies: hf:OWNER/NAME.

    Args:
        name: open_clip/MODEL@WEIGHTS, both as open_clip calls them.

    Raises:
        InputError: open_clip is not installed, or has no such network or weights.
    """
    table = _open_clip().pretrained
    model, _, weights = name.removeprefix(PREFIX).partition("@")
    tags = table.list_pretrained_tags_by_model(model)
    if not tags:
        models = sorted({model for model, _ in table.list_pretrained()})
        raise InputError(f"open_clip has no network {model!r}{similar(model, models)}")
    place = table.get_pretrained_cfg(model, weights).get("hf_hub", "") if weights in tags else ""
    if not place.endswith("/"):
        alone = [tag for tag in tags if table.get_pretrained_cfg(model, tag)["hf_hub"][-1:] == "/"]
        raise InputError(
            f"{name} does not say which weights: expected {PREFIX}{model}@WEIGHTS, where WEIGHTS "
            f"is one of {', '.join(alone) or 'none that have a repository of their own'}"
        )
    return f"hf:{place.removesuffix('/')}"


def load(folder: Path) -> tuple[Network, dict[str, Any]]:
    """The image side of a network as an encoder, and what an encoder.json would say of it.

    Raises:
        InputError: open_clip is not installed, or the files do not fit each other.
    """
    model: Any = _whole(folder)
    how, width = model.visual.preprocess_cfg, int(_described(folder)["model_cfg"]["embed_dim"])
    size = how["size"]
    if not isinstance(size, int) and len(set(size)) == 1:
        size = size[0]
    architecture = Architecture(
        backbone=PREFIX + _called(folder), stem="large", heads=(), projection=1, classes=1
    )
    network = Network(architecture, made=(ImageSide(model.visual), width))
    described = {"image_size": size, "mean": [*how["mean"]], "std": [*how["std"]]}
    return network, {"architecture": network.describe(), "feature": width, **described}


def none_of(network: Network, source: str) -> str:
    """That an encoder has no text side, why, and which network has one.

    Args:
        network: of the encoder.
        source: what people know it as.
    """
    architecture = network.architecture
    same = (one for one in RECOMMENDED.values() if one.name == architecture.backbone and one.words)
    whole = next((one.words for one in same), "")
    why = f"the encoder of {source} has no text side"
    if whole:
        why += f": it is the image side of {whole} alone"
    if architecture.head is not None:
        why += ", and what a head was trained to say lies beside no words"
    return (
        f"{why}; to look for words, index the pictures with a network that has one, itself: "
        f"maskcon index {whole or USUAL} PICTURES -o INDEX --download ({EXTRA}; `maskcon "
        "backbones` lists others)"
    )


def _open_clip() -> Any:
    try:
        return library("open_clip")
    except ImportError as error:
        raise InputError(
            f"networks with a text side need open_clip, which cannot be imported ({error}): {EXTRA}"
        ) from error


def _called(folder: Path) -> str:
    """What people know a folder as: the repository of one in the hub's cache."""
    inside = re.fullmatch(r"models--(.+)", folder.absolute().parent.parent.name)
    return inside[1].replace("--", "/") if inside else folder.absolute().name


def _described(folder: Path) -> dict[str, Any]:
    """open_clip's description of a network, in which nothing may run code.

    Raises:
        InputError: something would.
    """
    text = (folder / CONFIG).read_text(encoding="utf-8")
    if OWN_CODE in text:
        raise InputError(f"{folder / CONFIG} asks for {OWN_CODE}: code of others is never run")
    described: dict[str, Any] = parse_json(text)
    return described


def _whole(folder: Path) -> nn.Module:
    """Both sides, in evaluation mode.

    Raises:
        InputError: open_clip or the weights are missing, or these are fewer than is described.
    """
    open_clip, weights = _open_clip(), folder / WEIGHTS
    _described(folder)
    if not weights.is_file():
        raise InputError(f"{folder} has a {CONFIG} and no {WEIGHTS}: give a folder with both")
    name = f"local-dir:{folder}"
    with _quietly(), torch.random.fork_rng(devices=[]):
        with without_memory():  # as large as it says: has the file as many numbers?
            empty = open_clip.create_model(name, load_weights=False, device="meta")
        count = sum(value.numel() for value in empty.state_dict().values())
        if count > weights.stat().st_size:
            raise InputError(f"{weights} has fewer than the {count:,} weights of {CONFIG}")
        made: nn.Module = open_clip.create_model(name).eval()
    return made


def _tokenizer(folder: Path) -> Any:
    """What makes numbers of words: open_clip's own, or that of the folder."""
    own = _described(folder)["model_cfg"]["text_cfg"].get("hf_tokenizer_name")
    if own and find_spec("transformers") is None:
        raise InputError(
            f"the tokenizer of {_called(folder)} is one of transformers, which is not installed: "
            f"pip install transformers; or index with {USUAL}, whose tokenizer open_clip brings"
        )
    if own and not (folder / TOKENIZER[0]).is_file():
        raise InputError(
            f"{folder} has no {TOKENIZER[0]}: put the network's beside its weights; from the hub, "
            "hf:OWNER/NAME with --download brings it"
        )
    with _quietly():
        return _open_clip().get_tokenizer(f"local-dir:{folder}")


@contextmanager
def _quietly() -> Iterator[None]:
    """Let open_clip look among the files on this machine, without its log."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), kept_alone():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
