"""Linear classifiers on frozen features, with all fine labels of the train set or a few of them."""

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from maskcon.errors import InputError
from maskcon.eval.rows import by_class, check_rows
from maskcon.runtime.progress import Progress, Silent

# L2 strengths to choose from, strong ones first, since each fit starts from the one before.
STRENGTHS = (1e-1, 1e-2, 1e-3, 1e-4)
FEW = 5  # train rows a class on average below which a held-out tenth says too little to choose by
FEW_STRENGTH = 1e-2  # then
ITERATIONS = 200  # of L-BFGS at most
GRADIENT = 1e-4  # the largest slope at which L-BFGS ends
EPOCHS, BATCH, MOMENTUM = 100, 256, 0.9  # of SGD


def linear_probe(
    train: Tensor,
    train_label: Tensor,
    test: Tensor,
    test_label: Tensor,
    *,
    solver: Literal["lbfgs", "sgd"] = "lbfgs",
    strength: float | None = None,
    seed: int = 0,
    name: str = "linear",
    progress: Progress | None = None,
) -> dict[str, float]:
    """Accuracy of a linear classifier that is trained on frozen features.

    Features are standardised with the mean and the standard deviation of the train rows. Then

    "lbfgs": multinomial logistic regression, mean cross-entropy + strength / 2 |W|^2 (no
        penalty on the bias), to convergence by full-batch L-BFGS. Where no strength is given,
        it is the one of `STRENGTHS` that is best on a tenth of the train rows, held out by the
        seed, with the strongest of equals; the last fit has all rows. With fewer than `FEW`
        rows a class there is nothing to spare, and it is `FEW_STRENGTH`.
    "sgd": 100 epochs of batches of 256, momentum 0.9, no penalty, a cosine to 0 from the rate
        1 / L, with L a bound on the curvature of the loss (half the largest eigenvalue of the
        features' covariance), so that features of any spectrum need no search for a rate.

    scikit-learn's LogisticRegression(C=1 / (strength * N)) has the same optimum as "lbfgs".

    Args:
        train: features [N, F]; everything is computed in their precision.
        train_label: classes [N].
        test: features [T, F].
        test_label: classes [T]; one without train rows is never predicted.
        solver: one of the two above.
        strength: of the penalty of "lbfgs", 0 or more.
        seed: of the held-out rows, or of the order of batches.
        name: of the result.
        progress: told how far it is.

    Returns:
        {"linear": accuracy}, and "linear/strength" for "lbfgs".

    Raises:
        InputError: rows that cannot be judged, an unknown solver, or a negative strength.
    """
    check_rows(train, train_label, name="train", least=1)
    check_rows(test, test_label, least=1)
    if solver not in ("lbfgs", "sgd"):
        raise InputError(f'solver {solver!r} is unknown; choose "lbfgs" or "sgd"')
    if strength is not None and not 0 <= strength < math.inf:
        raise InputError(f"an L2 strength of {strength} was given; give 0 or more")
    x, judged = standardised(train, test)
    classes, y = train_label.to(train.device).unique(return_inverse=True)
    found = {}
    if solver == "sgd":
        weight = sgd(x, y, len(classes), seed=seed, progress=progress)
    else:
        weight, found[f"{name}/strength"] = regression(x, y, len(classes), strength, seed, progress)
    predicted = classes[(judged @ weight.T).argmax(1)]
    share = (predicted == test_label.to(predicted.device)).double().mean().item()
    return {name: share, **found}


def standardised(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """Both with mean 0 and standard deviation 1 over the train rows, and a last column of ones.

    Returns:
        [N, F + 1] and [T, F + 1]; the weight of the last column is the bias.
    """
    mean, std = train.mean(0), train.std(0, correction=0)
    std = std.where(std > 1e-6, 1)  # a constant feature stays constant
    return with_one((train - mean) / std), with_one((test - mean) / std)


def regression(
    x: Tensor,
    y: Tensor,
    classes: int,
    strength: float | None,
    seed: int,
    progress: Progress | None,
) -> tuple[Tensor, float]:
    """Weights [C, F + 1] of logistic regression, and their strength, chosen where none is given."""
    start = x.new_zeros(classes, x.shape[1])
    if strength is None and len(y) < FEW * classes:
        strength = FEW_STRENGTH
    elif strength is None:
        strength, start = chosen(x, y, start, seed, progress)
    return lbfgs(x, y, start, strength, progress=progress), strength


def with_one(x: Tensor) -> Tensor:
    """The rows with a last column of ones, whose weight is the bias: [N, F + 1]."""
    return torch.cat([x, x.new_ones(len(x), 1)], 1)


def chosen(
    x: Tensor, y: Tensor, start: Tensor, seed: int, progress: Progress | None
) -> tuple[float, Tensor]:
    """The strength that is best on a held-out tenth, and its weights [C, F + 1]."""
    random = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(y), generator=random).to(y.device)
    order = order[y[order].argsort(stable=True)]  # a tenth of each class, as nearly as it goes
    held = torch.zeros(len(y), dtype=torch.bool, device=y.device)
    held[order[torch.randint(10, (1,), generator=random).item() :: 10]] = True
    fit_x, fit_y, held_x, held_y = x[~held], y[~held], x[held], y[held]
    best, weight = (-1.0, STRENGTHS[0], start), start
    for strength in STRENGTHS:
        weight = lbfgs(fit_x, fit_y, weight, strength, progress=progress)
        right = ((held_x @ weight.T).argmax(1) == held_y).double().mean().item()
        if right > best[0]:
            best = right, strength, weight
    return best[1], best[2]


