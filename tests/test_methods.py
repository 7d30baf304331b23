"""Every method against slow loops in float64, and the exact relations between them."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from maskcon.cli.options import hyper_parameters
from maskcon.errors import InputError
from maskcon.methods import METHODS, Output, Step, check_hyper_parameters

N, M, D, C = 6, 11, 8, 4


def unit(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(x, dim=1).to(dtype)


def make_step(
    seed: int = 0, classes: int = C, dtype: torch.dtype = torch.float32, near: float = 0.0
) -> Step:
    """A random step; `near` pulls queries towards their keys."""
    random = torch.Generator().manual_seed(seed)
    key = unit(N, D, seed=seed + 1)
    query = torch.nn.functional.normalize(unit(N, D, seed=seed + 2) + near * key, dim=1)
    return Step(
        query=Output(
            feature=torch.randn(N, D, generator=random),
            z=query.to(dtype),
            logits=torch.randn(N, classes, generator=random).to(dtype),
        ),
        key=Output(z=key.to(dtype)),
        label=torch.randint(classes, (N,), generator=random),
        bank_z=unit(M, D, seed=seed + 3).to(dtype),
        bank_label=torch.randint(classes, (M,), generator=random),
    )


# --- the slow, obvious versions -------------------------------------------------------------


def loop_contrast(step: Step, weight_of_row, *, w: float, t: float) -> float:
    """Mean cross-entropy, entry by entry; weight_of_row(i) gives the M weights of query i."""
    q, k, bank = step.query.z.tolist(), step.key.z.tolist(), step.bank_z.tolist()
    total = 0.0
    for i in range(len(q)):
        logits = [sum(a * b for a, b in zip(q[i], row, strict=True)) / t for row in [k[i], *bank]]
        weights = weight_of_row(i)
        soft = [x / (1 + sum(weights)) for x in [1.0, *weights]]
        hard = [1.0] + [0.0] * len(weights)
        target = [w * s + (1 - w) * h for s, h in zip(soft, hard, strict=True)]
        top = max(logits)
        normaliser = top + math.log(sum(math.exp(x - top) for x in logits))
        total -= sum(p * (x - normaliser) for p, x in zip(target, logits, strict=True))
    return total / len(q)


def loop_same_class(step: Step):
    return lambda i: [float(b == step.label[i]) for b in step.bank_label]


def loop_nearest(step: Step, tau: float):
    def weights(i: int) -> list[float]:
        s = [float(step.key.z[i].double() @ row.double()) for row in step.bank_z]
        same = [bool(b == step.label[i]) for b in step.bank_label]
        if not any(same):
            return [0.0] * len(s)
        top = max(x for x, y in zip(s, same, strict=True) if y)
        return [math.exp((x - top) / tau) if y else 0.0 for x, y in zip(s, same, strict=True)]

    return weights


def loop_cross_entropy(step: Step) -> float:
    total = 0.0
    for row, label in zip(step.query.logits.tolist(), step.label.tolist(), strict=True):
        total += math.log(sum(math.exp(x) for x in row)) - row[label]
    return total / len(step.label)


def loop_selfcon(step: Step, t: float = 0.1) -> float:
    return loop_contrast(step, lambda i: [0.0] * M, w=1.0, t=t)


ORACLES = {
    "selfcon": [({"t": t}, lambda s, t: loop_selfcon(s, t)) for t in (0.07, 0.1, 1.0)],
    "supcon": [
        ({"t": t}, lambda s, t: loop_contrast(s, loop_same_class(s), w=1.0, t=t))
        for t in (0.1, 0.5)
    ],
    "grafit": [
        ({"w": w, "t": 0.1}, lambda s, w, t: loop_contrast(s, loop_same_class(s), w=w, t=t))
        for w in (0.2, 0.8, 1.0)
    ],
    "maskcon": [
        (
            {"w": w, "tau": tau, "t": 0.1},
            lambda s, w, tau, t: loop_contrast(s, loop_nearest(s, tau), w=w, t=t),
        )
        for w in (0.2, 1.0)
        for tau in (0.01, 0.05, 0.1, 0.5, 10.0)
    ],
    "coins": [
        (
            {"w": w, "t": 0.1},
            lambda s, w, t: w * loop_cross_entropy(s) + (1 - w) * loop_selfcon(s, t),
        )
        for w in (0.0, 0.5, 1.0)
    ],
    "supce": [({}, lambda s: loop_cross_entropy(s))],
}


def test_every_method_has_an_oracle():
    assert set(ORACLES) == set(METHODS)


@pytest.mark.parametrize(
    ("name", "hyper", "oracle"),
    [(name, hyper, oracle) for name, cases in ORACLES.items() for hyper, oracle in cases],
)
@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_loops(name, hyper, oracle, seed):
    step = make_step(seed * 10)
    assert METHODS[name].loss(step, **hyper).item() == pytest.approx(
        oracle(step, **hyper), rel=2e-6, abs=1e-5
    )


# --- relations -------------------------------------------------------------------------------


def loss(name: str, step: Step, **hyper: float) -> float:
    return METHODS[name].loss(step, **hyper).item()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), w=st.floats(0, 1), tau=st.floats(0.01, 1))
def test_relations(seed, w, tau):
    step = make_step(seed)
    assert loss("maskcon", step, w=0.0, tau=tau) == pytest.approx(loss("selfcon", step), abs=1e-5)
    assert loss("maskcon", step, w=w, tau=1e6) == pytest.approx(loss("grafit", step, w=w), abs=1e-4)
    assert loss("grafit", step, w=1.0) == loss("supcon", step)
    assert loss("coins", step, w=1.0) == loss("supce", step)
    mixed = w * loss("supcon", step) + (1 - w) * loss("selfcon", step)
    assert loss("grafit", step, w=w) == pytest.approx(mixed, abs=1e-5)


def test_small_tau_halves_between_the_own_key_and_the_nearest_of_the_class():
    step = make_step(3, classes=2)

    def nearest_alone(i: int) -> list[float]:
        weights = loop_nearest(step, 1.0)(i)
        return [float(x == 1.0) for x in weights]

    expected = loop_contrast(step, nearest_alone, w=1.0, t=0.1)
    assert loss("maskcon", step, w=1.0, tau=1e-6) == pytest.approx(expected, abs=1e-5)


def test_an_absent_class_falls_back_to_the_own_key():
    step = make_step(0)
    absent = Step(step.query, step.key, torch.full((N,), C + 5), step.bank_z, step.bank_label)
    for name in ("maskcon", "grafit", "supcon"):
        assert loss(name, absent) == pytest.approx(loss("selfcon", step), abs=1e-6)


def test_the_scale_of_the_target():
    """The target's closed form: w/(1+S) + 1-w on the key, w/(1+S) on the nearest, 0 elsewhere."""
    step = make_step(1, classes=2)
    q = step.query.z.clone().requires_grad_()
    live = Step(Output(z=q), step.key, step.label, step.bank_z, step.bank_label)
    w, t = 0.7, 0.1
    METHODS["maskcon"].loss(live, w=w, tau=0.05, t=t).backward()
    # d loss / d q = (softmax(logits) - target) [k | B] / (t N): solve for the target.
    for i in range(N):
        rows = torch.cat([step.key.z[i : i + 1], step.bank_z])
        softmax = (rows @ step.query.z[i] / t).softmax(0)
        weights = torch.tensor(loop_nearest(step, 0.05)(i))
        share = w / (1 + weights.sum())
        target = torch.cat([(share + 1 - w).view(1), share * weights])
        expected = (softmax - target) @ rows / (t * N)
        torch.testing.assert_close(q.grad[i], expected, atol=1e-5, rtol=1e-4)


