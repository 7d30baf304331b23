"""From picture files to vectors, beside timm, onnxruntime and OpenVINO on the same network."""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from maskcon.benchmark.loader import photographs
from maskcon.benchmark.sides import Comparison, Side, Turn, target
from maskcon.config import Config
from maskcon.data.images import IMAGENET_STATISTICS
from maskcon.data.pictures import Files
from maskcon.data.readers import folder
from maskcon.encoder import Encoder
from maskcon.errors import InputError
from maskcon.export import onnx_file
from maskcon.model.graph import PACKAGES as BACKEND_PACKAGES
from maskcon.model.graph import UNPINNED, computing
from maskcon.model.network import Architecture, Network
from maskcon.model.preprocessing import Preprocessing
from maskcon.runtime.device import Precision, pick_device
from maskcon.runtime.progress import Progress, Silent
from maskcon.vectors.encode import encode, of_pictures

PLAIN_BATCH = 8  # images, of the sides beside ours: as many as a core's caches hold
HERE = __name__
SIDES = {
    "maskcon": "maskcon embed, as it comes",
    "maskcon onnx": "maskcon embed --backend onnx",
    "maskcon openvino": "maskcon embed --backend openvino",
    "timm fp32": "the network as it is, in float32",
    "timm bf16": "the network as it is, in bfloat16",
    "onnxruntime": "the network as an ONNX graph",
    "OpenVINO": "the same graph",
}
PACKAGES = {
    **{f"maskcon {backend}": packages for backend, packages in BACKEND_PACKAGES.items()},
    "onnxruntime": ("onnx", "onnxscript", "onnxruntime"),
    "OpenVINO": ("openvino",),
}


