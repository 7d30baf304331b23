"""How likely the two sides of a merge are different kinds: a logistic regression with a prior."""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

ROUNDS = 30  # of Newton's method, at most
SLOPE, INTERCEPT, CLASS = 0.3, 0.5, 0.7  # deviations of what the answers may change


@dataclass(frozen=True)
class Prior:
    """What is believed before the first answer, from sets whose kinds are known.

    Attributes:
        mean, std: of each feature [D].
        slope: of each feature, on its standard deviation [D].
        intercept: of the mean merge.
    """

    mean: np.ndarray
    std: np.ndarray
    slope: np.ndarray
    intercept: float


# What is usual: from made sets, digits and train images of CIFAR-100, one to five kinds in a class
# (`benchmarks/discovery.py prior`).
USUAL = Prior(
    mean=np.array((3.055, -0.648, -0.070, -1.948, -0.386, -1.155, -0.560, -0.053, 1.734)),
    std=np.array((1.314, 0.591, 0.322, 1.800, 0.322, 0.906, 0.601, 0.158, 0.862)),
    slope=np.array((0.027, 0.292, -0.510, -1.772, 1.786, 0.890, -0.097, 0.357, 0.725)),
    intercept=-1.137,
)


@dataclass(frozen=True)
class Sameness:
    """The model after some answers.

    Attributes:
        prior: that it began with.
        weights: slopes, intercept, and an offset of each coarse class [D + 1 + C].
        covariance: of the weights [D + 1 + C, D + 1 + C].
    """

    prior: Prior
    weights: np.ndarray
    covariance: np.ndarray

    def logit(self, features: np.ndarray, coarse: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log odds of merges that they join different kinds [M], and their deviation [M].

        Args:
            features: [M, D].
            coarse: index of each merge's class [M].
        """
        x = _design(features, coarse, self.prior, len(self.weights))
        return x @ self.weights, np.sqrt(((x @ self.covariance) * x).sum(1))


def learned(
    prior: Prior,
    features: np.ndarray,
    coarse: np.ndarray,
    different: np.ndarray,
    classes: int,
) -> Sameness:
    """The most probable weights after answers, and their covariance there (Laplace).

        sum over answers of  -log p(answer)  +  1/2 sum over weights of ((w - w0) / deviation)^2

    Args:
        prior: w0.
        features: of the merges that were answered [A, D].
        coarse: index of each one's class [A].
        different: share of the answers that say so [A].
        classes: C.
    """
    d = len(prior.slope)
    start = np.concatenate([prior.slope, [prior.intercept], np.zeros(classes)])
    pull = np.concatenate([np.full(d, SLOPE), [INTERCEPT], np.full(classes, CLASS)]) ** -2.0
    x, w = _design(features, coarse, prior, len(start)), start.copy()
    for _ in range(ROUNDS):
        p = expit(x @ w)
        hessian = (x * (p * (1 - p))[:, None]).T @ x + np.diag(pull)
        step = np.linalg.solve(hessian, x.T @ (different - p) - pull * (w - start))
        w = w + step * min(1.0, 2.0 / max(np.abs(step).max(), 1e-12))
        if np.abs(step).max() < 1e-8:
            break
    p = expit(x @ w)
    hessian = (x * (p * (1 - p))[:, None]).T @ x + np.diag(pull)
    return Sameness(prior, w, np.linalg.inv(hessian))


def _design(features: np.ndarray, coarse: np.ndarray, prior: Prior, width: int) -> np.ndarray:
    d = len(prior.slope)
    x = np.zeros((len(features), width))
    x[:, :d] = (features - prior.mean) / prior.std
    x[:, d] = 1
    x[np.arange(len(x)), d + 1 + coarse] = 1
    return x
