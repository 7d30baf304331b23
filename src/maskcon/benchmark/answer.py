"""From a folder of pictures to groups, a page of them and an index, beside a plain script."""

import base64
import html
import io
import pickle
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image
from torch import nn

from maskcon import commands
from maskcon.benchmark.embedding import (
    encoder_of,
    levels_of,
    pictures_of,
    processor_time,
    timed,
)
from maskcon.benchmark.sides import Comparison, Side, Turn, target
from maskcon.config import Config
from maskcon.data.images import IMAGENET_STATISTICS
from maskcon.data.readers import folder
from maskcon.errors import InputError
from maskcon.model.saved import save_encoder
from maskcon.runtime import cache
from maskcon.runtime.progress import Progress, Silent

HERE = __name__
SCRIPT = "timm + scikit-learn"
MOST = 8  # groups that the script tries in a class
SHOWN, THUMB = 8, 96  # pictures of a group on its page, and their side in pixels


def answer(
    *,
    backbone: str = "timm/tf_efficientnet_lite0",
    image_size: int = 224,
    data: str | Path | None = None,
    images: int = 512,
    threads: int = 0,
    repeats: int = 3,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Pictures per second from a folder to an answer, on a processor.

    Ours is `discover`, which writes groups and a page, and then `index`, with a store of vectors
    that is empty before each turn. The script reads, embeds with the same network, splits each
    class by k-means with the best silhouette, fits scikit-learn's exact neighbours, saves them,
    and writes a page with pictures of each group. Imports and loading are not counted.

    Args:
        backbone: of both, with random weights, as `maskcon train` takes it.
        image_size: in pixels.
        data: a folder with a folder of pictures for each class; by default JPEGs are made.
        images: how many of those.
        threads: of each side's network, and as many that read; 0 is one for each core.
        repeats: turns of each side.
        progress: told how it goes.

    Returns:
        A record, as `maskcon.benchmark` describes it, with "cpu_ms" and "cpu_ratios".

    Raises:
        InputError: an option cannot be used.
        TrainingError: a side ended with an error.
    """
    if images < 2 * MOST or threads < 0:
        raise InputError(
            f"{images} images, {threads} threads: expected {2 * MOST} or more, and 0 or more"
        )
    progress = progress or Silent()
    threads = Config(workers=threads).readers
    network: dict[str, Any] = {"backbone": backbone, "image_size": image_size}
    with tempfile.TemporaryDirectory(prefix="maskcon-") as scratch:
        place = pictures_of(data, images, Path(scratch), progress)
        saved = Path(scratch) / "encoder"
        saved.mkdir()
        encoder = encoder_of(**network)
        save_encoder(saved, encoder.network, encoder.preprocessing.described())
        common = {"root": str(place), "threads": threads}
        record, answers = Comparison(
            name="answer",
            sides=[
                Side("maskcon", f"{HERE}:ours", {**common, "encoder": str(saved)}),
                Side(SCRIPT, f"{HERE}:script", {**common, **network}),
            ],
            baselines=(SCRIPT,),
            settings={
                "data": "a folder" if data else None,
                **network,
                "images": len(_files(place)[0]),
                "threads": threads,
            },
            repeats=repeats,
            device="cpu",
            progress=progress,
        ).run()
    ratio = record["ratios"]["maskcon"][SCRIPT]
    aim = target(f"answer vs {SCRIPT}", 1.0, ratio)
    return {**record, **processor_time(answers), "targets": [aim]}


def _files(root: Path) -> tuple[list[str], np.ndarray]:
    """Pictures below a folder, and the class of each: the folder that it lies in."""
    paths, _ = folder.loose(root)
    return [str(path) for path in paths], np.array([path.parent.name for path in paths])


@contextmanager
def _empty_store() -> Iterator[Path]:
    """A folder to write to, in which nothing is known of any picture."""
    scratch = tempfile.TemporaryDirectory(prefix="maskcon-")
    own = patch.dict("os.environ", {cache.FOLDER: str(Path(scratch.name) / "vectors")})
    with scratch, own:
        yield Path(scratch.name)


def ours(*, root: str, threads: int, encoder: str) -> Turn:
    """The side "maskcon"."""
    torch.set_num_threads(threads)
    place = Path(root)

    def work() -> None:
        with _empty_store() as out:
            commands.discover(encoder, place, out=out / "groups", device="cpu", workers=threads)
            commands.index(encoder, place, out=out / "all.index", device="cpu", workers=threads)

    return timed(work, len(_files(place)[0]))


def script(*, root: str, threads: int, **network: Any) -> Turn:
    """The side of a plain script."""
    from sklearn.neighbors import NearestNeighbors

    torch.set_num_threads(threads)
    encoder = encoder_of(**network)
    mean, std = (torch.tensor(values)[:, None, None] for values in IMAGENET_STATISTICS)
    files, classes = _files(Path(root))

    @torch.inference_mode()
    def embedded(levels: np.ndarray) -> np.ndarray:
        given = (torch.from_numpy(levels) - mean) / std
        found = encoder.network.backbone(given.contiguous(memory_format=torch.channels_last))
        return nn.functional.normalize(found, dim=1).numpy()

    def work() -> None:
        batches = levels_of(files, encoder.preprocessing.image_size, threads)
        x = np.concatenate([embedded(levels) for levels in batches])
        groups = np.empty(len(x), object)
        for name in np.unique(classes):
            rows = np.flatnonzero(classes == name)
            groups[rows] = [f"{name} {g}" for g in _split(x[rows])]
        with tempfile.TemporaryDirectory(prefix="maskcon-") as out:
            neighbours = NearestNeighbors(metric="cosine").fit(x)
            Path(out, "index.pickle").write_bytes(pickle.dumps((neighbours, files, groups)))
            (Path(out) / "page.html").write_text(_page(files, groups), encoding="utf-8")

    return timed(work, len(files))


def _split(x: np.ndarray) -> np.ndarray:
    """The k-means of a class with the best silhouette, as a number for each row."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score

    best, found = -1.0, np.zeros(len(x), int)
    for count in range(2, min(MOST, len(x) - 1) + 1):
        labels = KMeans(count, n_init=10, random_state=0).fit_predict(x)
        score = silhouette_score(x, labels)
        if score > best:
            best, found = score, labels
    return found


def _page(files: Sequence[str], groups: np.ndarray) -> str:
    """A page with the first pictures of each group."""
    lines = ["<!doctype html><meta charset=utf-8>"]
    for group in np.unique(groups.astype(str)):
        lines.append(f"<h2>{html.escape(group)}</h2>")
        for row in np.flatnonzero(groups == group)[:SHOWN]:
            with Image.open(files[row]) as image:
                image.draft("RGB", (2 * THUMB, 2 * THUMB))
                small = image.convert("RGB")
            small.thumbnail((THUMB, THUMB))
            content = io.BytesIO()
            small.save(content, "JPEG")
            data = base64.b64encode(content.getvalue()).decode()
            lines.append(f'<img src="data:image/jpeg;base64,{data}">')
    return "\n".join(lines)
