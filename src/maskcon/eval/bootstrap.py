"""How far the mean over queries depends on which images happened to be queries."""

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from maskcon.errors import InputError

ELEMENTS = 2**22  # of the largest matrix of counts in memory: 32 MiB


def intervals(
    values: Mapping[str, Tensor], *, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Percentile bootstrap intervals of means over queries.

    Queries are drawn anew with replacement, as many as there are; the gallery stays as it is.
    So the interval tells how the mean varies with the choice of test queries; neither training
    again nor another gallery is in it. All means share the draws (Efron & Tibshirani, An
    Introduction to the Bootstrap, 1993, chapter 13).

    Args:
        values: of each query, by name: bool or float [N], the same N for all. NaN is a query
            that a mean leaves out.
        resamples: how often the queries are drawn.
        level: probability of the interval.
        seed: of the draws.

    Returns:
        {name: (low, high)}

    Raises:
        InputError: values of different lengths, or a mean of no query.
    """
    lengths = {len(value) for value in values.values()}
    if len(lengths) != 1 or 0 in lengths:
        raise InputError(
            f"intervals of values of {sorted(lengths)} queries; give one value for each query"
        )
    n = lengths.pop()
    table = np.stack([value.double().cpu().numpy() for value in values.values()], 1)  # [N, V]
    counted = ~np.isnan(table)
    if not counted.any(0).all():
        raise InputError("a mean of no query has no interval: every value given for it is NaN")
    both = np.concatenate([np.where(counted, table, 0), counted], 1)  # [N, 2V]
    random = np.random.default_rng(seed)
    sums = []
    chunk = max(1, ELEMENTS // n)
    for start in range(0, resamples, chunk):
        drawn = [
            np.bincount(random.integers(n, size=n), minlength=n)
            for _ in range(start, min(start + chunk, resamples))
        ]
        sums.append(np.stack(drawn).astype(np.float64) @ both)  # [chunk, 2V]
    total, count = np.split(np.concatenate(sums), 2, axis=1)
    means = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
    tail = (1 - level) / 2
    low, high = np.nanquantile(means, [tail, 1 - tail], axis=0)
    return {name: (float(a), float(b)) for name, a, b in zip(values, low, high, strict=True)}
