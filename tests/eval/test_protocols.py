"""Each protocol beside a slow, obvious oracle: loops, or scikit-learn."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.neighbors import KNeighborsClassifier

from maskcon.errors import InputError
from maskcon.eval import bootstrap, cluster, estimate, knn, precision, probe, recall, retrieval
from maskcon.eval import diagnostics as diagnostics
from maskcon.eval.graph import divided, leading, modularity, neighbour_graph
from maskcon.eval.retrieval import nearest_others, negatives_before
from tests.conftest import Told


def features(n: int, width: int = 8, seed: int = 0) -> torch.Tensor:
    x = torch.randn(n, width, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(x, dim=1)


def labels(n: int, classes: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(classes, (n,), generator=torch.Generator().manual_seed(seed))


def blobs(
    n: int, classes: int, width: int = 64, apart: float = 7, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Clusters on a part of the sphere, their means as many deviations apart; and their numbers."""
    random = np.random.default_rng(seed)
    base, *means = random.normal(size=(classes + 1, width)) / math.sqrt(width)
    deviation = 0.35 / math.sqrt(width)
    label = np.arange(n) % classes
    x = base + np.stack(means)[label] * (apart * deviation / math.sqrt(2))
    x = torch.from_numpy(x + deviation * random.normal(size=x.shape)).float()
    return torch.nn.functional.normalize(x, dim=1), torch.from_numpy(label)


# Recall


def sorted_others(x: torch.Tensor, i: int, candidates: list[int]) -> list[int]:
    return sorted((j for j in candidates if j != i), key=lambda j: -float(x[i] @ x[j]))


def test_recall_agrees_with_loops_among_all_and_within():
    x, fine = features(80), labels(80, 12)
    coarse = fine // 4
    found = recall.recall_at(recall.hits(x, fine, coarse, ks=(1, 2, 5)))
    for k in (1, 2, 5):
        everything = [*range(80)]
        own = {c: [j for j in everything if coarse[j] == c] for c in range(3)}
        hit = [
            any(fine[j] == fine[i] for j in sorted_others(x, i, everything)[:k]) for i in range(80)
        ]
        near = [
            any(fine[j] == fine[i] for j in sorted_others(x, i, own[int(coarse[i])])[:k])
            for i in range(80)
        ]
        assert found[f"recall@{k}"] == pytest.approx(np.mean(hit))
        assert found[f"recall@{k}/within_coarse"] == pytest.approx(np.mean(near))


