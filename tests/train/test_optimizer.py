"""Steps of every optimizer, beside the rule written out; what it is refused for; resuming."""

import io
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from maskcon import commands
from maskcon.config import resolve
from maskcon.errors import InputError
from maskcon.model.backbones import build_backbone
from maskcon.train.optimizer import capturable
from maskcon.train.state import Training
from tests.conftest import FAST

RULES = ("sgd", "sgd nesterov", "adamw", "lars", "lars nesterov")
LR, DECAY = 0.01, 0.05


def training(data, **changes: Any) -> Training:
    options = {**FAST, "epochs": 2, "lr": LR, "weight_decay": DECAY, "momentum": 0.8, **changes}
    options["optimizer"], *nesterov = options.get("optimizer", "sgd").split()
    options["nesterov"] = bool(nesterov)
    if options["optimizer"] == "adamw":
        del options["momentum"]
    made = Training(resolve(options), data)
    made.fill_bank()
    return made


class Rule:
    """What an optimizer does to one tensor, in float64."""

    def __init__(self, kind: str, decay: float, scale: float = 1.0):
        self.kind, *nesterov = kind.split()
        self.nesterov = bool(nesterov)
        self.decay, self.scale, self.steps = decay, scale, 0
        self.first: Tensor | float = 0.0
        self.second: Tensor | float = 0.0

    def __call__(self, p: Tensor, g: Tensor, lr: float) -> Tensor:
        self.steps += 1
        lr *= self.scale
        if self.kind == "adamw":
            self.first = 0.9 * self.first + 0.1 * g
            self.second = 0.999 * self.second + 0.001 * g * g
            mean, square = self.first / (1 - 0.9**self.steps), self.second / (1 - 0.999**self.steps)
            return p * (1 - lr * self.decay) - lr * mean / (square.sqrt() + 1e-8)
        trust = torch.tensor(1.0)
        if self.kind == "lars" and self.decay and p.norm() > 0 and g.norm() > 0:
            trust = 0.001 * p.norm() / (g.norm() + self.decay * p.norm() + 1e-8)
        step = trust * (g + self.decay * p)
        self.first = 0.8 * self.first + step
        return p - lr * (step + 0.8 * self.first if self.nesterov else self.first)


def follows(run: Training, rules: dict[str, Rule], steps: int = 3) -> None:
    """See that each parameter goes where its rule says, from gradients as the run has them."""
    named = dict(run.encoder.named_parameters())
    for _ in range(steps):
        before = {name: p.detach().double() for name, p in named.items()}
        lr = run.lr
        run.step(run.batch())
        for name, p in named.items():
            expected = rules[name](before[name], p.grad.double(), lr)
            torch.testing.assert_close(p.detach().double(), expected, atol=1e-6, rtol=1e-5)


def take_the_same_steps(first: Training, second: Training, steps: int) -> None:
    for _ in range(steps):
        assert torch.equal(first.step(first.batch()), second.step(second.batch()))
    states = (run.encoder.state_dict().values() for run in (first, second))
    assert all(map(torch.equal, *states))


@pytest.mark.parametrize("kind", RULES)
@pytest.mark.parametrize("decay_norms", [True, False])
def test_three_steps(kind, decay_norms, tiny):
    run = training(tiny, optimizer=kind, decay_norms=decay_norms)
    named = run.encoder.named_parameters()
    free = {} if decay_norms else {n for n, p in named if p.ndim == 1}
    rules = {n: Rule(kind, DECAY * (n not in free)) for n, _ in run.encoder.named_parameters()}
    assert decay_norms or any(name.endswith("bias") for name in free)
    follows(run, rules)


def test_sgd_is_torchs_to_the_bit(tiny):
    """One group, in the order of the parameters, fused, its rate a tensor: as it always was."""
    ours, plain = (training(tiny) for _ in range(2))
    plain.optimizer = torch.optim.SGD(
        [p for p in plain.encoder.parameters() if p.requires_grad],
        lr=torch.tensor(LR),
        momentum=0.8,
        weight_decay=DECAY,
        fused=True,
    )
    take_the_same_steps(ours, plain, 6)


