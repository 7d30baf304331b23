"""The baseline: a MaskCon step as one writes it down first, in plain PyTorch.

Not used by anything but the benchmark. It does what the method's released program does, in the
way that it does it, and for the same reason that one would: float32 in the default memory
layout, views made image by image with Pillow in four loader processes, a moving average in
Python, a target of several temporaries as large as batch times bank, and the loss read at each
step.
"""

import copy
from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import models, transforms

LOADERS = 4


def pillow_views(size: int, kind: str) -> transforms.Compose:
    """The weak or strong view of one Pillow image, normalised."""
    strong = [transforms.AutoAugment(transforms.AutoAugmentPolicy.CIFAR10)]
    return transforms.Compose(
        [
            transforms.RandomResizedCrop(size, (0.2, 1.0)),
            transforms.RandomHorizontalFlip(),
            *(strong if kind == "strong" else []),
            transforms.ToTensor(),
            transforms.Normalize((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
        ]
    )


class Pairs(Dataset):
    """A strong and a weak view of each image, and its label."""

    def __init__(self, images: np.ndarray, label: np.ndarray, size: int):
        self.images, self.label = images, label
        self.query, self.key = pillow_views(size, "strong"), pillow_views(size, "weak")

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor, int]:
        image = Image.fromarray(self.images[row])
        return self.query(image), self.key(image), int(self.label[row])


class Network(nn.Module):
    """ResNet-18 with a stem for small images, and a projector."""

    def __init__(self, size: int, width: int):
        super().__init__()
        self.backbone = models.resnet18()
        if size <= 64:
            self.backbone.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
            self.backbone.maxpool = nn.Identity()
        self.backbone.fc = nn.Identity()
        self.head = nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, width))

    def forward(self, x: Tensor) -> Tensor:
        """Projections of unit length."""
        return nn.functional.normalize(self.head(self.backbone(x)), dim=1)


class Reference:
    """The whole training: `step` takes the next batch and returns the loss, a number."""

    def __init__(
        self,
        images: np.ndarray,
        label: np.ndarray,
        *,
        size: int,
        batch_size: int,
        bank_size: int,
        device: str,
        width: int = 128,
        tau: float = 0.05,
        t: float = 0.1,
        ema: float = 0.99,
    ):
        self.device = torch.device(device)
        self.loader = DataLoader(
            Pairs(images, label, size),
            batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=LOADERS,
            pin_memory=self.device.type == "cuda",
        )
        self.batches: Iterator = iter(self.loader)
        self.query = Network(size, width).to(self.device)
        self.key = copy.deepcopy(self.query)
        for parameter in self.key.parameters():
            parameter.requires_grad = False
        self.optimizer = torch.optim.SGD(
            self.query.parameters(), 0.02, momentum=0.9, weight_decay=5e-4
        )
        bank = torch.randn(width, bank_size, device=self.device)
        self.bank = nn.functional.normalize(bank, dim=0)
        self.bank_label = torch.randint(int(label.max()) + 1, (bank_size,), device=self.device)
        self.position = 0
        self.tau, self.t, self.ema = tau, t, ema

    def step(self) -> float:
        """One step on the next batch; its loss."""
        try:
            strong, weak, label = next(self.batches)
        except StopIteration:
            self.batches = iter(self.loader)
            strong, weak, label = next(self.batches)
        strong, weak = strong.to(self.device), weak.to(self.device)
        label = label.to(self.device)
        for old, new in zip(self.key.parameters(), self.query.parameters(), strict=True):
            old.data = old.data * self.ema + new.data * (1 - self.ema)
        with torch.no_grad():
            k = self.key(weak)
        q = self.query(strong)
        own = (q * k).sum(1, keepdim=True)  # [N, 1]
        others = q @ self.bank.clone().detach()  # [N, M]
        logits = torch.cat([own, others], dim=1) / self.t
        with torch.no_grad():
            target = self.target(k, label)
        loss = -(torch.log_softmax(logits, dim=1) * target).sum(1).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        end = self.position + len(k)  # the bank is a multiple of the batch
        self.bank[:, self.position : end] = k.T
        self.bank_label[self.position : end] = label
        self.position = end % self.bank.shape[1]
        return loss.item()

    def target(self, k: Tensor, label: Tensor) -> Tensor:
        """The target of MaskCon with w = 1, [N, 1 + M]."""
        similarity = k @ self.bank.clone().detach()
        mask = (label[:, None] == self.bank_label[None]).float()
        masked = similarity * mask - 1e4 * (1 - mask)
        masked = masked - masked.max(dim=1, keepdim=True)[0]
        weights = torch.exp(masked / self.tau) * mask
        target = torch.cat([torch.ones(len(k), 1, device=self.device), weights], dim=1)
        return target / target.sum(dim=1, keepdim=True)