def test_recall_of_each_coarse_class_has_the_whole_as_its_weighted_mean():
    x, fine = features(90), labels(90, 9)
    coarse = (fine // 3) * 10
    hits = recall.hits(x, fine, coarse)
    whole, parts = recall.recall_at(hits), recall.recall_by_coarse(hits, coarse)
    assert sorted(parts) == [0, 10, 20]
    for name in ("recall@1", "recall@1/within_coarse"):
        total = sum(parts[c][name] * int((coarse == c).sum()) for c in parts)
        assert total / 90 == pytest.approx(whole[name])


@settings(max_examples=30, deadline=None)
@given(n=st.integers(2, 60), classes=st.integers(1, 12), groups=st.integers(1, 4))
def test_fewer_candidates_never_hide_a_class_mate(n, classes, groups):
    """Within the coarse class there are fewer strangers; with one coarse class, the same."""
    x, fine = features(n), labels(n, classes)
    before = negatives_before(x, fine)
    within = recall.strangers_within(x, fine, fine % groups)
    assert (within <= before).all()
    assert torch.equal(recall.strangers_within(x, fine, torch.zeros_like(fine)), before)


def test_a_k_beyond_the_candidates_is_left_out():
    x, fine = features(12), torch.tensor([0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2])
    coarse = fine  # classes of 3, 8 and 1 rows: the one is never found, and asks for no K
    found = recall.hits(x, fine, coarse)
    within = [f"recall@{k}/within_coarse" for k in (1, 2)]
    assert [*found] == [*(f"recall@{k}" for k in (1, 2, 5, 10)), *within]
    assert not found["recall@2/within_coarse"][11]
    assert found["recall@1/within_coarse"][:11].all()


def test_two_images():
    x = features(2)
    same, different = torch.tensor([3, 3]), torch.tensor([3, 4])
    assert recall.recall_at(recall.hits(x, same, same)) == {
        "recall@1": 1.0,
        "recall@1/within_coarse": 1.0,
    }
    assert recall.recall_at(recall.hits(x, different, different)) == {"recall@1": 0.0}
    assert precision.precision_at_r(x, same)["map@r"] == 1.0
    assert diagnostics.uniformity(x) == pytest.approx(
        -2 * float((x[0] - x[1]).square().sum()), abs=1e-5
    )
    assert diagnostics.alignment(x, same) == pytest.approx(
        float((x[0] - x[1]).square().sum()), abs=1e-5
    )


# MAP@R and R-precision


def loop_precisions(x: torch.Tensor, label: torch.Tensor) -> dict[str, float]:
    averages, precisions, left_out = [], [], 0
    for i in range(len(x)):
        r = int((label == label[i]).sum()) - 1
        if r == 0:
            left_out += 1
            continue
        hits = [bool(label[j] == label[i]) for j in sorted_others(x, i, [*range(len(x))])[:r]]
        precisions.append(sum(hits) / r)
        averages.append(sum(sum(hits[: j + 1]) / (j + 1) for j in range(r) if hits[j]) / r)
    return {
        "map@r": float(np.mean(averages)),
        "r_precision": float(np.mean(precisions)),
        "map@r/left_out": float(left_out),
    }


@pytest.mark.parametrize("classes", [1, 3, 15, 40])
def test_precision_agrees_with_a_loop(classes):
    x, label = features(60), labels(60, classes)
    assert precision.precision_at_r(x, label) == pytest.approx(loop_precisions(x, label))


@settings(max_examples=30, deadline=None)
@given(n=st.integers(4, 40), classes=st.integers(1, 3), elements=st.integers(1, 500))
def test_chunks_do_not_change_precisions(n, classes, elements):
    x, label = features(n), labels(n, classes)
    expected = precision.query_precisions(x, label)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retrieval, "ELEMENTS", elements)
        found = precision.query_precisions(x, label)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, equal_nan=True)


def test_a_duplicate_of_another_class_comes_first():
    """Self is left out by index, and a tie counts against the query."""
    x = features(4)[[0, 0, 0, 1]]
    found = precision.precision_at_r(x, torch.tensor([0, 0, 1, 2]))
    # Each of the first two has its mate and a stranger equally near: the stranger is first.
    assert found == {"map@r": 0.0, "r_precision": 0.0, "map@r/left_out": 2.0}
    assert precision.precision_at_r(x, torch.tensor([0, 0, 0, 1]))["map@r"] == 1.0


@pytest.mark.parametrize("n", [3, 30, 301])
def test_a_collapsed_space_has_no_precision(n):
    x = features(1)[[0] * n]
    found = precision.precision_at_r(x, torch.arange(n) % 2)
    assert found["r_precision"] == pytest.approx(0, abs=1 / n)


def test_classes_of_one_image_only():
    with pytest.raises(InputError, match="each of 5 images is alone in its class"):
        precision.precision_at_r(features(5), torch.arange(5))
    with pytest.raises(InputError, match="each of 5 images is alone in its class"):
        diagnostics.alignment(features(5), torch.arange(5))


# Intervals


def test_an_interval_is_that_of_a_binomial():
    """The mean of resampled hits is a binomial share, whose quantiles are known."""
    hit = torch.zeros(400, dtype=torch.bool)
    hit[:100] = True
    low, high = bootstrap.intervals({"a": hit}, resamples=4000)["a"]
    deviation = math.sqrt(0.25 * 0.75 / 400)
    assert low == pytest.approx(0.25 - 1.96 * deviation, abs=0.005)
    assert high == pytest.approx(0.25 + 1.96 * deviation, abs=0.005)


