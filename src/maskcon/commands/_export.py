"""An encoder, or groups, for other programs."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maskcon.commands.sources import (
    find_set,
    inputs_of,
    name_of,
    own_data,
    own_split,
    resolved,
    tell_of,
)
from maskcon.config import READING_FIELDS, reading, similar
from maskcon.data import Found, hold
from maskcon.data.sets import glyphs
from maskcon.encoder import Encoder
from maskcon.errors import InputError
from maskcon.export import Request, Target, labels, place, targets
from maskcon.model.hub import located, writable
from maskcon.runs import folder as runs
from maskcon.runtime.files import check_apart
from maskcon.runtime.progress import Progress, follower
from maskcon.vectors.store import Store

COMPARED = 64  # pictures that an export is compared with the encoder on


def export(
    run: str | Path,
    *,
    to: str,
    out: str | Path | None = None,
    data: str | Path | Found | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Write a run's encoder, or a folder of groups, in a form that other programs read.

    What holds the encoder is compared with it in float32 before it is kept, on pictures of the
    data's test split; on drawn characters where it cannot be found.

    Args:
        run: a run folder, hf:OWNER/NAME[@REVISION], or any folder with encoder.safetensors and
            encoder.json; the folder
            that `discover` wrote for "label-studio", "cvat" and "fiftyone".
        to: "onnx", "safetensors", "hf", "timm", "atlas", "label-studio", "cvat", "fiftyone", or
            what an installed package adds: see `maskcon.export.targets`.
        out: the file or folder; by default one with a name of its own in `run`.
        data: pictures of the table of "atlas", or to compare on; by default the run's own.
        overwrite: replace an earlier export.
        progress: told how it goes.
        options: how to read the data, fields `READING_FIELDS` of Config; device, for "atlas";
            and those of the form: license, push ("hf"); projection, neighbours, thumbnail, vectors,
            seed ("atlas"); root ("label-studio", "cvat").

    Returns:
        "to", "out", "files"; of compared forms "agreement" (`maskcon.export.agreement.
        Agreement`) and "compared_on"; and what the form has to say, such as "load", Python
        that loads it.

    Raises:
        InputError: something given cannot be used, a package is missing, the form cannot hold
            this network, or it does not agree with the encoder. Nothing was written.
        TrainingError: the disk is full or read-only.
    """
    progress = follower(progress)
    target = _target(to)
    own, options = _split(to, target, options)
    asked = None if out is None else Path(out)
    if target.of == "groups":
        return _hand_over(to, target, Path(run), asked, overwrite, own, data, options)
    compared = target.of == "encoder"
    device = None if compared else own.pop("device", "auto")
    at = located(run, download=options.get("download") or False)
    encoder, folder = _encoder(writable(at, out, "an export"), device)
    with ExitStack() as stack:
        stack.callback(progress.close)
        paths = stack.enter_context(place.settled(target, folder, asked, overwrite=overwrite))
        check_apart(paths, [data] if isinstance(data, str | Path) else [])
        known = runs.read(folder)["config"] if data is None and not compared else {}
        images, compared_on = torch.empty(0), ""
        if compared:
            images, compared_on = _pictures(encoder, folder, data, options, paths, progress)
        request = Request(
            encoder,
            folder,
            paths[0],
            images,
            find=lambda: _find(folder, data, options, paths, progress, download=True),
            skip_unreadable=options.get("skip_unreadable", known.get("skip_unreadable", False)),
            progress=progress,
        )
        said = target.make(request, **own)
        if compared:
            said["compared_on"] = compared_on
    return {"to": to, "out": str(paths[0]), "files": [str(path) for path in paths], **said}


