import pytest
import safetensors.torch
import torch
import torchvision
from torch import nn

from maskcon.errors import InputError
from maskcon.model.backbones import build_backbone, load_backbone_weights
from maskcon.model.network import Architecture, Network
from maskcon.model.pair import EncoderPair
from maskcon.model.saved import load_encoder, save_encoder


def architecture(**changes) -> Architecture:
    values = {
        "backbone": "resnet10w16",
        "stem": "small",
        "heads": ("z", "logits"),
        "projection": 32,
        "classes": 5,
    }
    return Architecture(**{**values, **changes})


@pytest.mark.parametrize(
    ("name", "width"),
    [
        ("resnet10w16", 128),
        ("resnet10w32", 256),
        ("resnet12", 640),
        ("vgg7w16", 64),
        ("vgg7w48", 192),
        ("resnet18", 512),
        ("resnet34", 512),
        ("resnet50", 2048),
        ("torchvision/mobilenet_v3_small", 1024),
        ("timm/resnet10t", 512),
    ],
)
def test_backbones(name, width):
    backbone, found = build_backbone(name)
    assert found == width
    assert backbone.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, width)


def test_widths_of_projectors():
    """As wide inside as the feature (2,048 with batch norm), or as asked for."""

    def hidden(**changes) -> list[tuple[int, int]]:
        layers = Network(architecture(heads=("z",), **changes)).projector
        return [(x.in_features, x.out_features) for x in layers if isinstance(x, nn.Linear)]

    assert hidden() == [(128, 128), (128, 32)]
    assert hidden(projection_hidden=48) == [(128, 48), (48, 32)]
    assert hidden(projection_layers=3) == [(128, 2048), (2048, 2048), (2048, 32)]
    assert hidden(projection_layers=3, projection_hidden=48) == [(128, 48), (48, 48), (48, 32)]
    assert hidden(projection_layers=1) == [(128, 32)]
    four = hidden(projection_layers=4, projection_hidden=48)
    assert four == [(128, 48), (48, 48), (48, 48), (48, 32)]


@pytest.mark.parametrize("layers", [1, 2, 3, 4])
def test_projectors_have_batch_norm_from_three_layers_on(layers):
    projector = Network(architecture(heads=("z",), projection_layers=layers)).projector
    kinds = [type(part).__name__ for part in projector]
    hidden = ["Linear", "ReLU"] if layers < 3 else ["Linear", "BatchNorm1d", "ReLU"]
    assert kinds == [*hidden * (layers - 1), "Linear"]


def test_encoders_of_before_say_deep_of_three_layers():
    described = {**architecture(heads=("z",)).__dict__, "heads": ["z"]}
    del described["projection_layers"]
    assert Architecture.of({**described, "deep": True}).projection_layers == 3
    assert Architecture.of({**described, "deep": False}).projection_layers == 2


def test_the_classifier_of_ancor_has_a_bias_and_sees_no_negative_projection():
    network = Network(architecture(heads=("z", "rectified_prototypes"))).eval()
    said = network(x := torch.randn(3, 3, 8, 8))
    z = network.projector(network.backbone(x))
    expected = z.clamp(min=0) @ network.classifier.weight.T + network.classifier.bias
    torch.testing.assert_close(said.logits, expected)
    assert network.prototypes is network.classifier.weight
    plain = Network(architecture(heads=("z", "prototypes")))  # as encoders of 0.1 say it
    assert plain.prototypes is plain.classifier.weight
    assert plain.classifier.bias is None


def test_small_stem_keeps_the_pixels():
    small, _ = build_backbone("resnet18", stem="small")
    large, _ = build_backbone("resnet18", stem="large")
    assert small.conv1.kernel_size == (3, 3)
    assert small.conv1.stride == (1, 1)
    assert isinstance(small.maxpool, nn.Identity)
    assert large.conv1.kernel_size == (7, 7)


@pytest.mark.parametrize(
    ("name", "init", "message"),
    [
        ("resnet19", "scratch", "there is no backbone 'resnet19' .did you mean resnet18"),
        ("timm/resnet1o", "scratch", "timm has no model 'resnet1o'"),
        ("torchvision/resnet1", "scratch", "torchvision has no classifier 'resnet1' .did you mean"),
        ("torchvision/squeezenet1_1", "scratch", "squeezenet1_1 does not end in a linear layer"),
        ("resnet10w16", "imagenet", "resnet10w16 has no ImageNet weights"),
        ("resnet18", "nowhere.pth", "there is no weights file nowhere.pth"),
    ],
)
def test_networks_that_do_not_fit(name, init, message):
    with pytest.raises(InputError, match=message):
        build_backbone(name, init=init)


def test_outputs():
    encoder = Network(architecture())
    output = encoder(torch.randn(4, 3, 32, 32))
    assert output.feature.shape == (4, 128)
    assert output.logits.shape == (4, 5)
    torch.testing.assert_close(output.z.norm(dim=1), torch.ones(4))
    only = Network(architecture(heads=("logits",)))(torch.randn(4, 3, 32, 32))
    assert only.z is None
    assert Network(architecture(heads=("z",)))(torch.randn(4, 3, 32, 32)).logits is None