def test_intervals_are_those_of_a_loop_whatever_the_chunks(monkeypatch):
    value = torch.rand(50, generator=torch.Generator().manual_seed(0)).double()
    value[::7] = torch.nan
    hit = value > 0.5
    random = np.random.default_rng(3)
    draws = [random.integers(50, size=50) for _ in range(200)]
    expected = {
        name: [np.quantile([np.nanmean(v.numpy()[d]) for d in draws], q) for q in (0.025, 0.975)]
        for name, v in (("a", value), ("b", hit.double()))
    }
    for elements in (1, 170, 2**22):
        monkeypatch.setattr(bootstrap, "ELEMENTS", elements)
        found = bootstrap.intervals({"a": value, "b": hit}, resamples=200, seed=3)
        assert found == {name: pytest.approx(pair) for name, pair in expected.items()}


def test_intervals_of_nothing():
    with pytest.raises(InputError, match="values of \\[2, 3\\] queries"):
        bootstrap.intervals({"a": torch.ones(2), "b": torch.ones(3)})
    with pytest.raises(InputError, match="a mean of no query"):
        bootstrap.intervals({"a": torch.full((3,), torch.nan)})


# Weighted kNN


@pytest.mark.parametrize("k", [1, 7, 50])
@pytest.mark.parametrize("temperature", [0.05, 0.1, 1.0])
def test_knn_agrees_with_scikit_learn(k, temperature):
    train, y = features(150), labels(150, 6)
    test, truth = features(70, seed=5), labels(70, 6, seed=6)
    oracle = KNeighborsClassifier(
        k, metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / temperature)
    ).fit(train.double().numpy(), y.numpy())
    expected = oracle.predict(test.double().numpy())
    found = knn.vote(knn.nearest_across(test, train, k), y, temperature)
    assert found.tolist() == expected.tolist()
    share = knn.knn(train, y, test, truth, k=k, temperature=temperature)
    assert share == {f"knn@{k}": pytest.approx(np.mean(expected == truth.numpy()))}


def test_few_train_images_all_vote():
    found = knn.knn(
        features(5), torch.zeros(5).long(), features(3), torch.zeros(3).long(), level="/coarse"
    )
    assert found == {"knn@5/coarse": 1.0}


@settings(max_examples=20, deadline=None)
@given(
    n=st.integers(1, 30), t=st.integers(1, 30), k=st.integers(1, 40), elements=st.integers(1, 200)
)
def test_chunks_do_not_change_votes(n, t, k, elements):
    train, test, y = features(n), features(t, seed=2), labels(n, 5)
    expected = knn.vote(knn.nearest_across(test, train, k), y)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retrieval, "ELEMENTS", elements)
        assert torch.equal(knn.vote(knn.nearest_across(test, train, k), y), expected)


def test_a_tiny_temperature_is_the_nearest_neighbour():
    train, test, y = features(40), features(30, seed=2), labels(40, 5)
    nearest = y[(test @ train.T).argmax(1)]
    assert torch.equal(knn.vote(knn.nearest_across(test, train, 20), y, 1e-6), nearest)


def test_votes_that_cannot_be_counted():
    with pytest.raises(InputError, match="a temperature of 0"):
        knn.vote(nearest_others(features(4), 2), torch.arange(4), 0)
    with pytest.raises(InputError, match="queries have 8 numbers each, the gallery 9"):
        knn.nearest_across(features(4), features(4, 9), 2)
    with pytest.raises(InputError, match="0 neighbours were asked for"):
        knn.nearest_across(features(4), features(4), 0)


# Linear probe


@pytest.mark.parametrize("strength", [1e-1, 1e-3])
def test_lbfgs_finds_the_optimum_of_scikit_learn(strength):
    x, y = blobs(300, 5, width=16, apart=2)
    x = x.double()
    x = (x - x.mean(0)) / x.std(0, correction=0)
    oracle = LogisticRegression(C=1 / (strength * 300), solver="newton-cg", tol=1e-10).fit(x, y)
    start = x.new_zeros(5, 17)
    weight = probe.lbfgs(probe.with_one(x), y, start, strength, gradient=1e-9)
    np.testing.assert_allclose(weight[:, :-1], oracle.coef_, atol=1e-4)
    # The bias has one free direction, since the softmax does not see what all classes share.
    bias, expected = weight[:, -1], torch.from_numpy(oracle.intercept_)
    torch.testing.assert_close(bias - bias.mean(), expected - expected.mean(), atol=1e-4, rtol=0)


