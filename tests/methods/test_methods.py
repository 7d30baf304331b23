"""Every method against slow loops in float64, and the exact relations between them."""

import inspect
import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from maskcon.errors import InputError
from maskcon.methods import METHODS, Lots, Mixed, Output, Step, targets
from maskcon.methods.graph import nearest_components
from maskcon.methods.mixing import of_mixed
from maskcon.methods.objective import Objective, check_hyper_parameters
from maskcon.model.heads import HEADS, Widths

N, M, D, C = 6, 11, 8, 4


def unit(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(x, dim=1).to(dtype)


def rows(output: Output, index: torch.Tensor) -> Output:
    """Some rows of all heads."""
    return Output(**{name: x[index] for name, x in output.tensors().items()})


def make_step(
    seed: int = 0, classes: int = C, dtype: torch.dtype = torch.float32, near: float = 0.0
) -> Step:
    """A random step; `near` pulls queries towards their keys."""
    random = torch.Generator().manual_seed(seed)
    key = unit(N, D, seed=seed + 1)
    query = torch.nn.functional.normalize(unit(N, D, seed=seed + 2) + near * key, dim=1)
    logits = torch.randn(N, classes, generator=random).to(dtype)
    other = Output(
        z=unit(N, D, seed=seed + 4).to(dtype), logits=logits, graph=unit(N, D, seed=seed + 5)
    )
    return Step(
        query=Output(
            feature=torch.randn(N, D, generator=random),
            z=query.to(dtype),
            logits=logits,
            graph=unit(N, D, seed=seed + 6).to(dtype),
        ),
        key=Output(z=key.to(dtype), graph=unit(N, D, seed=seed + 7).to(dtype)),
        label=torch.randint(classes, (N,), generator=random),
        bank_z=unit(M, D, seed=seed + 3).to(dtype),
        bank_label=torch.randint(classes, (M,), generator=random),
        prototypes=torch.randn(classes, D, generator=random),
        mixed=Mixed(
            other,
            share=torch.rand(N, generator=random),
            partner=(torch.arange(N) + torch.randint(1, N, (N,), generator=random)) % N,
        ),
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


def dot(a, b) -> float:
    return sum(float(x) * float(y) for x, y in zip(a, b, strict=True))


def scaled(x) -> list[float]:
    length = math.sqrt(dot(x, x))
    return [float(v) / length for v in x]


def softmax(x: list[float]) -> list[float]:
    top = max(x)
    e = [math.exp(v - top) for v in x]
    return [v / sum(e) for v in e]


def soft_loss(target: list[float], logits: list[float]) -> float:
    finite = max(logits)
    normaliser = finite + math.log(sum(math.exp(x - finite) for x in logits))
    return -sum(p * (x - normaliser) for p, x in zip(target, logits, strict=True) if p)


def loop_coins_original(step: Step, w: float, t_class: float, t: float) -> float:
    prototypes = [scaled(c) for c in step.prototypes]
    total = sum(
        soft_loss(
            [float(c == y) for c in range(len(prototypes))],
            [dot(q, c) / t_class for c in prototypes],
        )
        for q, y in zip(step.query.z, step.label, strict=True)
    )
    return loop_selfcon(step, t) + w * total / N


def loop_ancor(step: Step, t: float) -> float:
    prototypes = [scaled(c) for c in step.prototypes]

    def turned(x, y) -> list[float]:
        return scaled([float(a) - b for a, b in zip(x, prototypes[y], strict=True)])

    total = 0.0
    for i in range(N):
        y = int(step.label[i])
        q = turned(step.query.z[i], y)
        rows = [turned(step.key.z[i], y)]
        rows += [turned(step.bank_z[j], y) for j in range(M) if step.bank_label[j] == y]
        total += soft_loss([1.0] + [0.0] * (len(rows) - 1), [dot(q, r) / t for r in rows])
    return loop_cross_entropy(step) + total / N


def loop_confident(step: Step, tau: float, neighbours: float):
    def weights(i: int) -> list[float]:
        p = softmax([dot(step.key.z[i], row) / tau for row in step.bank_z])
        sure = 1 + sum(x * math.log(x) for x in p if x) / math.log(M)
        return [min(1.0, sure * neighbours * x) for x in p]

    return weights


def loop_ressl(step: Step, tau: float, t: float) -> float:
    total = 0.0
    for q, k in zip(step.query.z, step.key.z, strict=True):
        target = softmax([dot(k, row) / tau for row in step.bank_z])
        total += soft_loss(target, [dot(q, row) / t for row in step.bank_z])
    return total / N


def loop_sane(step: Step, tau_sharpen: float, mu: float, lam: float, t: float) -> float:
    keys = [*step.key.z, *step.bank_z]
    labels = []
    for i in range(N):
        s = [dot(step.key.z[i], a) / (t * tau_sharpen) for a in keys]
        p = softmax(s)
        q = softmax([x for j, x in enumerate(s) if j != i])
        q.insert(i, 0.0)
        z = 1 + mu * max(p) + mu * max(q)
        alpha, beta = mu * max(p) / z, mu * max(q) / z
        labels.append(
            [(1 - alpha - beta) * (j == i) + alpha * p[j] + beta * q[j] for j in range(len(keys))]
        )
    plain = mixed = 0.0
    for i in range(N):
        hot = [float(j == i) for j in range(len(keys))]
        plain += soft_loss(hot, [dot(step.query.z[i], a) / t for a in keys]) / N
        theta, j = float(step.mixed.share[i]), int(step.mixed.partner[i])
        label = [theta * a + (1 - theta) * b for a, b in zip(labels[i], labels[j], strict=True)]
        mixed += soft_loss(label, [dot(step.mixed.query.z[i], a) / t for a in keys]) / N
    return (1 - lam) * plain + lam * mixed


def loop_components(z: Tensor) -> list[int]:
    n = len(z)
    links = [max((j for j in range(n) if j != i), key=lambda j: dot(z[i], z[j])) for i in range(n)]
    graph = scipy.sparse.coo_matrix((np.ones(n), (np.arange(n), links)), shape=(n, n))
    return scipy.sparse.csgraph.connected_components(graph, directed=False)[1].tolist()


def loop_wcl(step: Step, t: float, neighbours: int = 0) -> float:
    both = [*step.query.z, *step.key.z]
    total = 0.0
    for i in range(2 * N):
        others = [j for j in range(2 * N) if j != i]
        hot = [float(j == (i + N) % (2 * N)) for j in others]
        total += soft_loss(hot, [dot(both[i], both[j]) / t for j in others]) / (2 * N)
    for own, other in (
        (step.query.graph, step.key.graph),
        (step.key.graph, step.query.graph),
    ):
        group = loop_components(other)
        for i in range(N):
            near = sorted(range(M), key=lambda j, i=i: -dot(other[i], step.bank_z[j]))
            crops = [step.bank_z[j] for j in near[:neighbours]]
            others = [j for j in range(N) if j != i]
            logits = [dot(own[i], row) / t for row in [*(own[j] for j in others), *crops]]
            hot = [float(group[j] == group[i]) for j in others] + [1.0] * len(crops)
            total += soft_loss([x / sum(hot) for x in hot], logits) / (2 * N)
    return total


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
    "coins_original": [
        ({"w": w, "t_class": t_class, "t": 0.1}, loop_coins_original)
        for w, t_class in ((0.5, 0.2), (2.0, 0.05))
    ],
    "ancor": [({"t": t}, loop_ancor) for t in (0.1, 0.2)],
    "ascl": [
        (
            {"tau": tau, "neighbours": n, "t": 0.1},
            lambda s, tau, neighbours, t: loop_contrast(
                s, loop_confident(s, tau, neighbours), w=1.0, t=t
            ),
        )
        for tau, n in ((0.05, 1.0), (0.05, 5.0), (0.5, 1.0))
    ],
    "ressl": [({"tau": tau, "t": t}, loop_ressl) for tau, t in ((0.04, 0.1), (0.5, 0.2))],
    "sane": [
        ({"tau_sharpen": sharp, "mu": mu, "lam": lam, "t": 0.2}, loop_sane)
        for sharp, mu, lam in ((0.8, 1.0, 0.5), (1.0, 10.0, 1.0), (0.3, 0.0, 0.5), (0.8, 1.0, 0.0))
    ],
    "wcl": [({"t": t}, loop_wcl) for t in (0.1, 0.5)],
    "wcl_crops": [({"t": 0.1, "neighbours": n}, loop_wcl) for n in (1, 4)],
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


def in_lots(step: Step, relation: list[list[int]], label: list[int], seed: int) -> Step:
    """A step whose rows are drawn from lots."""
    random = torch.Generator().manual_seed(seed)
    drawn = (torch.randint(len(label), (n,), generator=random) for n in (N, M))
    lots = Lots(torch.tensor(label), torch.tensor(relation, dtype=torch.uint8))
    return replace(step, lots=lots, **dict(zip(("label", "bank_label"), drawn, strict=True)))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ["maskcon", "grafit", "supcon"])
def test_what_a_person_said_agrees_with_loops(name, seed):
    d, o, s = targets.DIFFERENT, targets.OPEN, targets.SAME
    relation = [[s, d, o, d], [d, o, s, d], [o, s, s, d], [d, d, d, o]]
    step = in_lots(make_step(seed), relation, [0, 0, 0, 1], seed)

    def weights(i: int) -> list[float]:
        known = [relation[int(step.label[i])][int(b)] for b in step.bank_label]
        near = [float(step.key.z[i].double() @ row.double()) for row in step.bank_z]
        top = max((x for x, k in zip(near, known, strict=True) if k != d), default=0.0)
        open_ = (lambda x: math.exp((x - top) / 0.05)) if name == "maskcon" else (lambda x: 1.0)
        return [
            1.0 if k == s else 0.0 if k == d else open_(x) for x, k in zip(near, known, strict=True)
        ]

    hyper = METHODS[name].hyper_parameters
    found = METHODS[name].loss(step, **hyper).item()
    assert found == pytest.approx(loop_contrast(step, weights, w=hyper.get("w", 1.0), t=0.1), 2e-6)
    logits = torch.randn(N, 2, generator=torch.Generator().manual_seed(seed))
    step = replace(step, query=replace(step.query, logits=logits))
    coarse = replace(step, label=torch.tensor([0, 0, 0, 1])[step.label], lots=None)
    assert METHODS["supce"].loss(step).item() == METHODS["supce"].loss(coarse).item()


def test_nothing_said_is_the_rule_and_all_said_is_supcon_of_kinds():
    step = make_step(3)
    open_ = torch.where(torch.eye(C) > 0, targets.OPEN, targets.DIFFERENT)
    same = torch.where(torch.eye(C) > 0, targets.SAME, targets.DIFFERENT)
    for relation, name in ((open_, "maskcon"), (same, "supcon")):
        lots = Lots(torch.arange(C), relation.to(torch.uint8))
        taught = METHODS["maskcon"].loss(replace(step, lots=lots))
        assert taught.item() == pytest.approx(METHODS[name].loss(step).item(), rel=1e-6)


def loop_graph_gradient(step: Step, t: float, neighbours: int) -> list[Tensor]:
    """Of the graph heads of both views [N, D]: from each anchor alone, in closed form."""
    gradients = []
    for own, other in ((step.query.graph, step.key.graph), (step.key.graph, step.query.graph)):
        group, gradient = loop_components(other), torch.zeros(N, D, dtype=torch.float64)
        for i in range(N):
            near = sorted(range(M), key=lambda j, i=i: -dot(other[i], step.bank_z[j]))
            others = [j for j in range(N) if j != i]
            compared = [own[j] for j in others] + [step.bank_z[j] for j in near[:neighbours]]
            hot = [float(group[j] == group[i]) for j in others] + [1.0] * neighbours
            found = softmax([dot(own[i], row) / t for row in compared])
            for row, p, y in zip(compared, found, hot, strict=True):
                gradient[i] += (p - y / sum(hot)) * row.double() / t / (2 * N)
        gradients.append(gradient)
    return gradients


@pytest.mark.parametrize(("name", "neighbours"), [("wcl", 0), ("wcl_crops", 1), ("wcl_crops", 4)])
def test_rows_that_a_graph_anchor_is_compared_with_have_no_gradient(name, neighbours):
    step = make_step(3)
    by_loops = loop_graph_gradient(step, 0.1, neighbours)
    leaves = [step.query.graph.requires_grad_(), step.key.graph.requires_grad_()]
    hyper = {"neighbours": neighbours} if neighbours else {}
    METHODS[name].loss(step, t=0.1, **hyper).backward()
    for leaf, expected in zip(leaves, by_loops, strict=True):
        torch.testing.assert_close(leaf.grad.double(), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", sorted(ORACLES))
def test_gradients_of_queries_agree_with_differences_of_the_loops(name):
    """Keys, bank and targets stand still; NT-Xent's second view moves, as its first."""
    hyper, oracle = ORACLES[name][0]
    step = make_step(20)
    heads = {"query.z": step.query.z, "query.logits": step.query.logits}
    heads["mixed.query.z"] = step.mixed.query.z
    if name.startswith("wcl"):
        heads["key.z"] = step.key.z
    if name == "coins_original":
        heads["prototypes"] = step.prototypes
    for leaf in heads.values():
        leaf.requires_grad_()
    METHODS[name].loss(step, **hyper).backward()
    for what, leaf in heads.items():
        got = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        values, small = leaf.detach().double(), 1e-4
        for place in ((0, 0), (len(leaf) // 2, 1), (len(leaf) - 1, 3)):
            sides = []
            for sign in (1, -1):
                values[place] += sign * small
                sides.append(oracle(at(step, what, values), **hyper))
                values[place] -= sign * small
            difference = (sides[0] - sides[1]) / (2 * small)
            assert got[place].item() == pytest.approx(difference, abs=2e-5, rel=1e-3), (what, place)


def loop_ancor_of_projections(p, weight, bias, prototypes, step: Step, t: float) -> float:
    """`loop_ancor` of projections of any length and the classifier's weights, in float64."""
    logits = [
        [dot([max(v, 0.0) for v in row], w) + b for w, b in zip(weight, bias, strict=True)]
        for row in p.tolist()
    ]
    query = Output(
        z=torch.tensor([scaled(row) for row in p.tolist()], dtype=torch.float64),
        logits=torch.tensor(logits, dtype=torch.float64),
    )
    return loop_ancor(replace(step, query=query, prototypes=prototypes), t)


def test_ancor_through_its_classifier():
    """Linear(ReLU(p)) with bias, p before it is scaled; its rows stand still in the contrast."""
    step = make_step(9)
    classifier = HEADS["rectified_prototypes"].build(Widths(5, D, C))
    p = (2.5 * unit(N, D, seed=30)).requires_grad_()
    query = Output(z=torch.nn.functional.normalize(p, dim=1), logits=classifier(p))
    value = METHODS["ancor"].loss(replace(step, query=query, prototypes=classifier.weight), t=0.2)
    value.backward()
    leaves = [p, classifier.weight, classifier.bias]
    values = [leaf.detach().double() for leaf in leaves]
    still = values[1].clone()
    oracle = loop_ancor_of_projections(*values, still, step, 0.2)
    assert value.item() == pytest.approx(oracle, rel=2e-6, abs=1e-5)
    for leaf, changed in zip(leaves, values, strict=True):
        for place in range(0, leaf.numel(), 3):
            sides = []
            for small in (1e-5, -1e-5):
                changed.view(-1)[place] += small
                sides.append(loop_ancor_of_projections(*values, still, step, 0.2))
                changed.view(-1)[place] -= small
            difference = (sides[0] - sides[1]) / 2e-5
            assert leaf.grad.view(-1)[place].item() == pytest.approx(difference, abs=2e-5, rel=1e-3)


def at(step: Step, what: str, values: Tensor) -> Step:
    """The step with other values of one head, such as "mixed.query.z"."""
    part, _, rest = what.partition(".")
    if not rest:
        return replace(step, **{part: values})
    return replace(step, **{part: at(getattr(step, part), rest, values)})


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
    # the shared key set: the own key, and as a bank the other keys of the batch and the bank
    alone = sum(
        loss(
            "selfcon",
            replace(
                step,
                query=rows(step.query, torch.tensor([i])),
                key=rows(step.key, torch.tensor([i])),
                bank_z=torch.cat([step.key.z[:i], step.key.z[i + 1 :], step.bank_z]),
            ),
            t=0.2,
        )
        for i in range(N)
    )
    assert loss("sane", step, mu=0.0, lam=0.0) == pytest.approx(alone / N, abs=1e-5)
    assert loss("coins_original", step, w=0.0) == pytest.approx(loss("selfcon", step), abs=1e-6)


def test_ascl_without_confidence_is_selfcon_and_with_it_has_the_nearest_row():
    step = make_step(4)
    assert loss("ascl", step, tau=1e6) == pytest.approx(loss("selfcon", step), abs=1e-4)
    assert loss("ascl", step, neighbours=0.0) == pytest.approx(loss("selfcon", step), abs=1e-6)

    def nearest(i: int) -> list[float]:
        s = [dot(step.key.z[i], row) for row in step.bank_z]
        return [float(x == max(s)) for x in s]

    expected = loop_contrast(step, nearest, w=1.0, t=0.1)
    assert loss("ascl", step, tau=1e-4) == pytest.approx(expected, abs=1e-4)


def test_ressl_limits():
    """A sharp key asks for its nearest bank row; a flat one for all of them alike."""
    step = make_step(5)
    logits = (step.query.z @ step.bank_z.T / 0.1).log_softmax(1)
    nearest = (step.key.z @ step.bank_z.T).argmax(1)
    sharp = -logits[torch.arange(N), nearest].mean().item()
    assert loss("ressl", step, tau=1e-5) == pytest.approx(sharp, abs=1e-4)
    assert loss("ressl", step, tau=1e6) == pytest.approx(-logits.mean().item(), abs=1e-4)


def test_ancor_of_an_absent_class_is_cross_entropy():
    step = make_step(0)
    absent = replace(step, bank_label=torch.full((M,), C))
    padded = replace(absent, prototypes=torch.cat([step.prototypes, torch.ones(1, D)]))
    assert loss("ancor", padded) == pytest.approx(loss("supce", step), abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(2, 40), width=st.integers(1, 6))
def test_components_are_those_of_scipy(seed, n, width):
    z = unit(n, width, seed=seed)
    ours, theirs = nearest_components(z).tolist(), loop_components(z)
    assert len(set(zip(ours, theirs, strict=True))) == len(set(ours)) == len(set(theirs))
    assert min(ours.count(group) for group in ours) >= 2


@pytest.mark.parametrize("n", [2, 3, 17])
def test_components_of_equal_rows_are_one(n):
    assert len(set(nearest_components(unit(1, D).expand(n, D)).tolist())) == 1


# --- what can be added to a method -----------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["maskcon", "grafit", "selfcon", "coins", "ancor", "ascl", "ressl"]
)
def test_mixup_is_the_mixture_of_both_images_losses(name):
    """Row by row: a mixed query against its own targets, and against its partner's."""
    step = make_step(6)
    method = METHODS[name]
    expected = 0.0
    for i in range(N):
        theta, j = float(step.mixed.share[i]), int(step.mixed.partner[i])
        query = rows(step.mixed.query, torch.tensor([i]))
        for row, share in ((i, theta), (j, 1 - theta)):
            one = replace(
                step,
                query=query,
                key=rows(step.key, torch.tensor([row])),
                label=step.label[row : row + 1],
            )
            expected += share * method.loss(one).item() / N
    assert of_mixed(step, method.loss).item() == pytest.approx(expected, abs=1e-5)
    both = Objective(method, mixup=0.3)(step).item()
    assert both == pytest.approx(0.7 * loss(name, step) + 0.3 * expected, abs=1e-5)
    own = replace(step, mixed=replace(step.mixed, query=step.query, share=torch.ones(N)))
    assert of_mixed(own, method.loss).item() == pytest.approx(loss(name, step), abs=1e-5)


def test_cross_entropy_can_be_added():
    step = make_step(7)
    both = Objective(METHODS["maskcon"], ce_weight=0.3)
    assert both.heads == ("z", "logits")
    expected = loss("maskcon", step) + 0.3 * loss("supce", step)
    assert both(step).item() == pytest.approx(expected, abs=1e-6)
    assert Objective(METHODS["coins"], ce_weight=0.3).heads == ("z", "logits")
    assert Objective(METHODS["ancor"], ce_weight=0.3).heads == ("z", "rectified_prototypes")
    assert Objective(METHODS["selfcon"], ce_weight=0.3).labels


@pytest.mark.parametrize(
    ("name", "added", "message"),
    [
        ("sane", {"mixup": 0.5}, "set --lam in place of --mixup"),
        ("wcl", {"mixup": 0.5}, "no key encoder"),
        ("supce", {"mixup": 0.5}, "no key encoder"),
        ("maskcon", {"mixup": 1.0}, "mixup is 1.0: expected a share from 0 to below 1"),
        ("maskcon", {"ce_weight": -1.0}, "ce_weight is -1.0: expected 0 or more"),
    ],
)
def test_what_cannot_be_added(name, added, message):
    with pytest.raises(InputError, match=message):
        Objective(METHODS[name], **added)


@pytest.mark.parametrize(("name", "mixup"), [("sane", 0.0), ("maskcon", 0.5), ("coins", 0.5)])
def test_keys_that_ranks_share(name, mixup):
    """`batch_z`, `batch_label` and `own` say of a part of a batch what is in the whole of it."""
    step = make_step(8)
    objective = Objective(METHODS[name], mixup)
    partner = torch.tensor([4, 2, 0, 1, 5, 3])  # some of the other part
    whole = replace(step, mixed=replace(step.mixed, partner=partner))
    parts = [
        replace(
            step,
            query=rows(step.query, part),
            key=rows(step.key, part),
            label=step.label[part],
            batch_z=step.key.z,
            batch_label=step.label,
            own=part,
            mixed=Mixed(rows(step.mixed.query, part), step.mixed.share[part], partner[part]),
        )
        for part in (torch.arange(3), torch.arange(3, N))
    ]
    halves = [objective(part).item() for part in parts]
    assert sum(halves) / 2 == pytest.approx(objective(whole).item(), abs=1e-6)


def test_small_tau_halves_between_the_own_key_and_the_nearest_of_the_class():
    step = make_step(3, classes=2)

    def nearest_alone(i: int) -> list[float]:
        weights = loop_nearest(step, 1.0)(i)
        return [float(x == 1.0) for x in weights]

    expected = loop_contrast(step, nearest_alone, w=1.0, t=0.1)
    assert loss("maskcon", step, w=1.0, tau=1e-6) == pytest.approx(expected, abs=1e-5)


def test_an_absent_class_falls_back_to_the_own_key():
    step = make_step(0)
    absent = with_label(step, torch.full((N,), C + 5), step.bank_label)
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
    return replace(step, label=label, bank_label=bank_label)


def hard_steps(dtype: torch.dtype) -> dict[str, Step]:
    step = make_step(0, dtype=dtype)
    zeros, ones = torch.zeros(N).long(), torch.ones(M).long()
    same = unit(1, D).to(dtype)
    z = same.expand(N, D)
    duplicates = replace(
        with_label(step, zeros, ones * 0),
        query=replace(step.query, z=z, graph=z),
        key=Output(z=z, graph=z),
        bank_z=same.expand(M, D),
        prototypes=same.expand(C, D),  # on which every query lies
        mixed=replace(step.mixed, query=replace(step.query, z=z)),
    )
    return {
        "random": step,
        "absent classes": with_label(step, zeros, ones),
        "one class": with_label(step, zeros, ones * 0),
        "duplicates": duplicates,
        "far from the class": replace(duplicates, bank_z=-same.expand(M, D)),
    }


@pytest.mark.parametrize("name", list(METHODS))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_finite(name, dtype):
    taus = TAUS if "tau" in METHODS[name].hyper_parameters else [None]
    for what, step in hard_steps(dtype).items():
        for tau in taus:
            leaves = {n: x.clone().requires_grad_() for n, x in step.query.tensors().items()}
            live = replace(step, query=Output(**leaves))
            hyper = {} if tau is None else {"tau": tau}
            with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                value = METHODS[name].loss(live, **hyper)
            assert value.dtype == torch.float32
            value.backward()
            assert value.isfinite(), (what, tau)
            for leaf in leaves.values():
                assert leaf.grad is None or leaf.grad.isfinite().all(), (what, tau)


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
        "graph": step.query.graph,
        "prototypes": step.prototypes,
        "key z": step.key.z,
        "key graph": step.key.graph,
        "bank": step.bank_z,
        "mixed": step.mixed.query.z,
    }
    leaves = {n: x.clone().requires_grad_() for n, x in leaves.items()}
    query = Output(**{n: leaves[n] for n in ("feature", "z", "logits", "graph")})
    live = replace(
        step,
        query=query,
        key=Output(z=leaves["key z"], graph=leaves["key graph"]),
        bank_z=leaves["bank"],
        prototypes=leaves["prototypes"],
        mixed=replace(step.mixed, query=Output(z=leaves["mixed"])),
    )
    method = METHODS[name]
    method.loss(live).backward()
    reached = {n for n, x in leaves.items() if x.grad is not None and x.grad.abs().sum() > 0}
    expected = set(method.heads) | ({"mixed"} if method.mixes else set())
    if method.key == "shared":
        expected |= {f"key {head}" for head in method.heads}
    if name == "ancor":  # its classifier's logits are made of the prototypes; the contrast is not
        expected = {"z", "logits"}
    assert reached == expected


# --- what a person can get wrong -------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "hyper", "message"),
    [
        ("maskcon", {"tau": 0.0}, "tau is 0.0: expected a temperature above 0"),
        ("maskcon", {"t": -1.0}, "t is -1.0"),
        ("grafit", {"w": 1.5}, r"w is 1.5: expected a share in \[0, 1\]"),
        ("coins", {"w": -0.1}, "w is -0.1"),
        ("coins_original", {"t_class": 0.0}, "t_class is 0.0"),
        ("ancor", {"t": 0.0}, "t is 0.0"),
        ("ascl", {"neighbours": -1.0}, "neighbours is -1.0: expected 0 or more"),
        ("ressl", {"tau": 0.0}, "tau is 0.0"),
        ("sane", {"lam": 2.0}, "lam is 2.0"),
        ("sane", {"mu": "-1:1:cosine"}, "mu is -1.0: expected 0 or more"),
        ("sane", {"tau_sharpen": 1.1}, "tau_sharpen is 1.1: expected a factor above 0, up to 1"),
        ("wcl_crops", {"neighbours": 1.5}, "neighbours is 1.5: expected 1, 2, 3"),
        ("maskcon", {"tau": "0.5:0:cosine"}, "tau is 0.0: expected a temperature above 0"),
        ("maskcon", {"tau": "0.5:x"}, "tau is '0.5:x': expected a number, or a schedule"),
        ("maskcon", {"tau": "0.5:0.1:steps"}, "its shape one of linear, cosine"),
    ],
)
def test_hyper_parameters_out_of_range(name, hyper, message):
    with pytest.raises(InputError, match=message):
        check_hyper_parameters(Objective(METHODS[name]), hyper)


def test_a_step_that_lacks_something():
    step = make_step()
    with pytest.raises(InputError, match=r"step\.key\.z and step\.bank_z"):
        METHODS["selfcon"].loss(Step(query=step.query), t=0.1)
    with pytest.raises(InputError, match=r"step\.bank_label"):
        METHODS["supcon"].loss(Step(step.query, step.key, step.label, step.bank_z), t=0.1)
    with pytest.raises(InputError, match=r"step\.query\.logits"):
        METHODS["supce"].loss(Step(Output(z=step.query.z), label=step.label))
    wide = Step(step.query, step.key, step.label, unit(M, D + 1), step.bank_label)
    with pytest.raises(InputError, match="bank rows 9"):
        METHODS["maskcon"].loss(wide, w=1.0, tau=0.1, t=0.1)


def test_records_name_the_hyper_parameters_of_their_functions():
    """In the function's order; their defaults stand in the record alone."""
    for method in METHODS.values():
        parameters = inspect.signature(method.function).parameters.values()
        takes = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
        assert [*method.hyper_parameters] == [p.name for p in takes]
        assert all(p.default is p.empty for p in takes)
