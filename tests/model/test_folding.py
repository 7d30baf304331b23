"""Folding batch norms: the same vectors, whatever network; or the network itself."""

import pytest
import timm
import torch
from torch import nn

from maskcon.model.backbones import build_backbone
from maskcon.model.blocks import Layered, Mirrored
from maskcon.model.folding import folded


def trained(network: nn.Module) -> nn.Module:
    """Batch norms that do something, as after training."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    return network.eval()


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize(
    "name", ["resnet10w8", "resnet12", "resnet18", "timm/tf_efficientnet_lite0"]
)
def test_the_same_vectors_without_norms(name):
    network = trained(build_backbone(name)[0])
    before = {key: value.clone() for key, value in network.state_dict().items()}
    images = torch.randn(3, 3, 64, 64)
    new = folded(network, images[:1])
    assert norms(new) == 0 < norms(network)
    with torch.no_grad():
        expected, found = network(images), new(images)
    assert torch.cosine_similarity(expected, found).min() > 0.99999
    assert (expected - found).abs().max() < 1e-4 * expected.abs().max()
    after = network.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())


@pytest.mark.parametrize("around", [nn.Sequential, Mirrored])
def test_a_network_whose_blocks_are_looked_at(around):
    """Once for each picture, or again for its mirror image."""
    layered = Layered(build_backbone("resnet10w8")[0], ("stages.2", "stages.3"))
    network = trained(around(layered))
    images = torch.randn(2, 3, 32, 32)
    new = folded(network, images)
    assert norms(new) == 0
    with torch.no_grad():
        torch.testing.assert_close(new(images), network(images), rtol=1e-4, atol=1e-5)


class ReadTwice(nn.Module):
    """A convolution that a norm and a sum read; and one that runs twice."""

    def __init__(self, twice: bool):
        super().__init__()
        self.conv, self.norm, self.twice = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), twice

    def forward(self, images):
        made = self.conv(self.conv(images)) if self.twice else self.conv(images)
        return (self.norm(made) + (0 if self.twice else made)).mean((2, 3))


@pytest.mark.parametrize(
    "network",
    [
        ReadTwice(False),
        ReadTwice(True),
        nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1)),
        nn.Sequential(nn.Conv2d(3, 8, 1), nn.GroupNorm(2, 8)),
        timm.layers.std_conv.StdConv2d(3, 3, 1).eval(),
    ],
    ids=["read twice", "runs twice", "no norm behind", "no batch norm", "nothing"],
)
def test_what_cannot_be_folded_stays_itself(network):
    trained(network)
    assert folded(network, torch.randn(2, 3, 8, 8)) is network


def test_weights_that_a_convolution_makes_itself():
    network = nn.Sequential(timm.layers.StdConv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten())
    assert folded(trained(network), torch.randn(2, 3, 8, 8)) is network