def test_the_gradient_is_that_of_autograd():
    x, y = features(30).double(), labels(30, 4)
    weight = torch.randn(4, 8, dtype=torch.double, requires_grad=True)
    loss = torch.nn.functional.cross_entropy(x @ weight.T, y)
    loss.backward()
    found, gradient = probe.slope(x, y, weight.detach())
    torch.testing.assert_close(found, loss.detach())
    torch.testing.assert_close(gradient, weight.grad)


@pytest.mark.parametrize("solver", ["lbfgs", "sgd"])
def test_probes_are_as_good_as_scikit_learn_and_repeat(solver):
    x, y = blobs(1200, 6, width=32, apart=3)
    y = y * 3 + 5  # names of classes need not be 0, 1, ...
    train, test = slice(0, 800), slice(800, None)
    oracle = LogisticRegression(C=1, max_iter=2000)
    scale = x[train].std(0)
    expected = oracle.fit(x[train] / scale, y[train]).score(x[test] / scale, y[test])
    found = probe.linear_probe(x[train], y[train], x[test], y[test], solver=solver, seed=4)
    assert found["linear"] == pytest.approx(expected, abs=0.04)
    assert found == probe.linear_probe(x[train], y[train], x[test], y[test], solver=solver, seed=4)


def test_strength_is_chosen_on_a_held_out_tenth_unless_rows_are_few():
    x, y = blobs(600, 4, apart=2)
    assert probe.linear_probe(x, y, x, y)["linear/strength"] in probe.STRENGTHS
    assert probe.linear_probe(x[:19], y[:19], x, y)["linear/strength"] == probe.FEW_STRENGTH
    assert probe.linear_probe(x, y, x, y, strength=0.5)["linear/strength"] == 0.5


@pytest.mark.parametrize("solver", ["lbfgs", "sgd"])
def test_probes_of_what_cannot_be_told_apart(solver):
    """Equal features, one class, and a test class that train rows do not have."""
    x = features(1)[[0] * 20]
    y = torch.tensor([0] * 15 + [1] * 5)
    assert probe.linear_probe(x, y, x, y, solver=solver)["linear"] == 0.75
    one = torch.zeros(20).long()
    assert probe.linear_probe(features(20), one, features(20), one, solver=solver)["linear"] == 1
    assert (
        probe.linear_probe(features(20), one, features(20), one + 1, solver=solver)["linear"] == 0
    )


def test_a_probe_tells_how_far_it_is():
    for solver in ("lbfgs", "sgd"):
        told = Told()
        probe.linear_probe(
            features(40), labels(40, 2), features(4), labels(4, 2), solver=solver, progress=told
        )
        assert told.updates[0].startswith("linear probe: ")


@settings(max_examples=50, deadline=None)
@given(n=st.integers(1, 300), classes=st.integers(1, 20), seed=st.integers(0, 5))
def test_a_few_rows_of_each_class(n, classes, seed):
    label = labels(n, classes)
    tenth, half = probe.few(label, 0.1, seed), probe.few(label, 0.5, seed)
    counts = label.bincount(minlength=classes)
    expected = [max(1, round(0.1 * c)) if c else 0 for c in counts.tolist()]
    assert label[tenth].bincount(minlength=classes).tolist() == expected
    assert {*tenth.tolist()} <= {*half.tolist()}
    assert tenth.tolist() == sorted({*tenth.tolist()}) == probe.few(label, 0.1, seed).tolist()
    assert probe.few(label, 1.0, seed).tolist() == [*range(n)]


def test_a_probe_with_a_share_of_the_labels():
    x, y = blobs(1000, 5)
    for share, name in ((0.01, "linear@1%"), (0.1, "linear@10%")):
        found = probe.few_probe(x, y, x, y, share=share)
        rows = probe.few(y, share)
        assert found[name] == probe.linear_probe(x[rows], y[rows], x, y)["linear"]