def test_projections_are_normalised_in_float32_under_autocast():
    encoder = Network(architecture())
    with torch.autocast("cpu", torch.bfloat16):
        output = encoder(torch.randn(8, 3, 32, 32))
    assert output.feature.dtype == torch.bfloat16
    assert output.z.dtype == torch.float32
    torch.testing.assert_close(output.z.norm(dim=1), torch.ones(8), atol=1e-6, rtol=0)


def test_the_key_follows_the_query():
    pair = EncoderPair(Network(architecture()), momentum=0.9)
    assert "logits" not in pair.key.heads
    before = {n: p.clone() for n, p in pair.key.named_parameters()}
    with torch.no_grad():
        for p in pair.query.parameters():
            p.add_(torch.randn_like(p))
    pair.update_key()
    query = dict(pair.query.named_parameters())
    for name, key in pair.key.named_parameters():
        torch.testing.assert_close(key, 0.9 * before[name] + 0.1 * query[name])
        assert not key.requires_grad


def test_the_statistics_of_the_key_are_its_own():
    pair = EncoderPair(Network(architecture()), momentum=0.9)
    pair.query(torch.randn(4, 3, 32, 32))
    pair.update_key()
    assert pair.key.backbone.stem[1].num_batches_tracked == 0
    assert pair.query.backbone.stem[1].num_batches_tracked == 1


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("prefix", ["", "module.", "backbone."])
def test_local_weights(tmp_path, suffix, prefix):
    """An ImageNet-style file: classifier and large stem are passed over, the rest is taken."""
    source = torchvision.models.resnet18()
    weights = {prefix + n: v.contiguous() for n, v in source.state_dict().items()}
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": weights}, path)
    else:
        safetensors.torch.save_file(weights, path)
    backbone, _ = build_backbone("resnet18", init=str(path), stem="small")
    assert torch.equal(backbone.layer4[1].conv2.weight, source.layer4[1].conv2.weight)
    assert backbone.conv1.weight.shape == (64, 3, 3, 3)
    large, _ = build_backbone("resnet18", init=str(path), stem="large")
    assert torch.equal(large.conv1.weight, source.conv1.weight)


def test_weights_that_do_not_fit(tmp_path):
    other = tmp_path / "other.pth"
    torch.save(torchvision.models.resnet34().state_dict(), other)
    backbone, _ = build_backbone("resnet50")
    with pytest.raises(InputError, match=r"does not fit the backbone: \d+ of its \d+ tensors"):
        load_backbone_weights(backbone, other)
    noise = tmp_path / "noise.pth"
    noise.write_bytes(b"this is no weights file")
    with pytest.raises(InputError, match="cannot be read as weights"):
        load_backbone_weights(backbone, noise)
    values = tmp_path / "values.pth"
    torch.save([1, 2, 3], values)
    with pytest.raises(InputError, match="holds no dictionary of tensors"):
        load_backbone_weights(backbone, values)


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_resnets_are_those_of_torchvision(name):
    """The same draws, names, and features to the bit."""
    torch.manual_seed(3)
    theirs = torchvision.models.get_model(name)
    theirs.fc = nn.Identity()
    drawn = torch.rand(1)
    torch.manual_seed(3)
    ours, _ = build_backbone(name, stem="large")
    assert torch.rand(1) == drawn
    expected, found = theirs.state_dict(), ours.state_dict()
    assert list(expected) == list(found)
    assert all(torch.equal(expected[key], found[key]) for key in found)
    images = torch.rand(2, 3, 40, 40)
    assert torch.equal(ours(images), theirs(images))


@pytest.mark.parametrize("name", ["resnet10w8", "vgg7w16", "timm/test_vit", "timm/efficientvit_m0"])
def test_an_encoder_is_loaded_as_if_it_were_built_first(name, tmp_path):
    """The last has numbers that no file keeps; the others draw nothing to be written over."""
    made = architecture(backbone=name)
    about = {"image_size": 64, "mean": [0.5] * 3, "std": [0.2] * 3}
    torch.manual_seed(1)
    save_encoder(tmp_path, Network(made), about)
    state = safetensors.torch.load_file(tmp_path / "encoder.safetensors")
    expected = Network(made)
    expected.load_state_dict(state)
    expected.eval().to(memory_format=torch.channels_last)
    generator = torch.get_rng_state()
    found, _ = load_encoder(tmp_path)
    assert torch.equal(torch.get_rng_state(), generator) == (name != "timm/efficientvit_m0")
    assert found.state_dict().keys() == expected.state_dict().keys()
    assert all(torch.equal(v, found.state_dict()[n]) for n, v in expected.state_dict().items())
    assert [p.requires_grad for p in found.parameters()] == [
        p.requires_grad for p in expected.parameters()
    ]
    size = 224 if name.endswith("m0") else 160
    images = torch.rand(2, 3, size, size)
    with torch.no_grad():
        assert torch.equal(found(images).feature, expected(images).feature)


def test_weights_in_another_precision_are_taken_as_the_network_has_them(tmp_path):
    made = architecture()
    about = {"image_size": 64, "mean": [0.5] * 3, "std": [0.2] * 3}
    network = Network(made)
    save_encoder(tmp_path, network, about)
    half = {
        name: v.half() if v.is_floating_point() else v for name, v in network.state_dict().items()
    }
    safetensors.torch.save_file(half, tmp_path / "encoder.safetensors")
    found, _ = load_encoder(tmp_path)
    assert {p.dtype for p in found.parameters()} == {torch.float32}