@pytest.mark.parametrize("kind", RULES)
def test_layers_further_from_the_head_have_smaller_rates(kind, tiny):
    """Of a vision transformer: patches, then blocks, of which the last has the full rate."""
    vit = {"backbone": "timm/test_vit", "image_size": 160, "batch_size": 2, "bank_size": 4}
    run = training(tiny, optimizer=kind, layer_decay=0.5, decay_norms=False, **vit)
    names = [name for name, _ in run.encoder.named_parameters()]
    blocks = 1 + max(int(n.split(".")[2]) for n in names if n.startswith("backbone.blocks."))

    def away(name: str) -> int:
        if name.startswith("backbone.blocks."):
            return blocks - 1 - int(name.split(".")[2])
        return blocks if name.startswith("backbone.") and ".norm." not in name else 0

    free = {n for n, p in run.encoder.named_parameters() if p.ndim == 1}
    free |= {f"backbone.{n}" for n in run.encoder.backbone.no_weight_decay()}
    rules = {n: Rule(kind, DECAY * (n not in free), 0.5 ** away(n)) for n in names}
    assert {away(n) for n in names} == set(range(blocks + 1))
    follows(run, rules, steps=2)


def test_each_of_networks_side_by_side_exempts_what_it_does_alone(tiny):
    """What is alone exempt from weight decay, and has more than one dimension."""
    both = {"backbone": "resnet10w8+timm/test_vit", "image_size": 160}
    run = training(tiny, decay_norms=False, batch_size=2, bank_size=4, **both)
    vit = run.encoder.backbone.backbones[1]
    names = {p: n for n, p in run.encoder.named_parameters()}
    free = {names[p] for p in run.optimizer.param_groups[1]["params"] if p.ndim > 1}
    theirs = {name for name, _ in vit.named_parameters()} & vit.no_weight_decay()
    assert free == {f"backbone.backbones.1.{name}" for name in theirs}
    assert free


@pytest.mark.parametrize("kind", RULES)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_resumed_run_takes_the_same_steps(kind, precision, tiny):
    options = {"optimizer": kind, "decay_norms": False, "precision": precision, "lr": 1e-3}
    whole = training(tiny, **options)
    for _ in range(3):
        whole.step(whole.batch())
    file = io.BytesIO()
    torch.save(whole.state_dict(), file)
    file.seek(0)
    resumed = training(tiny, **options)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    take_the_same_steps(whole, resumed, 3)


@pytest.mark.parametrize("kind", RULES)
def test_which_steps_a_cuda_graph_can_repeat(kind, tiny):
    assert capturable(training(tiny, optimizer=kind).optimizer) == ("lars" not in kind)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"optimizer": "adamw", "momentum": 0.9}, "--momentum has no effect: AdamW has averages"),
        ({"optimizer": "adamw", "nesterov": True}, "--nesterov has no effect: AdamW has averages"),
        ({"nesterov": True, "momentum": 0.0}, "nesterov looks ahead along the momentum, which is"),
        ({"weight_decay": 0.0, "decay_norms": False}, "--decay-norms has no effect: --weight-dec"),
        ({"layer_decay": 0.75}, "--layer-decay has no effect: resnet10w8 does not say what its la"),
        ({"layer_decay": 0.75, "freeze": True, "init": "x.pt"}, "no layer of a backbone learns"),
        ({"layer_decay": 1.5}, "layer_decay is 1.5: expected above 0, up to 1"),
        ({"optimizer": "adam"}, "optimizer is 'adam': expected one of sgd, adamw, lars"),
        ({"projection_layers": 1, "projection_hidden": 9}, "--projection-hidden has no effect"),
        (
            {"projection_layers": 3, "projection": None, "bank_size": None, "method": "supce"},
            "--projection-l",
        ),
    ],
)
def test_what_has_no_effect_is_refused(options, said, tmp_path):
    with pytest.raises(InputError) as refused:
        commands.train(
            out=tmp_path / "x",
            **{n: v for n, v in {**FAST, "data": "glyphs", **options}.items() if v is not None},
        )
    assert said in str(refused.value)
    assert not (tmp_path / "x").exists()


def test_a_layer_decay_of_one_layer_has_no_effect(tiny, tmp_path):
    backbone, _ = build_backbone("timm/test_vit", size=160)
    save_file(backbone.state_dict(), tmp_path / "w.safetensors")
    vit = {"backbone": "timm/test_vit", "init": str(tmp_path / "w.safetensors"), "image_size": 160}
    with pytest.raises(InputError, match="--layer-decay has no effect: only the last"):
        training(tiny, layer_decay=0.75, unfreeze=1, **vit)