def test_settings_that_no_probe_has():
    x, y = features(4), labels(4, 2)
    with pytest.raises(InputError, match="solver 'adam' is unknown"):
        probe.linear_probe(x, y, x, y, solver="adam")
    with pytest.raises(InputError, match="an L2 strength of -1"):
        probe.linear_probe(x, y, x, y, strength=-1)
    for share in (0, 1.1):
        with pytest.raises(InputError, match=f"a share of {share}"):
            probe.few(y, share)


# Clusters


def loop_accuracy(found: torch.Tensor, true: torch.Tensor) -> float:
    """Every way to match clusters with classes."""
    names, classes = found.unique().tolist(), true.unique().tolist()
    classes += [-1] * (len(names) - len(classes))  # clusters beyond the classes match nothing
    return max(
        float(
            np.mean([way[names.index(int(f))] == int(t) for f, t in zip(found, true, strict=True)])
        )
        for way in itertools.permutations(classes, len(names))
    )


@pytest.mark.parametrize(("found", "true"), [(3, 5), (5, 3), (4, 4), (1, 3), (3, 1)])
def test_agreement_is_that_of_every_matching(found, true):
    a, b = labels(40, found), labels(40, true, seed=2)
    scores = cluster.agreement(a, b)
    assert scores["accuracy"] == pytest.approx(loop_accuracy(a, b))
    assert scores["nmi"] == pytest.approx(normalized_mutual_info_score(b, a))
    assert scores["ari"] == pytest.approx(adjusted_rand_score(b, a))


@settings(max_examples=30, deadline=None)
@given(n=st.integers(2, 50), classes=st.integers(1, 6), shift=st.integers(1, 9))
def test_agreement_does_not_see_names(n, classes, shift):
    true = labels(n, classes)
    perfect = cluster.agreement((true * 7 + shift) % 11, true)
    assert perfect == pytest.approx({"nmi": 1.0, "ari": 1.0, "accuracy": 1.0})


def test_clear_clusters_are_found_and_repeat():
    x, y = blobs(200, 4)
    found = cluster.clusters(x, 4)
    assert cluster.agreement(found, y)["accuracy"] == 1
    assert torch.equal(found, cluster.clusters(x, 4))


def test_clusters_inside_coarse_classes():
    x, fine = blobs(300, 6)
    coarse = fine // 3
    joined = cluster.clusters_within(x, coarse, {0: 3, 1: 3})
    assert {*joined[coarse == 0].tolist()} == {0, 1, 2}
    assert {*joined[coarse == 1].tolist()} == {3, 4, 5}
    found = cluster.agreement_within(joined, fine, coarse)
    assert found["ari/within_coarse"] == found["ari/within_coarse/mean"] == 1


def test_what_coarse_labels_give_away_is_not_in_the_mean():
    """Clusters drawn by lot inside two coarse classes: above chance over all, not within."""
    fine = labels(2000, 4)
    coarse, lot = fine // 2, labels(2000, 2, seed=7)
    found = cluster.agreement_within(coarse * 2 + lot, fine, coarse)
    assert found["ari/within_coarse"] > 0.3
    assert found["ari/within_coarse/mean"] == pytest.approx(0, abs=0.01)
    assert "ari/within_coarse/mean" not in cluster.agreement_within(coarse, coarse, coarse)


