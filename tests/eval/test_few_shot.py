"""Few-shot episodes beside a loop over them in plain numpy."""

import math

import numpy as np
import pytest
import torch

from maskcon.errors import InputError
from maskcon.eval import few_shot as module
from maskcon.eval.few_shot import accuracies, all_way, few_shot, five_way, within
from maskcon.eval.rows import by_class


def made(classes: int, of_each: int, width: int = 16, seed: int = 0, apart: float = 0.6):
    """Overlapping clusters in three coarse classes: features, fine, coarse."""
    random = np.random.default_rng(seed)
    fine = np.repeat(np.arange(classes), of_each)
    x = random.normal(size=(classes, width))[fine] * apart + random.normal(size=(len(fine), width))
    order = random.permutation(len(fine))
    x = torch.from_numpy(x[order] / np.linalg.norm(x[order], axis=1, keepdims=True)).float()
    fine = torch.from_numpy(fine[order])
    return x, fine, fine % 3


def loop(x: np.ndarray, rows: np.ndarray, shot: int) -> float:
    """Accuracy of one episode."""
    right = 0
    centroids = [np.mean([x[row] for row in own[:shot]], axis=0) for own in rows]
    for own, members in enumerate(rows):
        for row in members[shot:]:
            distances = [((x[row] - centroid) ** 2).sum() for centroid in centroids]
            right += int(np.argmin(distances)) == own
    return right / (len(rows) * (len(rows[0]) - shot))


@pytest.mark.parametrize("shot", [1, 5])
@pytest.mark.parametrize("elements", [2**24, 3000])
def test_accuracies_agree_with_a_loop(shot, elements, monkeypatch):
    monkeypatch.setattr(module, "ELEMENTS", elements)
    x, fine, coarse = made(9, 30)
    random = torch.Generator().manual_seed(3)
    members = by_class(fine)
    inside = [[m for m in members if coarse[m[0]] == c] for c in range(3)]
    for drawn in (
        five_way(members, shot + 15, 12, random),
        all_way(members, shot + 15, 12, random),
        within(inside, shot + 15, 12, random),
    ):
        count = 0
        for rows in drawn:
            expected = [loop(x.double().numpy(), episode, shot) for episode in rows.numpy()]
            np.testing.assert_allclose(accuracies(x, rows, shot), expected, atol=1e-12)
            count += len(rows)
        assert count == 12


def test_the_whole_agrees_with_a_loop_over_other_episodes():
    """Means over many episodes that numpy draws lie where the intervals say."""
    x, fine, coarse = made(9, 40)
    got = few_shot(x, fine, coarse, seed=1)
    random = np.random.default_rng(0)
    everything, plain = np.arange(9), x.double().numpy()
    ways = {
        "5-way": lambda: random.choice(9, 5, replace=False),
        "all-way": lambda: everything,
        "within": lambda: everything[everything % 3 == random.integers(3)],
    }
    for way, classes in ways.items():
        for shot in (1, 5):
            of_episode = []
            for _ in range(60):
                rows = [
                    random.choice(np.flatnonzero(fine.numpy() == c), shot + 15, replace=False)
                    for c in classes()
                ]
                of_episode.append(loop(plain, np.array(rows), shot))
            low, high = got["intervals"][f"{way}/{shot}-shot"]
            mean = got[f"{way}/{shot}-shot"]
            assert (low + high) / 2 == pytest.approx(mean)
            error = np.std(of_episode) / math.sqrt(60)
            assert abs(np.mean(of_episode) - mean) < 4 * error
            assert (high - low) / 2 == pytest.approx(1.96 * error * math.sqrt(60 / 1000), rel=0.45)


def test_episodes_are_drawn_as_they_should():
    fine = torch.arange(200) % 8
    fine[:40] = 0  # a larger class
    members = by_class(fine)
    random = torch.Generator().manual_seed(0)
    rows = torch.cat([*five_way(members, 16, 2000, random)])  # [2000, 5, 16]
    assert (fine[rows] == fine[rows[..., :1]]).all()
    assert rows.flatten(1).sort(1).values.diff(dim=1).min() > 0  # no image twice
    drawn = fine[rows[..., 0]].flatten().bincount()
    assert (drawn - 1250).abs().max() < 5 * math.sqrt(1250)  # each class as often
    of_first = rows[fine[rows[..., 0]] == 0].flatten().bincount(minlength=200)[members[0]]
    expected = drawn[0] * 16 / len(members[0])
    assert (of_first - expected).abs().max() < 5 * math.sqrt(expected)  # and each of its images


def test_the_seed_says_all():
    x, fine, coarse = made(6, 25)
    one, again = (few_shot(x, fine, coarse, episodes=50, seed=4) for _ in range(2))
    assert one == again
    assert one != few_shot(x, fine, coarse, episodes=50, seed=5)
    assert [*one][:-1] == [f"{w}/{s}-shot" for w in ("5-way", "all-way", "within") for s in (1, 5)]


def test_what_is_known_and_what_is_chance():
    fine = torch.arange(120) % 6
    apart = torch.eye(6)[fine]
    assert few_shot(apart, fine, episodes=20)["5-way/1-shot"] == 1
    equal = torch.ones(120, 4) / 2
    assert few_shot(equal, fine, episodes=20)["all-way/5-shot"] == pytest.approx(1 / 6)


def test_what_cannot_be_drawn_is_left_out():
    x, fine, _ = made(4, 20)
    assert {*few_shot(x, fine, fine, episodes=5)} == {
        *("all-way/1-shot", "all-way/5-shot", "intervals")
    }


def test_small_classes_are_one_message():
    x, fine, coarse = made(6, 19)
    with pytest.raises(InputError, match=r"take 20 images of a fine class, and 6 of 6 classes"):
        few_shot(x, fine, coarse)
    with pytest.raises(InputError, match="two fine classes or more"):
        few_shot(x, torch.zeros_like(fine))
    x, fine, coarse = made(2, 40)
    with pytest.raises(InputError, match="take 20 images"):  # a fine class in two coarse ones
        few_shot(x, fine, torch.arange(80) % 7)
