"""Few-shot episodes: new images told apart after one or five labelled ones of each fine class."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from maskcon.errors import InputError
from maskcon.eval.rows import by_class, check_rows
from maskcon.runtime.progress import Progress, Silent

SHOTS = (1, 5)  # labelled images of each class
QUERIES = 15  # of each class, that are judged
LEAST = max(SHOTS) + QUERIES  # images that a class needs
EPISODES = 1000
ELEMENTS = 2**24  # of the largest tensor in memory: 64 MiB
WAYS = 5  # classes of an episode that is not of all


def few_shot(
    features: Tensor,
    fine: Tensor,
    coarse: Tensor | None = None,
    *,
    shots: Sequence[int] = SHOTS,
    queries: int = QUERIES,
    episodes: int = EPISODES,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, float | dict[str, list[float]]]:
    """Accuracy over episodes of images that the nearest centroid of a few labelled ones names.

    An episode has some fine classes, of each a few labelled images and others that are judged:

        5-way     five classes, drawn anew in each episode
        all-way   all classes
        within    all classes of one coarse class, which is drawn in each episode

    A class's centroid is the mean of its labelled images' features, and an image is of the class
    whose centroid is nearest (Euclidean; SimpleShot with unit length, Wang et al., 2019). The
    episodes are those of ANCOR (Bukchin et al., CVPR 2021) and its successors.

    Args:
        features: [N, F] of unit length, of images that no training has seen.
        fine: fine label of each row [N].
        coarse: coarse label of each row [N]; without them there is nothing within.
        shots: labelled images of each class, each a setting of its own.
        queries: images of each class that are judged.
        episodes: of each setting.
        seed: of the episodes.
        progress: told how far it is.

    Returns:
        {"5-way/1-shot": mean accuracy, "5-way/5-shot", "all-way/1-shot", ..., "within/5-shot"}
        and "intervals", {name: [low, high]}: mean -+ 1.96 standard errors over the episodes,
        95 %. "5-way" is left out where there are fewer than five fine classes, "within" where no
        coarse class has two.

    Raises:
        InputError: features or labels that cannot be judged, a class with fewer images than an
            episode takes of it, or a single class.
    """
    check_rows(features, fine, coarse)
    features, fine = features.float(), fine.cpu()
    say = (progress or Silent()).update
    members = _members(fine, max(shots) + queries)
    of_coarse = [] if coarse is None else _inside(fine, coarse.cpu(), max(shots) + queries)
    found, spans = dict[str, float | dict[str, list[float]]](), dict[str, list[float]]()
    random = torch.Generator().manual_seed(seed)
    draws: dict[str, Callable[[int], Iterator[Tensor]]] = {
        "5-way": lambda size: five_way(members, size, episodes, random),
        "all-way": lambda size: all_way(members, size, episodes, random),
        "within": lambda size: within(of_coarse, size, episodes, random),
    }
    for way, shot in itertools.product(draws, shots):
        name = f"{way}/{shot}-shot"
        say(f"few-shot: {episodes:,} episodes of {name}")
        each = [accuracies(features, rows, shot) for rows in draws[way](shot + queries)]
        if each:
            accuracy = torch.cat(each)  # [episodes]
            error = 1.96 * accuracy.std(correction=0).item() / math.sqrt(episodes)
            found[name] = mean = accuracy.mean().item()
            spans[name] = [mean - error, mean + error]
    return {**found, "intervals": spans}


def _members(label: Tensor, least: int) -> list[Tensor]:
    """Rows of each class, each with enough of them; `InputError` where there are not."""
    members = by_class(label)
    if len(members) < 2:
        raise InputError("few-shot episodes need two fine classes or more, and there is one")
    small = [rows for rows in members if len(rows) < least]
    if small:
        fewest = min(small, key=len)
        raise InputError(
            f"few-shot episodes take {least} images of a fine class, and {len(small)} of "
            f"{len(members)} classes have fewer (label {int(label[fewest[0]])} has "
            f"{len(fewest)}): give more test images, or leave out few-shot"
        )
    return members


def _inside(fine: Tensor, coarse: Tensor, least: int) -> list[list[Tensor]]:
    """Rows of each fine class, for each coarse class that has two or more."""
    several = []
    for rows in by_class(coarse):
        inside = by_class(fine[rows])
        if len(inside) > 1:
            _members(fine[rows], least)  # a fine class may lie in several coarse ones
            several.append([rows[own] for own in inside])
    return several


def five_way(
    members: Sequence[Tensor], size: int, episodes: int, random: torch.Generator
) -> Iterator[Tensor]:
    """Episodes of five classes each: rows [E, 5, size] at a time; none of fewer than five classes.

    Args:
        members: rows of each class.
        size: images of each class, all of them different.
        episodes: how many.
        random: draws classes and images.
    """
    if len(members) < WAYS:
        return
    classes = torch.rand(episodes, len(members), generator=random).argsort(1)[:, :WAYS]
    yield from _drawn(members, classes, size, random)


def all_way(
    members: Sequence[Tensor], size: int, episodes: int, random: torch.Generator
) -> Iterator[Tensor]:
    """Episodes of all classes: rows [E, classes, size] at a time; as `five_way`."""
    yield from _drawn(members, torch.arange(len(members)).expand(episodes, -1), size, random)


def within(
    of_coarse: Sequence[Sequence[Tensor]], size: int, episodes: int, random: torch.Generator
) -> Iterator[Tensor]:
    """Episodes of all fine classes of one coarse class, which is drawn: rows [E, W, size].

    Args:
        of_coarse: for each coarse class, the rows of its fine classes; W differs among them.
        size: images of each class, all of them different.
        episodes: how many in all.
        random: draws coarse classes and images.
    """
    if not of_coarse:
        return
    drawn = torch.randint(len(of_coarse), (episodes,), generator=random)
    for count, members in zip(drawn.bincount(minlength=len(of_coarse)), of_coarse, strict=True):
        if count:
            yield from all_way(members, size, int(count), random)


def _drawn(
    members: Sequence[Tensor], classes: Tensor, size: int, random: torch.Generator
) -> Iterator[Tensor]:
    """`size` different rows of each of the classes [E, W]: [episodes, W, size], in chunks."""
    most = max(map(len, members))
    table = torch.stack([torch.cat([rows, rows.new_zeros(most - len(rows))]) for rows in members])
    absent = torch.arange(most) >= torch.tensor([len(rows) for rows in members])[:, None]
    for chunk in classes.split(max(1, ELEMENTS // (classes.shape[1] * most))):
        keys = torch.rand(*chunk.shape, most, generator=random)
        keys.masked_fill_(absent[chunk], 2)  # above any that is drawn: last
        yield table[chunk].gather(2, keys.topk(size, largest=False).indices)


def accuracies(features: Tensor, rows: Tensor, shot: int) -> Tensor:
    """Share of an episode's queries whose nearest centroid is their own class's: [E].

    Args:
        features: [N, F].
        rows: of each episode's classes [E, W, shot + queries], the labelled ones first.
        shot: labelled images of each class.
    """
    _, ways, size = rows.shape
    own = torch.arange(ways, device=features.device).repeat_interleave(size - shot)  # [W Q]
    found = []
    for chunk in rows.to(features.device).split(
        max(1, ELEMENTS // (rows[0].numel() * len(features[0])))
    ):
        centroid = features[chunk[..., :shot]].mean(2)  # [e, W, F]
        query = features[chunk[..., shot:]].flatten(1, 2)  # [e, W Q, F]
        # |q - c|^2 is least where q.c - |c|^2 / 2 is largest
        nearness = torch.baddbmm(
            centroid.square().sum(2)[:, None], query, centroid.mT, beta=-0.5
        )  # [e, W Q, W]
        found.append((nearness.argmax(2) == own).double().mean(1))
    return torch.cat(found).cpu()