def test_the_protocol_of_clustering():
    x, fine = blobs(400, 4)
    found = cluster.clustering(x, fine, fine // 2)
    names = ["nmi", "ari", "accuracy", "clusters"]
    names += [f"{a}/within_coarse" for a in names[:3]] + ["ari/within_coarse/mean"]
    ends = {"clusters/estimated/low", "clusters/estimated/high"}
    assert {*found} == {*names, *(f"{a}/estimated" for a in names)} | ends
    assert found["clusters/estimated/low"] <= 4 <= found["clusters/estimated/high"]
    assert found["clusters"] == found["clusters/estimated"] == 4
    assert all(found[name] == 1 for name in found if not name.startswith("clusters"))
    assert not any("within" in name for name in cluster.clustering(x, fine))


def test_more_clusters_than_different_rows():
    x = features(2)[[0, 0, 0, 1]]
    assert cluster.clusters(x, 4).unique().tolist() == [0, 1]
    assert cluster.clusters(x[:3], 2).unique().tolist() == [0]
    with pytest.raises(InputError, match="0 clusters were asked for"):
        cluster.clusters(x, 0)


# Diagnostics


def test_coarse_accuracy_leaves_the_row_itself_out():
    x, coarse = features(60), labels(60, 3)
    right = 0
    for i in range(60):
        votes = [0.0] * 3
        for j in sorted_others(x, i, [*range(60)])[:9]:
            votes[int(coarse[j])] += math.exp(float(x[i] @ x[j]) / 0.1)
        right += votes.index(max(votes)) == int(coarse[i])
    assert diagnostics.coarse_accuracy(x, coarse, k=9) == pytest.approx(right / 60)
    assert diagnostics.coarse_accuracy(x[:2], torch.tensor([0, 1])) == 0


def test_effective_rank_is_that_of_the_singular_values():
    x = features(50, 12) * torch.arange(1, 13)
    s = torch.linalg.svdvals(x.double() - x.double().mean(0))
    p = s / s.sum()
    assert diagnostics.effective_rank(x) == pytest.approx(math.exp(-(p * p.log()).sum()), rel=1e-6)


def test_effective_rank_of_known_spaces():
    axes = torch.cat([torch.eye(6), -torch.eye(6)])
    assert diagnostics.effective_rank(axes) == pytest.approx(6)
    angles = torch.linspace(0, 1, 9)
    line = torch.stack([angles, 2 * angles, torch.ones(9)], 1)
    assert diagnostics.effective_rank(line) == pytest.approx(1, abs=1e-4)
    assert diagnostics.effective_rank(features(1)[[0] * 7]) == 0


@settings(max_examples=30, deadline=None)
@given(n=st.integers(3, 40), classes=st.integers(1, 2), elements=st.integers(1, 300))
def test_alignment_and_uniformity_agree_with_all_pairs(n, classes, elements):
    x, label = features(n), labels(n, classes)
    squared = torch.cdist(x.double(), x.double()).square()
    pairs = torch.ones(n, n).triu(1).bool()
    same = pairs & (label[:, None] == label)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retrieval, "ELEMENTS", elements)
        assert diagnostics.alignment(x, label) == pytest.approx(
            squared[same].mean().item(), abs=1e-6
        )
        expected = (-2 * squared[pairs]).exp().mean().log().item()
        assert diagnostics.uniformity(x) == pytest.approx(expected, abs=1e-5)


def test_a_collapsed_space_is_aligned_and_not_uniform():
    x = features(1)[[0] * 20]
    found = diagnostics.diagnostics(x, labels(20, 2), labels(20, 4))
    assert found["alignment"] == pytest.approx(0, abs=1e-9)
    assert found["uniformity"] == pytest.approx(0, abs=1e-5)
    assert found["effective_rank"] == 0


def test_diagnostics_know_alignment_only_of_pairs():
    x = features(5)
    everything = {"coarse_accuracy", "effective_rank", "uniformity", "alignment"}
    assert {*diagnostics.diagnostics(x, labels(5, 2), labels(5, 3))} == everything
    assert {*diagnostics.diagnostics(x, labels(5, 2), torch.arange(5))} == everything - {
        "alignment"
    }
    assert {*diagnostics.diagnostics(x, labels(5, 2))} == everything - {"alignment"}


# Rows


@pytest.mark.parametrize(
    "protocol",
    [
        lambda x, y: recall.hits(x, y, y),
        precision.precision_at_r,
        lambda x, y: knn.knn(x, y, x, y),
        lambda x, y: probe.linear_probe(x, y, x, y),
        cluster.clustering,
        diagnostics.diagnostics,
    ],
)
def test_rows_that_cannot_be_judged(protocol):
    x, y = features(6), labels(6, 2)
    broken = x.clone()
    broken[3, 3] = torch.nan
    with pytest.raises(InputError, match="features are not finite: the encoder that made them"):
        protocol(broken, y)
    with pytest.raises(InputError, match=r"6 \w+ images have labels of shape \[5\]; give one"):
        protocol(x, y[:5])
    with pytest.raises(InputError, match=r"features are torch.float32 \[6, 8, 1\]; give"):
        protocol(x[:, :, None], y)
    with pytest.raises(InputError, match="give whole numbers"):
        protocol(x, y.float())
    with pytest.raises(InputError, match="images are too few: this protocol needs"):
        protocol(x[:0], y[:0])


