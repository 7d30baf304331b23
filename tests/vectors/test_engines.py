"""Engines in PyTorch's place: the same vectors, kept apart, or a message."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn
from torch.torch_version import TorchVersion

import maskcon
from maskcon import commands
from maskcon.data.sets import glyphs
from maskcon.errors import InputError
from maskcon.model import graph
from maskcon.runtime import device
from maskcon.vectors import encode
from maskcon.vectors import file as embeddings
from maskcon.vectors.store import Store
from tests.conftest import Told, picture_tree, untrained_run


def by(backend: str) -> device.Precision:
    return device.Precision("fp32", torch.device("cpu"), backend)


def needs(backend: str) -> None:
    for package in graph.PACKAGES[backend]:
        pytest.importorskip(package)
    if TorchVersion(torch.__version__) < graph.TORCH:
        pytest.skip(f"ONNX needs torch {graph.TORCH}")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return untrained_run(tmp_path_factory.mktemp("engines") / "run", 0, image_size=80)


@pytest.mark.heavy
@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_the_same_vectors(backend, run, monkeypatch):
    """Of more pictures than go together, of one alone, and again when weights have changed."""
    needs(backend)
    made, make = [], encode.engine_of

    def counted(*given):
        made.append(given)
        return make(*given)

    monkeypatch.setattr(encode, "engine_of", counted)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(encode, "TOGETHER", 8 * 80 * 80)
    images = torch.randint(256, (29, 3, 80, 80), generator=torch.Generator().manual_seed(0))
    images = images.to(torch.uint8)
    plain = maskcon.Encoder.load(run, precision="fp32", device="cpu")
    encoder = maskcon.Encoder.load(run, precision="fp32", backend=backend)
    for given in (images, images[:8], images[:1]):
        np.testing.assert_allclose(encoder.embed(given), plain.embed(given), atol=1e-5)
    assert len(made) == 2  # eight together, and one
    with torch.no_grad():
        for parameter in encoder.network.parameters():
            parameter.mul_(1.5)
    encoder.embed(images)
    assert len(made) == 3


@pytest.mark.heavy
def test_bf16_where_the_processor_has_units_for_it(run, monkeypatch):
    """As near to float32 as PyTorch's bf16 is; by itself if precision is auto or the run's own."""
    needs("openvino")
    images = torch.randint(256, (16, 3, 80, 80), generator=torch.Generator().manual_seed(0))
    images = images.to(torch.uint8)
    exact = maskcon.Encoder.load(run, precision="fp32", device="cpu").embed(images)
    for units, precision in ((True, "bf16"), (False, "fp32")):
        for where in (device, graph):
            monkeypatch.setattr(where, "has_bf16_units", lambda device, has=units: has)
        encoder = maskcon.Encoder.load(run, backend="openvino")
        assert encoder.precision == device.Precision(precision, torch.device("cpu"), "openvino")
        own = maskcon.Encoder.load(run, precision=precision, device="cpu").embed(images)
        found, theirs = (1 - (made * exact).sum(1).min() for made in (encoder.embed(images), own))
        assert found <= max(1e-5, 2 * theirs)
    with pytest.raises(InputError, match="openvino computes in fp32 on the processor here"):
        maskcon.Encoder.load(run, backend="openvino", precision="bf16")


@pytest.mark.parametrize(("precision", "bound"), [("fp32", 1e-4), ("bf16", 2e-3)])
def test_how_far_vectors_may_be_from_pytorchs(precision, bound, monkeypatch):
    """In float32 a cosine of 0.9999, in bf16 twice as far as PyTorch's own in bf16."""
    needs("onnx")
    expected = torch.tensor([[1.0, 0.0]])

    class Rounding(nn.Module):
        def forward(self, images):
            off = 1e-3 if torch.is_autocast_enabled("cpu") else 0.0
            return expected.new_tensor([[1 - off, np.sqrt(1 - (1 - off) ** 2)]])

    def engine(off):
        vector = torch.tensor([[1 - off, np.sqrt(1 - (1 - off) ** 2)]])
        return {**graph.ENGINES, "onnx": lambda *given: lambda images: vector}

    monkeypatch.setattr(graph, "model_of", lambda *given, **options: Written())
    numbers = device.Precision(precision, torch.device("cpu"), "onnx")
    for off, refused in ((0.9 * bound, False), (1.1 * bound, True)):
        monkeypatch.setattr(graph, "ENGINES", engine(off))
        if refused:
            with pytest.raises(InputError, match=f"in {precision} are not PyTorch's: the small"):
                graph.engine_of(numbers, Rounding(), torch.rand(1, 3, 8, 8), 1)
        else:
            graph.engine_of(numbers, Rounding(), torch.rand(1, 3, 8, 8), 1)