def slope(x: Tensor, y: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy of logits x W^T, and its gradient in W.

    Args:
        x: [N, F].
        y: classes [N].
        weight: [C, F].
    """
    logits = x @ weight.T  # [N, C]
    logits -= logits.amax(1, keepdim=True)
    right = logits.gather(1, y[:, None]).mean()
    total = logits.exp_().sum(1, keepdim=True)
    logits /= total
    logits.scatter_add_(1, y[:, None], -torch.ones_like(total))
    return total.log().mean() - right, (logits.T @ x).div_(len(x))


@torch.no_grad()
def lbfgs(
    x: Tensor,
    y: Tensor,
    start: Tensor,
    strength: float,
    *,
    gradient: float = GRADIENT,
    progress: Progress | None = None,
) -> Tensor:
    """Weights [C, F + 1] of the least penalised cross-entropy, from `start`.

    Args:
        x: [N, F + 1], its last column ones.
        y: classes [N].
        start: weights [C, F + 1].
        strength: of the penalty on all columns but the last.
        gradient: the largest entry of the gradient at which the search ends.
        progress: told how far it is.
    """
    progress = progress or Silent()
    weight = start.clone()
    looks = 0

    def closure() -> Tensor:
        nonlocal looks
        looks += 1
        progress.update(f"linear probe: strength {strength:g}, look {looks} at {len(x):,} images")
        loss, weight.grad = slope(x, y, weight)
        weight.grad[:, :-1] += strength * weight[:, :-1]
        return loss + strength / 2 * weight[:, :-1].square().sum()

    torch.optim.LBFGS(
        [weight],
        max_iter=ITERATIONS,
        history_size=10,
        tolerance_grad=gradient,
        tolerance_change=gradient**2,  # the loss falls by squares of its slope
        line_search_fn="strong_wolfe",
    ).step(closure)
    return weight


@torch.no_grad()
def sgd(
    x: Tensor,
    y: Tensor,
    classes: int,
    *,
    seed: int = 0,
    epochs: int = EPOCHS,
    progress: Progress | None = None,
) -> Tensor:
    """Weights [C, F + 1] of the cross-entropy after some epochs of stochastic gradient descent.

    Args:
        x: [N, F + 1], its last column ones.
        y: classes [N].
        classes: how many there are.
        seed: of the order of each epoch.
        epochs: passes over the rows.
        progress: told how far it is.
    """
    progress = progress or Silent()
    random = torch.Generator().manual_seed(seed)
    largest = torch.linalg.eigvalsh((x.T @ x).double() / len(x))[-1].item()
    weight = x.new_zeros(classes, x.shape[1])
    speed = torch.zeros_like(weight)
    batches = -(-len(x) // BATCH)
    for epoch in range(epochs):
        order = torch.randperm(len(x), generator=random).to(x.device)
        for i, rows in enumerate(order.split(BATCH)):
            done = (epoch + i / batches) / epochs
            rate = (1 + math.cos(math.pi * done)) / largest  # from 2 / largest = 1 / L
            speed.mul_(MOMENTUM).add_(slope(x[rows], y[rows], weight)[1])
            weight.sub_(speed, alpha=rate)
        progress.update(f"linear probe: epoch {epoch + 1} of {epochs}")
    return weight


def few(labels: Tensor, share: float, seed: int = 0) -> Tensor:
    """Rows of a share of each class, rounded, at least one of each; ascending int64 [n].

    For one seed, the rows of a smaller share are among those of a larger one.

    Args:
        labels: class of each row [N].
        share: in (0, 1].
        seed: of the draw.

    Raises:
        InputError: a share outside (0, 1].
    """
    if not 0 < share <= 1:
        raise InputError(f"a share of {share} of the labels was asked for; give one in (0, 1]")
    random = np.random.default_rng(seed)
    rows = [
        members.cpu().numpy()[
            random.permutation(len(members))[: max(1, round(share * len(members)))]
        ]
        for members in by_class(labels)
    ]
    return torch.from_numpy(np.sort(np.concatenate(rows)))


def few_probe(
    train: Tensor,
    train_label: Tensor,
    test: Tensor,
    test_label: Tensor,
    *,
    share: float,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, float]:
    """`linear_probe` with a share of the train labels, drawn by `few`: {"linear@1%": accuracy}.

    How much it varies with the draw, several seeds tell.
    """
    rows = few(train_label, share, seed)
    return linear_probe(
        train[rows.to(train.device)],
        train_label[rows.to(train_label.device)],
        test,
        test_label,
        seed=seed,
        name=f"linear@{share * 100:g}%",
        progress=progress,
    )