# The number of clusters


@pytest.mark.parametrize(("number", "width"), [(2, 64), (3, 64), (5, 256), (8, 64)])
def test_clear_clusters_are_counted(number, width):
    x, _ = blobs(500, number, width, apart=8, seed=number)
    found = estimate.estimate_clusters(x)
    assert found.number == found.low == found.high == number
    assert found.excess > 0.05
    assert found == estimate.estimate_clusters(x)


def test_a_cloud_without_clusters_is_divided_no_better_than_a_gaussian():
    x, _ = blobs(400, 1)
    assert abs(estimate.estimate_clusters(x, subsamples=0).excess) < 0.05


def test_modularity_is_that_of_its_definition():
    """1 / 2m sum over pairs of one cluster of A_ij - d_i d_j / 2m; and no neighbour is lost."""
    z = features(30).double().numpy()
    graph = neighbour_graph(z, 4)
    a = graph.toarray()
    similarity = z @ z.T - 9 * np.eye(30)
    joined = np.zeros((30, 30))
    for i, row in enumerate(similarity):
        joined[i, np.argsort(-row)[:4]] = 0.5
    np.testing.assert_array_equal(a, joined + joined.T)
    cluster = labels(30, 3).numpy()
    degree, total = a.sum(1), a.sum()
    expected = sum(
        a[i, j] - degree[i] * degree[j] / total
        for i in range(30)
        for j in range(30)
        if cluster[i] == cluster[j]
    )
    assert modularity(graph, cluster, 3) == pytest.approx(expected / total)


def test_leading_eigenvectors_are_those_of_the_whole_matrix():
    graph = neighbour_graph(features(200).double().numpy(), 8)
    scale = np.diag(graph.sum(1) ** -0.5)
    expected = np.linalg.eigh(scale @ graph.toarray() @ scale)[1][:, ::-1][:, :5]
    found = leading(graph, 5)  # 200 rows are enough for Lanczos
    np.testing.assert_allclose(np.abs((found * expected).sum(0)), 1, atol=1e-6)


def test_separate_graphs_are_divided_exactly():
    x, label = blobs(90, 3, apart=30)
    graph = neighbour_graph(estimate.reduced(x.numpy(), 20), 10)
    found = torch.from_numpy(divided(leading(graph, 3)))
    assert cluster.agreement(found, label)["accuracy"] == 1


@settings(max_examples=15, deadline=None)
@given(n=st.integers(2, 60), most=st.integers(2, 30), seed=st.integers(0, 3))
def test_estimates_of_a_few_rows(n, most, seed):
    found = estimate.estimate_clusters(features(n, seed=seed), most=most, subsamples=3)
    assert 1 <= found.low <= found.number <= found.high <= min(most, max(1, n // 2))
    assert [*found.scores] == [*range(1, min(most, max(1, n // 2)) + 1)]


def test_equal_rows_are_one_cluster():
    assert estimate.estimate_clusters(features(1)[[0] * 50]).number == 1
    pair = features(2)[[0] * 30 + [1] * 30]
    assert estimate.estimate_clusters(pair).number == 2


def test_many_rows_are_sampled(monkeypatch):
    x, _ = blobs(600, 4)
    monkeypatch.setattr(estimate, "ROWS", 200)
    assert estimate.estimate_clusters(x).number == 4


def test_estimates_that_cannot_be_made():
    with pytest.raises(InputError, match="at most 1 clusters were asked for"):
        estimate.estimate_clusters(features(9), most=1)
    with pytest.raises(InputError, match="a share of 0 were asked for"):
        estimate.estimate_clusters(features(9), share=0)
