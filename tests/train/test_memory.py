"""What a step keeps of its images, beside what it really does."""

import pytest
import torch

from maskcon.model.network import Architecture, Network
from maskcon.train.memory import activations


@pytest.mark.parametrize(
    ("backbone", "stem", "size"),
    [
        ("resnet10w16", "small", 32),
        ("resnet12", "auto", 32),
        ("resnet18", "large", 64),
        ("torchvision/vgg11_bn", "auto", 64),
        ("timm/convnext_atto", "auto", 64),
        ("timm/vit_tiny_patch16_224", "auto", 224),
    ],
)
def test_about_as_much_as_a_step_keeps(backbone, stem, size):
    parts = {"heads": ("z",), "projection": 8, "classes": 2}
    network = Network(Architecture(backbone=backbone, stem=stem, **parts)).train()
    weights = {weight.untyped_storage().data_ptr() for weight in network.parameters()}
    kept = {}

    def keep(value):
        kept[value.untyped_storage().data_ptr()] = value
        return value

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        out = network(torch.zeros(2, 3, size, size))
    bytes_of = {p: v.untyped_storage().nbytes() for p, v in kept.items() if p not in weights}
    assert out.z.requires_grad
    assert 0.6 < activations(network, size) / (sum(bytes_of.values()) / 2) < 1.3


def test_what_asks_for_numbers_is_not_looked_at():
    class Asking(torch.nn.Module):
        def forward(self, images):
            return images * float(images.mean())

    assert activations(Asking(), 8) == 0