class Written:
    """A graph of nothing."""

    def SerializeToString(self) -> bytes:  # noqa: N802 - protobuf's name
        return b""


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_a_command_and_what_is_kept(backend, run, tmp_path, own_cache):
    """Vectors of an engine are not found for those of another."""
    needs(backend)
    photos = picture_tree(tmp_path / "photos", glyphs.make(train=24, test=1).train, 90)
    how = {"backend": backend, "precision": "fp32"}
    commands.embed(run, photos, out=tmp_path / "a.npz", device="cpu", precision="fp32")
    done = [
        commands.embed(run, photos, out=tmp_path / f"{name}.npz", **how)["known"]
        for name in ("b", "c")
    ]
    assert done == [0, 24]
    a, b = (embeddings.read(tmp_path / f"{name}.npz").vectors for name in "ab")
    np.testing.assert_allclose(b, a, atol=1e-5)
    names = sorted(lot.source.name for lot in Store().lots())
    assert [name.endswith(f"by {backend}") for name in names] == [False, True]
    told = Told()
    commands.index(run, photos, out=tmp_path / "x.index", **how, progress=told)
    assert "24 of 24 vectors are known from before" in told.notes


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="cores of a thread are Linux's")
def test_no_thread_is_tied_to_a_core():
    """Two processes would tie theirs to the same one, and one waits there beside what is busy."""
    needs("openvino")
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten()).eval()
    images = torch.randn(2, 3, 8, 8)
    run = graph.engine_of(by("openvino"), network, images, 2)
    run(images)
    allowed = os.sched_getaffinity(0)
    tasks = [int(task.name) for task in Path("/proc/self/task").iterdir()]
    assert all(os.sched_getaffinity(task) == allowed for task in tasks)


def test_a_run_whose_vectors_an_engine_made(tmp_path, own_cache):
    """What follows takes the same engine by itself, and finds the vectors."""
    needs("onnx")
    photos = tmp_path / "photos"
    data = glyphs.make(train=48, test=16)
    for part in ("train", "test"):
        picture_tree(photos / part, getattr(data, part), 90)
    weights = timm.create_model("test_efficientnet", num_classes=0).state_dict()
    save_file(weights, tmp_path / "w.safetensors")
    tiny = {"epochs": 1, "batch_size": 16, "bank_size": 32, "components": 8, "head_hidden": 8}
    about = commands.train(
        data=photos,
        out=tmp_path / "run",
        recipe="frozen",
        backend="onnx",
        backbone="timm/test_efficientnet",
        image_size=80,
        init=str(tmp_path / "w.safetensors"),
        warmup_epochs=0,
        **tiny,
    )
    assert about["config"]["backend"] == "onnx"
    assert about["precision"] == "fp32"  # with which it can go on, whatever auto means here
    (lot,) = Store().lots()
    assert lot.source.name.endswith("by onnx")
    assert lot.pictures == 64
    told = Told()
    commands.eval(tmp_path / "run", progress=told)
    assert "16 of 16 vectors are known from before" in told.notes
    for more, known in (({}, 64), ({"backend": "torch"}, 0), ({"precision": "bf16"}, 0)):
        out = tmp_path / f"{len(more)}{known}.npz"
        done = commands.embed(tmp_path / "run", photos, out=out, overwrite=True, **more)
        assert done["known"] == known
    with pytest.raises(InputError, match="--backend has no effect: no vectors of a frozen"):
        commands.train(data=photos, out=tmp_path / "x", backend="onnx", method="maskcon")


def test_without_the_engine_of_a_run_torch_stands_in(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert graph.computing("fp32", own_backend="onnx").backend == "torch"
    assert graph.computing("fp32", own_backend="nonsense").backend == "torch"


def test_what_cannot_be_had(run, monkeypatch):
    for options, message in (
        ({"backend": "tensorrt"}, "expected torch, onnx, openvino"),
        ({"backend": "onnx", "precision": "bf16"}, "computes in fp32 on the processor"),
        ({"backend": "openvino", "device": "cuda"}, "computes in fp32"),
    ):
        with pytest.raises(InputError, match=message):
            maskcon.Encoder.load(run, **options)
    for backend, package in (("onnx", "onnxruntime"), ("openvino", "openvino")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(InputError, match=rf"maskcon\[{backend}\]|PyTorch 2.7 or newer"):
            maskcon.Encoder.load(run, backend=backend)


def test_other_vectors_are_refused(monkeypatch):
    needs("onnx")
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    wrong = {**graph.ENGINES, "onnx": lambda *given: lambda images: torch.rand(len(images), 4)}
    monkeypatch.setattr(graph, "ENGINES", wrong)
    with pytest.raises(
        InputError, match="in fp32 are not PyTorch's: the smallest cosine of 2 images"
    ):
        graph.engine_of(by("onnx"), network, torch.rand(2, 3, 8, 8), 1)