def _hand_over(
    to: str,
    target: Target,
    folder: Path,
    out: Path | None,
    overwrite: bool,
    own: Mapping[str, Any],
    data: object,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """Write the groups of a folder in a form of labels."""
    unused = [*(["data"] if data is not None else []), *options]
    if unused:
        raise InputError(
            f"--to {to} does not take {unused[0]}: it is of the pictures and names in "
            f"{folder / labels.TABLE}, whichever data they come from"
        )
    found = labels.read(folder)
    with place.settled(target, folder, out, overwrite=overwrite) as paths:
        said = target.make(found, paths[0], **own)
    return {"to": to, "out": str(paths[0]), **said}


def _encoder(folder: Path, device: str | None) -> tuple[Encoder, Path]:
    """The encoder, on a device in its own precision or in float32 on a processor; its folder."""
    if device is None:
        encoder = Encoder.load(folder, device="cpu", precision="fp32")
        if encoder.has_words:
            raise InputError(
                f"{folder} has a network as open_clip published it, and its own files are the ones "
                "to pass on: nothing of maskcon's has changed it"
            )
    else:
        encoder = Encoder.load(folder, device=device, store=Store())
    if not encoder.network.takes_pictures:
        raise InputError(
            f"the encoder in {folder} was trained on vectors that another model made, and takes no "
            "pictures: there is nothing to export without that model. maskcon.Encoder.load gives "
            "it vectors"
        )
    return encoder, folder


def _target(to: str) -> Target:
    known = targets()
    if to not in known:
        raise InputError(
            f"there is no target {to!r}{similar(str(to), list(known))}: choose one of "
            f"{', '.join(known)}"
        )
    return known[to]


def _split(
    to: str, target: Target, options: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of the form, and those that say how to read data; without those not given."""
    given = {name: value for name, value in options.items() if value is not None}
    own = {name for other in targets().values() for name in other.options}
    for name in given:
        if name in own and name not in target.options:
            raise InputError(
                f"--to {to} does not take {name}: it takes "
                f"{', '.join(target.options) or 'no options of its own'}"
            )
        if name not in own and name not in READING_FIELDS:
            known = [*target.options, *READING_FIELDS]
            raise InputError(
                f"unknown option {name!r}{similar(name, known)}: expected one of {', '.join(known)}"
            )
    form = {name: value for name, value in given.items() if name in own}
    return form, reading({name: value for name, value in given.items() if name not in own})


def _find(
    folder: Path,
    data: str | Path | Found | None,
    options: Mapping[str, Any],
    outputs: Sequence[Path],
    progress: Progress,
    *,
    download: bool,
) -> Found:
    """The set that was given, or the run's own, split as it was when it was trained.

    Raises:
        InputError: there is no such set, nothing says which the run's own was, or an export would
            be written to a file of it.
    """
    if data is not None:
        config = resolved({"data": name_of(data), **options}, None)
        found = find_set(config, progress, data)
    else:
        config = own_data(runs.read(folder)["config"], options)
        tell_of(config.features or config.data, folder, progress)
        config = replace(config, download=config.download and download)
        found = own_split(find_set(config, progress), folder, config, progress)
    check_apart(outputs, inputs_of(config, found))
    return found


def _pictures(
    encoder: Encoder,
    folder: Path,
    data: str | Path | Found | None,
    options: Mapping[str, Any],
    outputs: Sequence[Path],
    progress: Progress,
) -> tuple[Tensor, str]:
    """Squares to compare on, uint8 [N, 3, S, S], and what they are for people."""
    size = encoder.preprocessing.image_size
    try:
        found = _find(folder, data, options, outputs, progress, download=False)
        part = found.parts.get("test") or found.parts["train"]
        rows = np.unique(np.linspace(0, len(part) - 1, min(COMPARED, len(part))).astype(int))
        progress.update("reading pictures to compare on")
        split, _ = hold(part.take(rows), size, 1, True, progress)
        which = "test images" if "test" in found.parts else "images"
        return split.images.probe(COMPARED, size), f"{len(split)} {which} of {found.name}"
    except InputError as error:
        if data is not None:
            raise
        progress.note(f"the run's own images cannot be had ({error}); drawn characters serve")
    drawn = glyphs.make(train=1, test=COMPARED).test.images
    return drawn.probe(COMPARED, size), f"{len(drawn)} drawn characters"
