"""Ten steps of `Training` beside a plain PyTorch program, which knows nothing of the package.

The program shares with the run its first weights, the pixels of its views, and who is mixed with
whom; all else is its own, written as the papers have it: bank, moving average, targets, losses,
optimizer, learning rates and schedules.
"""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from maskcon.config import resolve
from maskcon.train.state import Training
from maskcon.train.step import Batch

STEPS, N, M = 10, 16, 40
OPTIONS: dict[str, Any] = {
    **{"backbone": "resnet10w8", "image_size": 16, "projection": 8, "precision": "fp32"},
    **{"epochs": 3, "warmup_epochs": 0.75, "batch_size": N, "bank_size": M, "ema": 0.9},
}


class Plain:
    """Networks, bank and optimizer of a run, and one function for a step of each method."""

    def __init__(self, run: Training):
        self.query = copy.deepcopy(run.encoder).train()
        self.key = copy.deepcopy(run.encoder).train()
        self.speed = [torch.zeros_like(p) for p in self.query.parameters()]
        self.bank, self.labels = torch.empty(0, 8), torch.empty(0, dtype=torch.long)
        self.mean, self.std = (
            torch.tensor(x).view(3, 1, 1) for x in (run.preprocessing.mean, run.preprocessing.std)
        )
        self.lr, self.total, self.warmup, self.done = run.config.lr, 3 * 6, 0.75 * 6, 0

    def pixels(self, views: Tensor) -> Tensor:
        return (views.float() / 255 - self.mean) / self.std

    def z(self, network: nn.Module, x: Tensor, head: str = "projector") -> Tensor:
        return normalize(getattr(network, head)(network.backbone(x)), dim=1)

    def enqueue(self, keys: Tensor, labels: Tensor) -> None:
        """First in, first out: the oldest are at the front."""
        self.bank = torch.cat([self.bank, keys])[-M:]
        self.labels = torch.cat([self.labels, labels])[-M:]

    def rate(self) -> float:
        if self.done < self.warmup:
            return self.lr * (self.done + 1) / (self.warmup + 1)
        past = (self.done - self.warmup) / (self.total - self.warmup)
        return self.lr * (1 + math.cos(math.pi * past)) / 2

    def learn(self, loss: Tensor) -> float:
        """SGD: momentum 0.9, weight decay 5e-4 on everything."""
        parameters = [*self.query.parameters()]
        for p, v, g in zip(
            parameters, self.speed, torch.autograd.grad(loss, parameters), strict=True
        ):
            v.mul_(0.9).add_(g + 5e-4 * p.detach())
            p.data.sub_(self.rate() * v)
        self.done += 1
        return loss.item()

    def keys(self, batch: Batch) -> Tensor:
        """The key encoder follows, then says what it sees of the key views."""
        for k, q in zip(self.key.parameters(), self.query.parameters(), strict=True):
            k.data.mul_(0.9).add_(0.1 * q.data)
        with torch.no_grad():
            return self.z(self.key, self.pixels(batch.key))

    def maskcon(self, batch: Batch, w: float = 0.8, tau: float = 0.1, t: float = 0.1) -> float:
        k = self.keys(batch)
        q = self.z(self.query, self.pixels(batch.query))
        logits = torch.cat([(q * k).sum(1, keepdim=True), q @ self.bank.T], 1) / t
        target = torch.zeros(N, 1 + M)
        for i in range(N):
            same = self.labels == batch.label[i]
            s = self.bank @ k[i]
            soft = torch.zeros(1 + M)
            soft[0] = 1
            if same.any():
                soft[1:][same] = ((s[same] - s[same].max()) / tau).exp()
            target[i] = w * soft / soft.sum()
            target[i, 0] += 1 - w
        loss = self.learn(cross_entropy(logits, target))
        self.enqueue(k, batch.label)
        return loss

    def sane(self, batch: Batch, t: float = 0.2, sharp: float = 0.8, lam: float = 0.5) -> float:
        mu = 1 - (math.cos(math.pi * self.done / self.total) + 1) / 2
        k = self.keys(batch)
        x, x_key = self.pixels(batch.query), self.pixels(batch.key)
        share = batch.share.view(N, 1, 1, 1)
        q = self.z(self.query, x)
        mixed = self.z(self.query, share * x + (1 - share) * x_key[batch.partner])
        every = torch.cat([k, self.bank])  # [N + M, D]
        hot, labels = torch.eye(N, N + M), torch.zeros(N, N + M)
        for i in range(N):
            s = every @ k[i] / (t * sharp)
            p = s.softmax(0)
            s[i] = -math.inf
            other = s.softmax(0)
            a, b = mu * p.max(), mu * other.max()
            labels[i] = (hot[i] + a * p + b * other) / (1 + a + b)
        share = share.view(N, 1)
        labels = share * labels + (1 - share) * labels[batch.partner]
        plain, soft = (
            cross_entropy(q @ every.T / t, hot),
            cross_entropy(mixed @ every.T / t, labels),
        )
        loss = self.learn((1 - lam) * plain + lam * soft)
        self.enqueue(k, batch.label)
        return loss

    def wcl(self, batch: Batch, t: float = 0.1) -> float:
        feature = [self.query.backbone(self.pixels(x)) for x in (batch.query, batch.key)]
        z = torch.cat([normalize(self.query.projector(f), dim=1) for f in feature])
        h = [normalize(self.query.grapher(f), dim=1) for f in feature]
        own = torch.eye(2 * N, dtype=torch.bool)
        other_view = torch.arange(2 * N).roll(N)
        loss = cross_entropy((z @ z.T / t).masked_fill(own, -math.inf), other_view)
        for anchors, seen in (h, h[::-1]):
            group = components(seen.detach())
            rows = []
            for i in range(N):
                others = [j for j in range(N) if j != i]
                log_p = (anchors[i] @ anchors[others].detach().T / t).log_softmax(0)
                rows.append(-log_p[[group[j] == group[i] for j in others]].mean())
            loss = loss + torch.stack(rows).mean() / 2
        return self.learn(loss)


