"""Pretrained networks: what the table says of them, and where their weights are found."""

import json

import pytest
import safetensors.torch
import torch
from click.testing import CliRunner
from huggingface_hub import constants

from maskcon import commands
from maskcon.cli import cli
from maskcon.commands.sources import resolved
from maskcon.data.images import IMAGENET_STATISTICS
from maskcon.errors import InputError
from maskcon.estimator import CoarseToFine
from maskcon.model import here
from maskcon.model.backbones import build_backbone, layered, normalisation_of, read_weights
from maskcon.model.blocks import Joined, networks
from maskcon.model.network import Architecture, Network
from maskcon.model.recommended import RECOMMENDED
from maskcon.model.residual_head import HeadShape
from maskcon.model.resnet import OfSomePixels
from maskcon.model.saved import load_encoder, save_encoder
from maskcon.runtime.device import without_memory

PACKAGES = [(name, module) for name, module in here.PACKAGES.items()]


@pytest.fixture
def caches(tmp_path, monkeypatch):
    """The hub's cache and torch's, with nothing in them."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path


@pytest.mark.heavy
@pytest.mark.parametrize("one", RECOMMENDED.values(), ids=RECOMMENDED)
def test_what_is_said_of_a_network_is_what_its_library_says(one):
    """Its work is counted, product by product, in a network without memory."""
    timm = pytest.importorskip("timm")
    from timm.layers import set_fused_attn
    from torch.utils.flop_counter import FlopCounterMode

    set_fused_attn(False)  # whose products are counted
    try:
        with without_memory(), torch.no_grad():
            network = build_backbone(one.name, stem="large", size=224)[0].eval()
            network.requires_grad_(False)
            with FlopCounterMode(display=False) as counted:
                network(torch.zeros(1, 3, 224, 224))
    finally:
        set_fused_attn(True)
    assert one.gmacs == pytest.approx(counted.get_total_flops() / 2e9, rel=0.02)
    parameters = sum(value.numel() for value in network.parameters())
    assert one.parameters == pytest.approx(parameters / 1e6, abs=0.1)
    told = timm.get_pretrained_cfg(one.name.removeprefix("timm/"))
    if one.name.startswith("timm/"):
        assert one.size == told.input_size[-1]
        assert one.licence.lower().replace(", not free", "-license") == told.license
        assert one.free == (told.license == "apache-2.0")


@pytest.mark.parametrize(("name", "module"), PACKAGES)
def test_weights_of_a_package_stand_in_the_order_of_timms_network(name, module, caches):
    pytest.importorskip(module)
    weights = here.found(name)
    assert weights is not None
    assert weights == here.found(f"{name}.in1k") == here.packaged(name)
    assert weights.path.is_relative_to(caches) is False
    network, width = build_backbone(name, init="imagenet")
    theirs = read_weights(weights.path)
    own = network.state_dict()
    assert len(theirs) - len(own) == 2  # of the classifier
    for mine, value in zip(own.values(), theirs.values(), strict=False):
        assert torch.equal(mine, value)
    assert theirs[[*theirs][-2]].shape == (1000, width)


def test_weights_in_the_hubs_cache_are_taken_without_a_network(caches):
    network, _ = build_backbone("timm/test_vit")
    assert here.found("timm/test_vit") is None
    with pytest.raises(InputError, match=r"timm/test_vit are not on this machine, .*--download"):
        build_backbone("timm/test_vit", init="imagenet")
    repository = caches / "hub" / "models--timm--test_vit.r160_in1k"
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    head = {"head.weight": torch.zeros(1000, 64), "head.bias": torch.zeros(1000)}
    whole = {**network.state_dict(), **head}
    safetensors.torch.save_file(whole, snapshot / "model.safetensors")
    found = here.found("timm/test_vit")
    assert found == here.Weights("hub", snapshot / "model.safetensors")
    again, _ = build_backbone("timm/test_vit", init="imagenet")
    for name, value in network.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])


def test_weights_in_torchs_cache_are_taken_without_a_network(caches, capfd):
    from torchvision.models import resnet18

    assert here.found("resnet18") is None
    with pytest.raises(InputError, match="resnet18 are not on this machine"):
        build_backbone("resnet18", init="imagenet", stem="large")
    assert capfd.readouterr() == ("", "")  # such as that it is fetched
    folder = caches / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(1)
    theirs = resnet18().state_dict()
    torch.save(theirs, folder / "resnet18-f37072fd.pth")
    found = here.found("resnet18")
    assert found == here.Weights("torch", folder / "resnet18-f37072fd.pth")
    for name in ("resnet18", "torchvision/resnet18"):
        assert here.found(name) == found
        network, _ = build_backbone(name, init="imagenet", stem="large")
        assert torch.equal(
            network.state_dict()["layer4.1.conv2.weight"], theirs["layer4.1.conv2.weight"]
        )


@pytest.mark.parametrize("name", ["resnet10w8", "timm/no_such", "torchvision/no_such", "nothing"])
def test_networks_without_weights_have_none_here(name, caches):
    assert here.found(name) is None


def test_a_short_name_is_recorded_in_full():
    full = "timm/vit_small_patch14_dinov2.lvd142m"
    assert resolved({"backbone": "dinov2-s"}, None).backbone == full
    assert CoarseToFine(backbone="dinov2-s")._config().backbone == full
    assert all(
        resolved({"backbone": one.name}, None).backbone == one.name for one in RECOMMENDED.values()
    )
    with pytest.raises(InputError, match="did you mean dinov2-s"):
        build_backbone("dinov2-small")


def test_the_table_says_what_is_here(caches, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")  # in which each row is a line
    done = CliRunner().invoke(cli, ["backbones", "--json", str(tmp_path / "x.json")]).output
    rows = json.loads((tmp_path / "x.json").read_text())
    assert rows == commands.backbones()
    assert [row["short"] for row in rows] == [*RECOMMENDED]
    for row in rows:
        line = next(x for x in done.splitlines() if x.startswith(f"{row['short']} "))
        assert row["licence"] in line
        assert (row["source"] or "no") in line
        assert row["free"] != ("not free" in line)
        assert (row["path"] is None) == (row["source"] is None)


def test_networks_are_timed_on_request(monkeypatch):
    few = {name: RECOMMENDED[name] for name in ("efficientnet-lite0", "resnet18")}
    monkeypatch.setattr("maskcon.commands._backbones.RECOMMENDED", few)
    monkeypatch.setattr("maskcon.commands._backbones.SHORTEST", 0.0)
    rows = commands.backbones(measure=True, device="cpu")
    assert [row["images_per_second"] > 0 for row in rows] == [True, True]


JOINED = "resnet10w8+resnet10w16"


def test_joined_networks_say_what_each_says(tmp_path):
    torch.manual_seed(0)
    images = torch.rand(3, 3, 32, 32)
    both, parts = layered(JOINED, 1, size=32)
    assert isinstance(both, Joined)
    said = [one.eval()(images) for one in both.backbones]
    assert parts == (64, 64, 128, 128)
    assert torch.equal(both.eval()(images), torch.cat(said, 1))

    shape = HeadShape(parts=parts, components=8, hidden=16, scale=2.0)
    architecture = Architecture(
        backbone=JOINED, stem="small", heads=(), projection=8, classes=1, head=shape, layers=1
    )
    network = Network(architecture).eval()
    save_encoder(tmp_path, network, {"image_size": 32, "mean": [0.5] * 3, "std": [0.5] * 3})
    kept, _ = load_encoder(tmp_path)
    torch.testing.assert_close(kept.backbone(images), network.backbone(images))


def test_a_mirrored_network_sees_both_sides():
    torch.manual_seed(0)
    images = torch.rand(3, 3, 32, 32)
    both, parts = layered(JOINED, 1, size=32, mirrored=True)
    both.eval()
    assert parts == (64, 64, 128, 128)
    expected = [both.backbone(seen) for seen in (images, images.flip(3))]
    torch.testing.assert_close(both(images), torch.stack(expected).mean(0))
    starts = [f"backbone.backbones.{n}.backbone." for n in range(2)]
    assert [start for start, _ in networks(both)] == starts


def test_joined_networks_of_one_file_or_other_normalisations_are_refused(tmp_path):
    with pytest.raises(InputError, match="the weights of one network, and the backbone is resnet"):
        layered(JOINED, 0, init=str(tmp_path / "weights.pth"))
    both, _ = layered("timm/mobilenetv3_small_050+timm/tf_efficientnet_lite0", 0)
    with pytest.raises(InputError, match="trained on pictures of other normalisations"):
        normalisation_of(both, IMAGENET_STATISTICS)
    short = resolved({"backbone": "efficientnet-lite2+efficientnet-lite0"}, None)
    assert short.backbone == "timm/tf_efficientnet_lite2.in1k+timm/tf_efficientnet_lite0.in1k"


def test_a_convolution_of_some_pixels_is_that_with_a_stride():
    """Output and gradients, of even and odd sides; as torch has them, channels first."""
    torch.manual_seed(0)
    plain = torch.nn.Conv2d(8, 16, 1, 2, bias=False)
    own = OfSomePixels(8, 16, 1, 2, bias=False)
    own.load_state_dict(plain.state_dict())
    own.to(memory_format=torch.channels_last)
    for side in (64, 71):
        given = torch.randn(4, 8, side, side)
        other = given.clone(memory_format=torch.channels_last)
        made = []
        for layer, images in ((plain, given), (own, other)):
            layer.zero_grad()
            output = layer(images.requires_grad_())
            output.square().sum().backward()
            made.append((output, images.grad, layer.weight.grad))
        for expected, found in zip(*made, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