# --- numbers that could break it -------------------------------------------------------------

TAUS = [1e-3, 1e-2, 0.05, 1.0, 1e3]


def with_label(step: Step, label: Tensor, bank_label: Tensor) -> Step:
    return Step(step.query, step.key, label, step.bank_z, bank_label)


def hard_steps(dtype: torch.dtype) -> dict[str, Step]:
    step = make_step(0, dtype=dtype)
    zeros, ones = torch.zeros(N).long(), torch.ones(M).long()
    same = unit(1, D).to(dtype)
    far = Step(
        Output(z=same.expand(N, D)),
        Output(z=same.expand(N, D)),
        zeros,
        -same.expand(M, D),
        ones * 0,
    )
    return {
        "random": step,
        "absent classes": with_label(step, zeros, ones),
        "one class": with_label(step, zeros, ones * 0),
        "duplicates": Step(
            Output(z=same.expand(N, D)),
            Output(z=same.expand(N, D)),
            zeros,
            same.expand(M, D),
            ones * 0,
        ),
        "far from the class": far,
    }


@pytest.mark.parametrize("name", ["selfcon", "supcon", "grafit", "maskcon"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_finite(name, dtype):
    taus = TAUS if name == "maskcon" else [None]
    for what, step in hard_steps(dtype).items():
        for tau in taus:
            q = step.query.z.clone().requires_grad_()
            live = Step(Output(z=q), step.key, step.label, step.bank_z, step.bank_label)
            hyper = {} if tau is None else {"tau": tau}
            with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                value = METHODS[name].loss(live, **hyper)
            assert value.dtype == torch.float32
            value.backward()
            assert value.isfinite(), (what, tau)
            assert q.grad.isfinite().all(), (what, tau)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", list(METHODS))
def test_autocast_does_not_round_the_loss(name, dtype):
    step = make_step(5)
    with torch.autocast("cpu", dtype):
        inside = loss(name, step)
    assert inside == loss(name, step)


@pytest.mark.parametrize("name", list(METHODS))
def test_gradients_reach_the_query_only(name):
    step = make_step(2)
    leaves = {
        "feature": step.query.feature,
        "z": step.query.z,
        "logits": step.query.logits,
        "key": step.key.z,
        "bank": step.bank_z,
    }
    leaves = {n: x.clone().requires_grad_() for n, x in leaves.items()}
    query = Output(feature=leaves["feature"], z=leaves["z"], logits=leaves["logits"])
    live = Step(query, Output(z=leaves["key"]), step.label, leaves["bank"], step.bank_label)
    METHODS[name].loss(live).backward()
    reached = {n for n, x in leaves.items() if x.grad is not None and x.grad.abs().sum() > 0}
    assert reached == set(METHODS[name].heads)


# --- what a person can get wrong -------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "hyper", "message"),
    [
        ("maskcon", {"tau": 0.0}, "tau is 0.0: expected a temperature above 0"),
        ("maskcon", {"t": -1.0}, "t is -1.0"),
        ("grafit", {"w": 1.5}, r"w is 1.5: expected a share in \[0, 1\]"),
        ("coins", {"w": -0.1}, "w is -0.1"),
    ],
)
def test_hyper_parameters_out_of_range(name, hyper, message):
    with pytest.raises(InputError, match=message):
        check_hyper_parameters(METHODS[name], hyper)


def test_a_step_that_lacks_something():
    step = make_step()
    with pytest.raises(InputError, match=r"step\.key\.z"):
        METHODS["selfcon"].loss(Step(query=step.query))
    with pytest.raises(InputError, match=r"step\.bank_label"):
        METHODS["supcon"].loss(Step(step.query, step.key, step.label, step.bank_z))
    with pytest.raises(InputError, match=r"step\.query\.logits"):
        METHODS["supce"].loss(Step(Output(z=step.query.z), label=step.label))
    wide = Step(step.query, step.key, step.label, unit(M, D + 1), step.bank_label)
    with pytest.raises(InputError, match="bank rows 9"):
        METHODS["maskcon"].loss(wide)


def test_the_command_line_reads_the_signatures():
    assert hyper_parameters() == {n: m.hyper_parameters for n, m in METHODS.items()}