def components(z: Tensor) -> list[int]:
    """Of the graph that joins every row to its nearest other row, by renaming."""
    nearest = (z @ z.T - 2 * torch.eye(len(z))).argmax(1).tolist()
    names = [*range(len(z))]
    for i, j in enumerate(nearest):
        names = [names[i] if name == names[j] else name for name in names]
    return names


@pytest.mark.parametrize(
    ("method", "options"),
    [
        # At a larger rate batch norm, units at their threshold and ties in the graph multiply what
        # rounding does, which is another on each kind of processor.
        ("maskcon", {"w": 0.8, "tau": 0.1, "lr": 1e-3}),
        ("sane", {"lr": 1e-3}),
        ("wcl", {"projection_hidden": 256, "lr": 1e-3}),
    ],
)
def test_ten_steps(method, options, tiny, one_thread):
    run = Training(resolve({**OPTIONS, "method": method, **options}), tiny)
    plain = Plain(run)
    step: Callable[[Batch], float] = getattr(plain, method)
    if run.pair is not None:  # real keys of random images, before the first step
        for label, views, known in [*run.batches.to_fill(M)]:
            with torch.no_grad():
                keys = plain.z(plain.key, plain.pixels(views))
            plain.enqueue(keys[known:], label[known:])
    run.fill_bank()
    rates = []
    for _ in range(STEPS):
        batch = run.batch()
        rates.append(run.lr)
        assert run.lr == pytest.approx(plain.rate(), rel=1e-9)
        expected = step(batch)
        assert run.step(batch).item() == pytest.approx(expected, rel=2e-5)
    assert max(rates) > rates[0]  # over the warm-up
    assert max(rates) > rates[-1]  # and down the cosine
    nets = [(run.encoder, plain.query), *([(run.pair.key, plain.key)] if run.pair else [])]
    for ours, theirs in nets:
        there = theirs.state_dict()
        for name, value in ours.state_dict().items():  # batch norms' statistics too
            torch.testing.assert_close(value, there[name], atol=2e-5, rtol=2e-4, msg=name)
    if run.bank is not None:
        order = (torch.arange(M) + int(run.bank.position)) % M
        torch.testing.assert_close(run.bank.z[order], plain.bank, atol=2e-5, rtol=1e-4)
        assert torch.equal(run.bank.label[order], plain.labels)
