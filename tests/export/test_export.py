"""Exports say what the encoder says, read back by the libraries that they are for."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import safetensors.torch
import timm
import torch
from click.testing import CliRunner
from PIL import Image
from torch import nn
from torch.torch_version import TorchVersion

import maskcon
from maskcon import commands
from maskcon.cli import cli
from maskcon.data import from_arrays
from maskcon.data.sets import glyphs
from maskcon.errors import InputError
from maskcon.export import TARGETS, agreement
from maskcon.export.agreement import Agreement
from maskcon.model import graph as onnx_graph
from maskcon.model.backbones import build_backbone, load_backbone_weights
from maskcon.model.network import Architecture, Network
from maskcon.model.preprocessing import Preprocessing
from maskcon.model.saved import save_encoder
from tests.conftest import write_tree


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """A folder tree of a few glyphs."""
    folder = tmp_path_factory.mktemp("private") / "glyphs"
    write_tree(folder, glyphs.make(train=90, test=40))
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory, pictures) -> Path:
    """A finished run on them; nothing but exports may be written to it."""
    folder = tmp_path_factory.mktemp("runs") / "x"
    options = {"backbone": "resnet10w16", "image_size": 16, "epochs": 1, "batch_size": 16}
    commands.train(data=str(pictures), out=folder, bank_size=64, warmup_epochs=0, **options)
    return folder


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (7, 20, 30, 3), dtype=np.uint8)


def untrained(folder: Path, backbone: str, stem: str = "small", size: int = 32) -> Path:
    """A folder with an encoder of random weights and statistics, and no run."""
    torch.manual_seed(0)
    network = Network(
        Architecture(backbone=backbone, stem=stem, heads=("z",), projection=8, classes=2)
    )
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    folder.mkdir(exist_ok=True)
    preprocessing = Preprocessing(size, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
    save_encoder(folder, network, preprocessing.described())
    return folder


def headed(folder: Path, backbone: str = "resnet10w16") -> Path:
    """The same with a head on the vectors of a frozen backbone, or on vectors alone."""
    from maskcon.model.residual_head import HeadShape

    torch.manual_seed(0)
    layers = 0 if backbone == "vectors" else 2  # recipe frozen takes two
    parts = (64, 128, 128)[2 - layers :]
    third = {"belief": 0.5, "classes": 3}
    shape = HeadShape(parts=parts, components=16, hidden=32, scale=1.0, **third)
    told = {"heads": ("z",), "projection": 8, "classes": 2, "layers": layers, "head": shape}
    network = Network(Architecture(backbone=backbone, stem="small", **told))
    vectors = torch.rand(64, shape.inputs)
    network.backbone.head.fit(vectors, vectors.mean(0), vectors.std(0))
    nn.init.normal_(network.backbone.head.residual[-1].weight, std=0.1)
    folder.mkdir()
    preprocessing = Preprocessing(32, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
    save_encoder(folder, network, preprocessing.described())
    return folder


def encoder_of(folder: Path) -> maskcon.Encoder:
    return maskcon.Encoder.load(folder, device="cpu", precision="fp32")


def executed(code: str, encoder: maskcon.Encoder, images: np.ndarray) -> np.ndarray:
    """Vectors of the `network` that some code makes, without anything of maskcon."""
    names: dict = {}
    exec(code, names)
    preprocessing = encoder.preprocessing
    size = (preprocessing.image_size,) * 2
    squares = [Image.fromarray(i).resize(size, Image.Resampling.BILINEAR) for i in images]
    levels = torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (preprocessing.mean, preprocessing.std))
    with torch.no_grad():
        feature = names["network"]((levels - mean) / std)
    return nn.functional.normalize(feature, dim=1).numpy()


# ONNX


def needs_onnx() -> None:
    for package in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(package)
    if TorchVersion(torch.__version__) < onnx_graph.TORCH:
        pytest.skip(f"ONNX needs torch {onnx_graph.TORCH}")


@pytest.fixture(scope="module")
def graph(run) -> dict:
    needs_onnx()
    return commands.export(run, to="onnx")


def test_onnx_says_what_the_encoder_says(graph, run, images):
    import onnxruntime

    assert graph["files"] == [str(run / "encoder.onnx")]
    assert graph["compared_on"] == "40 test images of glyphs"
    assert graph["agreement"].images == 40
    assert graph["agreement"].max_difference < 1e-5
    assert set(graph["images_per_second"]) == {"onnxruntime", "torch"}
    session = onnxruntime.InferenceSession(graph["out"])
    (given,), (said,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, given.shape) == (
        *("images", "tensor(float)"),
        ["batch", 3, 16, 16],
    )
    assert (said.name, said.shape) == ("embedding", ["batch", 128])
    squares = [Image.fromarray(i).resize((16, 16), Image.Resampling.BILINEAR) for i in images]
    levels = (np.stack(squares).transpose(0, 3, 1, 2) / 255).astype(np.float32)
    expected = encoder_of(run).embed(images)
    for count in (1, 7):
        (vectors,) = session.run(None, {"images": levels[:count]})
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(vectors, expected[:count], atol=1e-5)


def test_onnx_says_how_it_is_used(graph, run):
    import onnx

    model = onnx.load(graph["out"])
    facts = {entry.key: entry.value for entry in model.metadata_props}
    encoder = encoder_of(run)
    assert json.loads(facts["mean"]) == list(encoder.preprocessing.mean)
    assert json.loads(facts["std"]) == list(encoder.preprocessing.std)
    assert facts["image_size"] == "16"
    assert "bilinear" in facts["resize"]
    assert facts["identity"] == encoder.identity
    assert facts["maskcon"] == maskcon.__version__
    assert model.opset_import[0].version == graph["opset"]


@pytest.mark.heavy
@pytest.mark.parametrize(
    "backbone", ["resnet18", "timm/test_vit", "torchvision/mobilenet_v3_small"]
)
def test_onnx_of_other_networks(backbone, tmp_path):
    needs_onnx()
    size = 160 if backbone == "timm/test_vit" else 32
    folder = untrained(tmp_path / "e", backbone, size=size)
    assert commands.export(folder, to="onnx")["agreement"].max_difference < 1e-5


def test_onnx_with_an_old_torch(run, tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.6.0+cpu")
    with pytest.raises(InputError, match=r"needs PyTorch 2.7 or newer, and this is 2.6.0"):
        commands.export(run, to="onnx", out=tmp_path / "e.onnx")


def test_onnx_without_its_packages(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"pip install 'maskcon\[onnx\]'"):
        commands.export(run, to="onnx", out=tmp_path / "e.onnx")


def test_what_does_not_agree_is_not_kept(run, tmp_path, monkeypatch):
    a = torch.eye(4)
    assert Agreement.between(a, a).check("it") == Agreement(0, 1, 4)
    for b in (a.roll(1, 0), a + 2e-4, torch.full_like(a, torch.nan)):
        with pytest.raises(InputError, match="it does not agree with the encoder on 4 pictures"):
            Agreement.between(a, b).check("it")
    with pytest.raises(InputError, match=r"vectors \[4, 3\], the encoder \[4, 4\]"):
        Agreement.between(a, a[:, :3])
    monkeypatch.setattr(agreement, "MIN_COSINE", 1.5)
    for to in ("safetensors", "hf"):
        with pytest.raises(InputError, match="It was not kept"):
            commands.export(run, to=to, out=tmp_path / f"x{TARGETS[to].suffix}")
    assert list(tmp_path.iterdir()) == []


# Weights


@pytest.mark.parametrize(
    ("backbone", "stem"),
    [
        ("resnet10w16", "small"),
        ("resnet12", "small"),
        ("vgg7w16", "small"),
        pytest.param("resnet18", "small", marks=pytest.mark.heavy),
        ("torchvision/resnet18", "large"),
        ("timm/test_resnet", "small"),
        ("torchvision/mobilenet_v3_small", "small"),
    ],
)
def test_safetensors_loads_as_it_says(backbone, stem, images, tmp_path):
    folder = untrained(tmp_path / "e", backbone, stem)
    done = commands.export(folder, to="safetensors")
    assert done["compared_on"] == "64 drawn characters"
    encoder = encoder_of(folder)
    expected = encoder.embed(images)
    np.testing.assert_allclose(executed(done["load"], encoder, images), expected, atol=1e-5)
    described = json.loads((folder / "backbone.json").read_text())
    assert described["backbone"] == backbone
    assert (
        "\n".join(described["load"]).replace("backbone.safe", f"{folder}/backbone.safe")
        == (done["load"])
    )
    again, _ = build_backbone(backbone, stem=stem)
    load_backbone_weights(again, folder / "backbone.safetensors")  # train --init does this
    assert all(
        torch.equal(value, again.state_dict()[name])
        for name, value in encoder.network.backbone.state_dict().items()
    )


def test_networks_side_by_side_are_exported_whole(images, tmp_path):
    folder = untrained(tmp_path / "e", "resnet10w8+timm/test_resnet", "small")
    done = commands.export(folder, to="safetensors")
    encoder = encoder_of(folder)
    expected = encoder.embed(images)
    np.testing.assert_allclose(executed(done["load"], encoder, images), expected, atol=1e-5)
    with pytest.raises(InputError, match="timm has no network that takes the weights of resnet10"):
        commands.export(folder, to="timm")


def test_a_head_is_exported_with_its_backbone(images, tmp_path):
    folder = headed(tmp_path / "e")
    done = commands.export(folder, to="safetensors")
    encoder = encoder_of(folder)
    expected = encoder.embed(images)
    assert expected.shape == (7, 35)
    np.testing.assert_allclose(executed(done["load"], encoder, images), expected, atol=1e-5)
    with pytest.raises(InputError, match="there is a head behind resnet10w16"):
        commands.export(folder, to="timm")
    folder = headed(tmp_path / "v", "vectors")
    with pytest.raises(InputError, match="takes no pictures"):
        commands.export(folder, to="onnx")


@pytest.mark.heavy
def test_onnx_of_a_head(tmp_path):
    needs_onnx()
    done = commands.export(headed(tmp_path / "e"), to="onnx")
    assert done["agreement"].max_difference < 1e-5


@pytest.mark.parametrize(
    ("backbone", "stem"),
    [
        pytest.param("resnet18", "small", marks=pytest.mark.heavy),
        ("resnet18", "large"),
        ("timm/test_resnet", "small"),
    ],
)
def test_timm_loads_it(backbone, stem, images, tmp_path):
    folder = untrained(tmp_path / "e", backbone, stem)
    done = commands.export(folder, to="timm")
    encoder = encoder_of(folder)
    np.testing.assert_allclose(
        executed(done["load"], encoder, images), encoder.embed(images), atol=1e-5
    )
    if stem == "large":
        assert "checkpoint_path=" in done["load"]
        network = timm.create_model(done["model"], checkpoint_path=done["out"], num_classes=0)
        assert network.num_features == encoder.width


@pytest.mark.parametrize("backbone", ["resnet10w16", "torchvision/mobilenet_v3_small"])
def test_timm_has_not_everything(backbone, tmp_path):
    folder = untrained(tmp_path / "e", backbone)
    with pytest.raises(InputError, match=f"takes the weights of {backbone}: possible are"):
        commands.export(folder, to="timm")
    assert {path.name for path in folder.iterdir()} == {"encoder.json", "encoder.safetensors"}


# The hub


@pytest.fixture(scope="module")
def hub(run) -> Path:
    done = commands.export(run, to="hf", license="cc-by-4.0")
    assert done["library"] == "maskcon"
    assert {"README.md", "config.json", "model.safetensors", "preprocessor_config.json"} <= {
        Path(path).name for path in done["files"]
    }
    return Path(done["out"])


def test_a_hub_folder_is_an_encoder(hub, run, images):
    again = encoder_of(hub)
    assert again.identity == encoder_of(run).identity
    np.testing.assert_array_equal(again.embed(images), encoder_of(run).embed(images))
    weights = safetensors.torch.load_file(hub / "model.safetensors")
    build_backbone("resnet10w16")[0].load_state_dict(weights)
    again = commands.eval(hub, data=json.loads((run / "run.json").read_text())["config"]["data"])
    assert again["images"] == 40


def test_a_hub_card(hub, run, pictures):
    from huggingface_hub import ModelCard

    card = ModelCard.load(hub / "README.md")
    assert card.data.license == "cc-by-4.0"
    assert card.data.library_name == "maskcon"
    assert "fine-grained" in card.data.tags
    results = json.loads((run / "run.json").read_text())["results"]
    found = {result.metric_name: result.metric_value for result in card.data.eval_results}
    assert found["recall@1"] == pytest.approx(results["recall@1"], abs=1e-6)
    assert 'maskcon.Encoder.load("hf")' in card.text
    for name in re.findall(r"\]\(([a-z.]+)\)", card.text):
        assert (hub / name).exists()
    for path in hub.iterdir():  # nothing says where it was made
        assert str(pictures.parent).encode() not in path.read_bytes()
        assert str(run.parent).encode() not in path.read_bytes()


@pytest.fixture(scope="module")
def timms_hub(tmp_path_factory) -> Path:
    """The folder of a run with a network that timm has."""
    place = tmp_path_factory.mktemp("timm")
    random = np.random.default_rng(0)
    data = from_arrays(random.integers(0, 256, (24, 32, 32, 3), dtype=np.uint8), [0, 1] * 12)
    options = {"epochs": 1, "batch_size": 8, "image_size": 32, "bank_size": 8}
    commands.train(data=data, out=place / "x", backbone="timm/test_resnet", **options)
    done = commands.export(place / "x", to="hf", out=place / "published")
    assert done["library"] == "timm"
    assert done["compared_on"] == "64 drawn characters"  # the run's arrays are gone
    return place / "published"


def test_timm_reads_a_hub_folder(timms_hub, images):
    if "local-dir" not in getattr(timm.models._factory, "_MODEL_SOURCES", ()):
        pytest.skip("this timm reads no local folders")
    network = timm.create_model(f"local-dir:{timms_hub}", pretrained=True, num_classes=0).eval()
    config = timm.data.resolve_model_data_config(network)
    transform = timm.data.create_transform(**config)
    batch = torch.stack([transform(Image.fromarray(image)) for image in images])
    with torch.no_grad():
        vectors = nn.functional.normalize(network(batch), dim=1).numpy()
    np.testing.assert_allclose(vectors, encoder_of(timms_hub).embed(images), atol=1e-4)


@pytest.mark.heavy
def test_transformers_reads_a_hub_folder(timms_hub, hub, images, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModel.from_pretrained(timms_hub).eval()
    prepare = transformers.AutoImageProcessor.from_pretrained(timms_hub)
    squares = [Image.fromarray(image) for image in images]
    with torch.no_grad():
        said = model(prepare(squares, return_tensors="pt")["pixel_values"]).pooler_output
    vectors = nn.functional.normalize(said, dim=1).numpy()
    np.testing.assert_allclose(vectors, encoder_of(timms_hub).embed(images), atol=1e-3)

    prepare = transformers.AutoImageProcessor.from_pretrained(hub)
    encoder = encoder_of(hub)
    with torch.no_grad():
        said = encoder.network.backbone(prepare(squares, return_tensors="pt")["pixel_values"])
    vectors = nn.functional.normalize(said, dim=1).numpy()
    np.testing.assert_allclose(vectors, encoder.embed(images), atol=1e-2)


def test_a_hub_folder_takes_the_place_of_an_export_alone(run, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("irreplaceable")
    with pytest.raises(InputError, match="holds files that no export made"):
        commands.export(run, to="hf", out=mine, overwrite=True)
    assert (mine / "thesis.txt").exists()
    commands.export(run, to="hf", out=tmp_path / "hf")
    commands.export(run, to="hf", out=tmp_path / "hf", overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hf", "mine"]


# The atlas


@pytest.fixture(scope="module")
def table(run) -> pyarrow.Table:
    done = commands.export(run, to="atlas", neighbours=4, vectors=True, projection="pca")
    assert done["images"] == 130
    return pyarrow.parquet.read_table(done["out"])


def test_atlas_columns(table, run, pictures):
    assert table["id"].to_pylist() == list(range(130))
    assert set(table["split"].to_pylist()) == {"train", "test"}
    path = Path(table["path"][5].as_py())
    assert path.is_relative_to(pictures)
    assert table["coarse"][5].as_py() == path.parts[-3]
    assert table["fine"][5].as_py().rpartition("/")[2] == path.parts[-2]
    small = Image.open(io.BytesIO(table["image"][5].as_py()["bytes"]))
    assert small.size == (32, 32)
    vectors = np.array(table["vector"].to_pylist(), np.float32)
    expected = maskcon.Encoder.load(run).embed(table["path"].to_pylist())
    np.testing.assert_allclose(vectors, expected, atol=1e-6)
    assert np.isfinite([table["x"].to_pylist(), table["y"].to_pylist()]).all()


def test_atlas_neighbours_are_the_nearest(table):
    vectors = np.array(table["vector"].to_pylist())
    distance = 1 - vectors @ vectors.T
    np.fill_diagonal(distance, np.inf)
    for row, found in enumerate(table["neighbors"].to_pylist()):
        assert list(found) == ["ids", "distances"]
        assert len(found["ids"]) == 4
        assert row not in found["ids"]
        np.testing.assert_allclose(distance[row, found["ids"]], found["distances"], atol=1e-5)
        np.testing.assert_allclose(found["distances"], np.sort(distance[row])[:4], atol=1e-5)


def test_atlas_of_other_data(run, images, tmp_path):
    def places(**options) -> list:
        done = commands.export(
            run, to="atlas", out=tmp_path / "a.parquet", overwrite=True, **options
        )
        table = pyarrow.parquet.read_table(done["out"])
        assert set(table.column_names) == set(done["columns"])
        return [table["x"].to_pylist(), table["y"].to_pylist()]

    data = from_arrays(images, list("abababa"))
    first = places(data=data, thumbnail=0)
    assert places(data=data) == first
    done = commands.export(run, to="atlas", out=tmp_path / "b.parquet", data=data, thumbnail=0)
    assert done["projection"] == "tsne"
    assert done["neighbours"] == 6
    assert done["columns"] == ["id", "path", "split", "coarse", "x", "y", "neighbors"]


def test_atlas_with_a_damaged_picture(run, tmp_path, images):
    for row, image in enumerate(images):
        (tmp_path / "p" / "ab"[row % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / "p" / "ab"[row % 2] / f"{row}.png")
    (tmp_path / "p" / "a" / "2.png").write_bytes(b"no image")
    options = {"to": "atlas", "data": tmp_path / "p", "out": tmp_path / "a.parquet"}
    with pytest.raises(InputError, match="cannot be read"):
        commands.export(run, **options)
    assert not (tmp_path / "a.parquet").exists()
    done = commands.export(run, skip_unreadable=True, **options)
    assert done["images"] == 6
    assert "2.png" in done["skipped"][0]
    table = pyarrow.parquet.read_table(done["out"])
    assert [Path(path).parts[-2] for path in table["path"].to_pylist()] == (
        table["coarse"].to_pylist()
    )


# What goes wrong


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"to": "onx"}, "there is no target 'onx' (did you mean onnx?)"),
        ({"to": "timm", "license": "mit"}, "--to timm does not take license"),
        ({"to": "hf", "neighbours": 3}, "--to hf does not take neighbours: it takes license"),
        ({"to": "onnx", "device": "cpu"}, "--to onnx does not take device"),
        ({"to": "hf", "licence": "mit"}, "unknown option 'licence' (did you mean license?)"),
        ({"to": "hf", "license": "a\nb"}, "expected one of the hub's names"),
        ({"to": "atlas", "projection": "mds"}, "expected one of auto, tsne, umap, pca"),
        ({"to": "atlas", "neighbours": 0}, "neighbours is 0"),
        ({"to": "atlas", "thumbnail": -1}, "thumbnail is -1"),
        ({"to": "onnx", "out": "x.pt"}, "x.pt ends in '.pt': give --out a name in .onnx"),
        ({"to": "onnx", "out": "nowhere/x.onnx"}, "nowhere is no folder"),
        ({"to": "safetensors", "data": "nowhere"}, "'nowhere' is no data set"),
    ],
)
def test_nonsense(run, options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options.setdefault(
        "out", f"out{TARGETS[options['to']].suffix}" if options["to"] in TARGETS else "out"
    )
    with pytest.raises(InputError, match=re.escape(message)):
        commands.export(run, **options)
    assert list(tmp_path.iterdir()) == []


def test_nothing_that_matters_is_overwritten(run, tmp_path):
    (tmp_path / "e.safetensors").write_text("mine")
    with pytest.raises(
        InputError, match=r"e\.safetensors exists: give another --out, or --overwrite"
    ):
        commands.export(run, to="safetensors", out=tmp_path / "e.safetensors")
    (tmp_path / "f.json").write_text("mine")
    with pytest.raises(InputError, match=r"f\.json exists"):
        commands.export(run, to="safetensors", out=tmp_path / "f.safetensors")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e.safetensors", "f.json"]
    with pytest.raises(InputError, match="a file that the run needs"):
        commands.export(run, to="safetensors", out=run / "encoder.safetensors", overwrite=True)
    with pytest.raises(InputError, match="holds files that no export made"):
        commands.export(run, to="hf", out=run, overwrite=True)
    table = tmp_path / "t.parquet"
    table.write_text("mine")
    with pytest.raises(InputError, match="is read and would be overwritten"):
        commands.export(run, to="atlas", data=table, out=table, overwrite=True)
    assert table.read_text() == "mine"


def test_folders_that_are_no_run(tmp_path):
    for to, target in TARGETS.items():
        lacks = "groups.csv" if target.of == "groups" else "encoder.json"
        with pytest.raises(InputError, match=f"has no {re.escape(lacks)}"):
            commands.export(tmp_path, to=to)
    folder = untrained(tmp_path / "e", "resnet10w16")
    with pytest.raises(InputError, match="is no run folder"):
        commands.export(folder, to="hf")
    with pytest.raises(InputError, match="is no run folder"):
        commands.export(folder, to="atlas")


def test_as_typed(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli, ["export", str(run), "--to", "timm", "-o", "t.safetensors"])
    assert isinstance(done.exception, InputError)
    done = CliRunner().invoke(cli, ["export", str(run), "--to", "pth"])
    assert done.exit_code == 2
    said = " ".join(done.output.replace("│", " ").split())
    assert "'pth' is not one of 'onnx', 'safetensors', 'hf', 'timm', 'atlas'" in said
    done = CliRunner().invoke(
        cli, ["export", str(run), "--to", "safetensors", "-o", "b.safetensors"]
    )
    assert done.exit_code == 0, done.output
    assert "compared on 40 test images of glyphs: largest difference 0.0e+00" in done.output
    assert '    network.load_state_dict(load_file("b.safetensors"))' in done.output
    assert "written: b.json" in done.output
    words = ["export", str(run), "--to", "atlas", "-o", "a.parquet", "--projection", "pca"]
    done = CliRunner().invoke(cli, words)
    assert "130 images, x and y by pca, 15 neighbours each" in done.output
    assert (
        "embedding-atlas a.parquet --x x --y y --neighbors neighbors --image image" in done.output
    )


def test_help_does_not_wait_for_torch():
    code = (
        "import sys; from maskcon.cli import main; sys.argv = ['maskcon', 'export', '--help']\n"
        "try: main()\n"
        "finally: print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_an_installed_package_adds_a_form(installed, run, tmp_path):
    source = """
from maskcon.export import Target

def write(request, *, shout=False):
    text = f"{request.encoder.width} {len(request.images)}"
    request.out.write_text(text.upper() + "!" * shout)
    return {"bytes": len(text)}

MINE = Target("mine.txt", "two numbers", write, ("shout",))
"""
    installed("forms", source, {"maskcon.exporters": {"mine": "forms:MINE"}})
    done = commands.export(run, to="mine", out=tmp_path / "a.txt", shout=True)
    assert (tmp_path / "a.txt").read_text() == "128 40!"
    assert done["compared_on"] == "40 test images of glyphs"
    with pytest.raises(InputError, match="--to onnx does not take shout"):
        commands.export(run, to="onnx", shout=True)
    path = os.pathsep.join([str(tmp_path), *sys.path])
    words = [sys.executable, "-m", "maskcon", "export", "--help"]
    said = subprocess.run(words, env={**os.environ, "PYTHONPATH": path}, capture_output=True)
    assert b"mine: two numbers" in b" ".join(said.stdout.split())
