"""Every fast way of making a step, against the plain one in float32."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from maskcon.config import Config, resolve
from maskcon.data import DataSet
from maskcon.data.images import InMemory
from maskcon.data.plans import StepPlan
from maskcon.errors import InputError
from maskcon.methods import METHODS, Output
from maskcon.model import own
from maskcon.runtime.progress import Silent
from maskcon.train.cuda_graph import Captured
from maskcon.train.gradient_cache import GradientCache, parts_of
from maskcon.train.state import Training
from maskcon.train.step import Batch, step
from tests.train.ranks_worker import Plain

SMALL: dict[str, Any] = {
    "backbone": "resnet10w16",
    "image_size": 8,
    "epochs": 3,
    "batch_size": 16,
    "bank_size": 40,
    "precision": "fp32",
    "lr": 1e-3,  # small, so that rounding does not send two trainings along different paths
}
CPU = torch.device("cpu")


def config(**changes: Any) -> Config:
    return resolve({**SMALL, **changes})


class Few(nn.Module):
    """A network of few layers, which a compiler is through with soon."""

    num_features = 16

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images).mean((2, 3))


def steps(training: Training, count: int = 5) -> list[float]:
    training.fill_bank()
    return [training.step(training.batch()).item() for _ in range(count)]


@pytest.mark.parametrize(
    ("method", "changes", "tolerance"),
    [
        *((method, {"precision": "bf16"}, 0.03) for method in ("maskcon", "coins")),
        *((method, {"precision": "fp16"}, 0.01) for method in ("maskcon", "coins")),
    ],
)
def test_losses_stay_close_to_float32(method, changes, tolerance, tiny):
    plain = steps(Training(config(method=method), tiny))
    fast = Training(config(method=method, **changes), tiny)
    assert steps(fast) == pytest.approx(plain, rel=tolerance)
    assert fast.compile_seconds == 0


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("method", "precision", "tolerance"), [("maskcon", "fp32", 1e-4), ("coins", "bf16", 0.03)]
)
def test_losses_stay_close_when_compiled(method, precision, tolerance, tiny, monkeypatch):
    """A compiler of C++ takes seconds for each layer."""
    monkeypatch.setitem(own.OWN, "few", Few)
    options = {"method": method, "backbone": "few"}
    plain = steps(Training(config(**options), tiny))
    fast = Training(config(**options, precision=precision, compile=True), tiny)
    assert steps(fast) == pytest.approx(plain, rel=tolerance)
    assert fast.compile_seconds > 0


def test_compiling_leaves_the_training_as_it_was(tiny, monkeypatch):
    """The zeros that the compiler is shown leave no trace in batch norms or gradients."""
    monkeypatch.setattr(torch, "compile", lambda network, dynamic: network)
    plain, compiled = (Training(config(compile=on), tiny) for on in (False, True))
    assert steps(plain) == steps(compiled)
    states = [training.pair.state_dict().values() for training in (plain, compiled)]
    assert all(map(torch.equal, *states))


def test_no_compiler(tiny, monkeypatch):
    def broken(network, dynamic):
        raise RuntimeError("no g++ found\nand much more")

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(InputError, match=r"does not work here \(no g\+\+ found\).*leave --compile"):
        Training(config(compile=True), tiny)


# --- parts of a batch ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "micro_batch"),
    [*((method, 5) for method in METHODS), *(("maskcon", size) for size in (1, 15, 16, 99))],
)
def test_parts_have_the_loss_and_gradient_of_the_batch(method, micro_batch, tiny, monkeypatch):
    """Without batch norm, which a third layer brings, there is no difference but rounding."""
    monkeypatch.setitem(own.OWN, "plain", Plain)
    monkeypatch.setitem(METHODS, method, replace(METHODS[method], projection_layers=2))
    size = 75 if METHODS[method].crops else 32  # whose small crops are of 32 px again
    options = {"method": method, "backbone": "plain", "image_size": size}
    whole, parts = (
        Training(config(**options, micro_batch=size), tiny) for size in (0, micro_batch)
    )
    for training in (whole, parts):
        training.fill_bank()
    for _ in range(2):
        batch = whole.batch()
        for a, b in zip(batch, parts.batch(), strict=True):
            assert (a is None and b is None) or torch.equal(a, b)
        torch.testing.assert_close(parts.step(batch), whole.step(batch))
    for a, b in zip(whole.encoder.parameters(), parts.encoder.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-5, rtol=1e-3)
    if whole.bank is not None:
        torch.testing.assert_close(whole.bank.z, parts.bank.z)


class Net(nn.Module):
    def __init__(self, *layers: nn.Module):
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Output:
        z = self.layers(x)
        self.seen.append(z.detach().clone())
        return Output(feature=x, z=z)


def backward(outputs: Sequence[Output]) -> Tensor:
    """A loss in which every row meets every other."""
    (output,) = outputs
    loss = (output.z @ output.z.T).logsumexp(1).mean()
    loss.backward()
    return loss.detach()


def test_batch_norm_is_updated_once_and_dropout_falls_alike():
    torch.manual_seed(0)
    net = Net(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5))
    before = copy.deepcopy(net)
    x = torch.randn(20, 4)
    parts = parts_of(x, 7)
    assert [len(part) for part in parts] == [7, 7, 6]
    torch.manual_seed(1)
    cache = GradientCache(net, net, 7)
    backward(cache.forward([x]))
    cache.backward()
    after = torch.rand(1)
    assert len(net.seen) == 6
    assert all(map(torch.equal, net.seen[:3], net.seen[3:]))
    torch.manual_seed(1)
    for part in parts:
        before(part)
    assert torch.equal(torch.rand(1), after)  # as much was drawn as by one pass
    for a, b in zip(net.buffers(), before.buffers(), strict=True):
        assert torch.equal(a, b)


def test_a_part_of_one_image(tiny):
    with pytest.raises(InputError, match=r"a batch of one image .* set --micro-batch larger"):
        Training(config(micro_batch=1), tiny)


# --- a GPU, as far as it can be tried without one ------------------------------------------------


@pytest.mark.parametrize("kinds", [("strong", "weak"), ("jitter", "perspective"), ("plain",)])
def test_views_of_several_steps_together_are_those_of_one_after_the_other(kinds, tiny):
    images = tiny.train.images
    rule = images.crop_rule(0.2, True)

    def made(together: int) -> list[tuple[Tensor, list[Tensor]]]:
        plan = StepPlan(rule, kinds, 16, 0)
        grouped = type("Grouped", (InMemory,), {"together": lambda self, batch_size: together})
        stream = grouped(images.pixels).views(plan, range(3, 14), size=16, workers=1, device=CPU)
        return [(rows.clone(), [view.clone() for view in of_step]) for rows, of_step in stream]

    alone = made(1)
    assert len(alone) == 11
    for together in (2, 4, 50):
        for (rows, here), (expected_rows, expected) in zip(made(together), alone, strict=True):
            assert torch.equal(rows, expected_rows)
            assert all(map(torch.equal, here, expected))


@pytest.mark.parametrize("method", list(METHODS))
def test_a_step_reads_only_its_inputs(method, tiny):
    """What a CUDA graph asks of a step: the same buffers, filled anew, give the same training."""
    plain, replayed = (Training(config(method=method), tiny) for _ in range(2))
    kept = []

    def replay(run: Training, batch: Batch) -> Tensor:
        if not kept:
            kept.append(Batch(*(None if x is None else torch.zeros_like(x) for x in batch)))
            kept.append(torch.zeros(()))
        for buffer, new in zip(kept[0], batch, strict=True):
            if buffer is not None:
                buffer.copy_(new)
        return kept[1].copy_(step(run, kept[0]))

    replayed._run = replay
    assert steps(plain, 4) == steps(replayed, 4)
    assert torch.equal(plain.take_losses().values, replayed.take_losses().values)


gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("method", list(METHODS))
def test_a_graph_gives_the_losses_of_the_plain_step(method, precision, tiny):
    options = {"method": method, "precision": precision, "device": "cuda"}
    graphed, plain = (Training(config(**options), tiny) for _ in range(2))
    assert isinstance(graphed._run, Captured)
    plain._run = step
    assert steps(graphed, 10) == pytest.approx(steps(plain, 10), rel=1e-4)
    assert graphed._run._graph is not None
    assert torch.isfinite(torch.tensor(graphed.take_losses().mean()))


@gpu
def test_a_graph_goes_on_after_a_checkpoint(tiny):
    whole, parts = (Training(config(device="cuda"), tiny) for _ in range(2))
    expected = steps(whole, 16)
    steps(parts, 8)
    resumed = Training(config(device="cuda"), tiny)
    resumed.load_state_dict(parts.state_dict())
    losses = [resumed.step(resumed.batch()).item() for _ in range(8)]
    assert losses == pytest.approx(expected[8:], rel=1e-4)


@gpu
def test_what_cannot_be_recorded_runs_all_the_same():
    notes = []

    class Notes(Silent):
        def note(self, line: str) -> None:
            notes.append(line)

    def waits(x: Tensor) -> tuple[Tensor]:
        return (x * x.sum().item(),)

    captured = Captured(waits, torch.device("cuda"), Notes())
    x = torch.ones(3, device="cuda")
    assert all(captured(x)[0].tolist() == [3.0, 3.0, 3.0] for _ in range(6))
    assert len(notes) == 1
    assert "no CUDA graph of the step" in notes[0]


@gpu
def test_views_and_a_step_on_a_gpu_are_those_of_the_processor(tiny: DataSet):
    here, there = (Training(config(device=name), tiny) for name in ("cpu", "cuda"))
    for a, b in zip(here.batch(), there.batch(), strict=True):
        assert (a.int() - b.cpu().int()).abs().float().mean() < 0.01
    assert steps(there, 5) == pytest.approx(steps(here, 5), rel=1e-2)