def embedding(
    *,
    sides: Sequence[str] = (),
    backbone: str = "timm/tf_efficientnet_lite0",
    image_size: int = 224,
    data: str | Path | None = None,
    images: int = 512,
    threads: int = 0,
    repeats: int = 5,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Pictures per second from JPEG files to vectors, on a processor.

    Every side reads the same files and runs the same network, with random weights. Those beside
    ours read with Pillow, in threads while the network runs, and take 8 images at a time.

    Args:
        sides: names in `SIDES`; by default those whose packages are installed.
        backbone: as `maskcon train` takes it.
        image_size: in pixels.
        data: a folder of pictures; by default JPEGs of 700 x 480 are made.
        images: how many of them.
        threads: of each side's network, and as many that read; 0 is one for each core.
        repeats: turns of each side.
        progress: told how it goes.

    Returns:
        A record, as `maskcon.benchmark` describes it, with "cpu_ms", {side: milliseconds of
        processor time an image}, and "cpu_ratios", {side: how often ours goes into it}.

    Raises:
        InputError: an option cannot be used, or a package is missing.
        TrainingError: a side ended with an error.
    """
    sides = sides or [name for name in SIDES if not _missing(name)]
    _check(sides, images, threads)
    progress = progress or Silent()
    threads = Config(workers=threads).readers
    network: dict[str, Any] = {"backbone": backbone, "image_size": image_size}
    with tempfile.TemporaryDirectory(prefix="maskcon-") as scratch:
        place = pictures_of(data, images, Path(scratch), progress)
        graph = ""
        if {"onnxruntime", "OpenVINO"} & {*sides}:
            progress.update("exporting the graph")
            graph = str(Path(scratch) / "network.onnx")
            Path(graph).write_bytes(onnx_file.graph(encoder_of(**network)))
        common = {"root": str(place), "images": images, "threads": threads, **network}
        record, answers = Comparison(
            name="embed",
            sides=[_side(name, common, graph) for name in SIDES if name in sides],
            baselines=tuple(n for n in SIDES if n in sides and not n.startswith("maskcon")),
            settings={
                "data": "a folder" if data else None,
                **network,
                "images": images,
                "threads": threads,
            },
            repeats=repeats,
            device="cpu",
            progress=progress,
        ).run()
    return {**record, **processor_time(answers), "targets": _targets(record)}


def pictures_of(data: str | Path | None, images: int, scratch: Path, progress: Progress) -> Path:
    """The folder of pictures that is given, or one of so many JPEGs that are made."""
    if data is not None:
        return Path(data)
    progress.update(f"making {images:,} JPEGs")
    photographs(scratch / "set", images, 700, 480)
    return scratch / "set"


def processor_time(answers: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, float]]:
    """Of each side, milliseconds an image; and how often ours goes into them, round by round."""
    spent = {n: [1e3 * t["cpu"] / t["count"] for t in turns] for n, turns in answers.items()}
    found = {"cpu_ms": {name: statistics.median(values) for name, values in spent.items()}}
    if "maskcon" in spent:
        found["cpu_ratios"] = {
            name: statistics.median(a / b for a, b in zip(values, spent["maskcon"], strict=True))
            for name, values in spent.items()
        }
    return found


def _targets(record: dict[str, Any]) -> list[dict[str, Any]]:
    ratios = record["ratios"].get("maskcon", {})
    return [target("embed vs the best beside it", 1.0, min(ratios.values()))] if ratios else []


def _missing(side: str) -> list[str]:
    """Packages that a side needs and that are not there."""
    return [name for name in PACKAGES.get(side, ()) if find_spec(name) is None]


def _check(sides: Sequence[str], images: int, threads: int) -> None:
    unknown = [name for name in sides if name not in SIDES]
    if unknown:
        raise InputError(f"sides are {list(sides)}: expected some of {', '.join(SIDES)}")
    for side in sides:
        if missing := _missing(side):
            raise InputError(f"the side {side!r} needs {missing[0]}: pip install {missing[0]}")
    if images < 1 or threads < 0:
        raise InputError(f"{images} images, {threads} threads: expected 1 or more, and 0 or more")


def _side(name: str, common: dict[str, Any], graph: str) -> Side:
    if name.startswith("maskcon"):
        backend = name.removeprefix("maskcon").strip() or "torch"
        return Side(name, f"{HERE}:ours", {**common, "backend": backend})
    if name.startswith("timm"):
        return Side(name, f"{HERE}:plain", {**common, "precision": name.removeprefix("timm ")})
    make = "onnx_graph" if name == "onnxruntime" else "openvino_graph"
    return Side(name, f"{HERE}:{make}", {**common, "graph": graph})


def encoder_of(backbone: str, image_size: int, backend: str = "torch") -> Encoder:
    """An encoder with random weights, the same in every process, run by a backend."""
    shape = Architecture(
        backbone=backbone, stem="large", heads=(), projection=1, classes=1, image_size=image_size
    )
    torch.manual_seed(0)
    network = Network(shape)
    preprocessing = Preprocessing(image_size, *IMAGENET_STATISTICS)
    network.to(memory_format=torch.channels_last)
    return Encoder(network, preprocessing, computing("auto", device="cpu", backend=backend))


def _files(root: str, images: int) -> list[str]:
    paths, _ = folder.loose(Path(root))
    return [str(path) for path in paths][:images]


def timed(work: Callable[[], Any], count: int) -> Turn:
    """A turn with its processor time, that of all threads."""
    work()  # warm

    def turn() -> dict[str, float]:
        start, cpu = time.perf_counter(), time.process_time()
        work()
        spent = time.process_time() - cpu
        return {"count": count, "seconds": time.perf_counter() - start, "cpu": spent}

    return turn


def ours(*, root: str, images: int, threads: int, **network: Any) -> Turn:
    """The sides "maskcon", each with a backend."""
    torch.set_num_threads(threads)
    encoder, pictures = encoder_of(**network), Files(_files(root, images))
    size = encoder.preprocessing.image_size

    def work() -> None:
        batches = of_pictures(pictures, size=size, threads=threads, batch_size=256)
        for made in encode(
            encoder.network.backbone,
            batches,
            encoder.preprocessing,
            encoder.precision,
            count=len(pictures),
        ):
            nn.functional.normalize(made.features, dim=1)

    return timed(work, len(pictures))


def levels_of(files: Sequence[str], size: int, threads: int) -> Iterator[np.ndarray]:
    """Batches float32 [n, 3, S, S] of levels 0..1, read by threads ahead of whoever asks."""

    def read(path: str) -> np.ndarray:
        with Image.open(path) as image:
            small = image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
        return np.asarray(small, np.float32).transpose(2, 0, 1) / 255

    with ThreadPoolExecutor(threads) as pool:
        read_ahead = pool.map(read, files)
        for start in range(0, len(files), PLAIN_BATCH):
            count = min(PLAIN_BATCH, len(files) - start)
            yield np.stack([next(read_ahead) for _ in range(count)])


def _beside(
    run: Callable[[np.ndarray], Any], root: str, images: int, size: int, threads: int
) -> Turn:
    files = _files(root, images)

    def work() -> None:
        for levels in levels_of(files, size, threads):
            run(levels)

    return timed(work, len(files))


def plain(*, root: str, images: int, threads: int, precision: str, **network: Any) -> Turn:
    """The sides "timm": the network called on batches."""
    torch.set_num_threads(threads)
    encoder = encoder_of(**network)
    mean, std = (torch.tensor(values)[:, None, None] for values in IMAGENET_STATISTICS)

    @torch.inference_mode()
    def run(levels: np.ndarray) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            given = (torch.from_numpy(levels) - mean) / std
            feature = encoder.network.backbone(given.contiguous(memory_format=torch.channels_last))
        return nn.functional.normalize(feature.float(), dim=1)

    return _beside(run, root, images, network["image_size"], threads)


def onnx_graph(*, root: str, images: int, threads: int, graph: str, **network: Any) -> Turn:
    """The side "onnxruntime"."""
    torch.set_num_threads(threads)
    run = onnx_file.session(Path(graph).read_bytes())
    return _beside(
        lambda levels: run(torch.from_numpy(levels)), root, images, network["image_size"], threads
    )


def openvino_graph(*, root: str, images: int, threads: int, graph: str, **network: Any) -> Turn:
    """The side "OpenVINO"."""
    import openvino

    numbers = "bf16" if Precision.pick("auto", pick_device("cpu")).name == "bf16" else "f32"
    own = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": numbers}
    options = {**own, **UNPINNED}  # as our backend has it, so that all are alike beside others
    request = openvino.Core().compile_model(graph, "CPU", options).create_infer_request()
    return _beside(
        lambda levels: request.infer([levels])[0], root, images, network["image_size"], threads
    )
