"""How far the soft labels of the methods are from the labels that fine classes would give."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from maskcon.errors import InputError
from maskcon.eval.rows import check_rows
from maskcon.methods import METHODS, targets
from maskcon.runtime.device import where_exact
from maskcon.runtime.progress import Progress, Silent

ELEMENTS = 2**22  # of the largest matrix in memory: 16 MiB
TAUS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)
SHARES = (1.0, 0.8, 0.5, 0.2)  # w of maskcon, in the picture
NAME = "label_distance"


@dataclass(frozen=True)
class Bank:
    """Rows of a run's bank, with what training did not see.

    Attributes:
        z: keys [M, D], unit length.
        coarse: labels that training saw of them [M].
        fine: labels that it did not [M].
    """

    z: Tensor
    coarse: Tensor
    fine: Tensor


def soft_labels(
    bank: Bank,
    taus: Sequence[float] = TAUS,
    shares: Sequence[float] = SHARES,
    progress: Progress | None = None,
) -> dict[str, float | dict[str, float]]:
    """Mean distance of each method's targets from the true ones, every bank row the key in turn.

    A target is a distribution over [own key | bank], as in `maskcon.methods.losses.contrast`; the
    bank of a key is all rows but its own. The true one is uniform over the own key and the rows
    of its fine class. Their distance is the total variation, half the sum of absolute
    differences: the share of a target that lies on rows where the true one does not have it.

    `coins` has no target over rows but the own key: its classifier, of share w, asks no less of
    one row of the coarse class than of another, and is counted as supcon's target.

    Args:
        bank: the rows.
        taus: temperatures of `maskcon`'s rule.
        shares: w of `maskcon`.
        progress: told how far it is.

    Returns:
        {"label_distance/selfcon": distance in [0, 1], and so on of supcon, grafit, coins and
        maskcon, with the hyper-parameters of their records}; "label_distance/maskcon/best" and
        "label_distance/maskcon/best_tau", of the share of its record; and "over_tau/w=W", of each
        share, {tau: distance}.

    Raises:
        InputError: rows that cannot be judged.
    """
    check_rows(bank.z, bank.coarse, bank.fine, name="bank")
    w = {
        name: float(METHODS[name].hyper_parameters["w"]) for name in ("grafit", "coins", "maskcon")
    }
    tau = float(METHODS["maskcon"].hyper_parameters["tau"])
    taus, shares = sorted({tau, *taus}), sorted({w["maskcon"], *shares}, reverse=True)
    settings: dict[str, tuple[float | None, float]]
    settings = {"selfcon": (None, 0.0), "supcon": (None, 1.0)}
    settings |= {name: (None, w[name]) for name in ("grafit", "coins")}
    settings |= {_curve(one, share): (one, share) for one in taus for share in shares}
    found = _means(bank, settings, progress or Silent())
    curve = {one: found[_curve(one, w["maskcon"])] for one in taus}
    best = min(curve, key=lambda one: curve[one])
    return {
        **{f"{NAME}/{name}": found[name] for name in ("selfcon", "supcon", "grafit", "coins")},
        f"{NAME}/maskcon": curve[tau],
        f"{NAME}/maskcon/best": curve[best],
        f"{NAME}/maskcon/best_tau": best,
        **{
            f"over_tau/w={share:g}": {f"{one:g}": found[_curve(one, share)] for one in taus}
            for share in shares
        },
    }


def _curve(tau: float, share: float) -> str:
    return f"maskcon, w {share:g}, tau {tau:g}"


def _means(
    bank: Bank, settings: Mapping[str, tuple[float | None, float]], progress: Progress
) -> dict[str, float]:
    """Mean distance of each setting, (tau or None for equal weights, w)."""
    sums = dict.fromkeys(settings, 0.0)
    for rows, similarity, same, true in _keys(bank):
        progress.update(f"soft labels: {int(rows[-1]) + 1:,} of {len(bank.z):,} rows")
        of_rule: dict[float | None, Tensor] = {}
        for name, (tau, share) in settings.items():
            if tau not in of_rule:
                of_rule = {tau: _weights(similarity, same, tau)}  # one matrix at a time
            sums[name] += float(where_exact(distances(of_rule[tau], true, share)).double().sum())
    return {name: total / len(bank.z) for name, total in sums.items()}


def _keys(bank: Bank) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Some rows as keys: which; similarity to the bank, whether of the class, and the true ones.

    All but the first are [n, M]; the key itself is of no class, so that no rule weighs it.
    """
    every = torch.arange(len(bank.z), device=bank.z.device)
    for rows in every.split(max(1, ELEMENTS // len(every))):
        other = rows[:, None] != every
        same = (bank.coarse[rows, None] == bank.coarse) & other
        true = (bank.fine[rows, None] == bank.fine) & other
        yield rows, bank.z[rows] @ bank.z.T, same, true


def _weights(similarity: Tensor, same: Tensor, tau: float | None) -> Tensor:
    if tau is None:
        return targets.same_class(similarity, same)
    return targets.nearest_same_class(similarity, same, tau=tau)


def distances(weights: Tensor, true: Tensor, share: float) -> Tensor:
    """Total variation between the target of some weights and the true one, row by row [n].

        target = w * rownormalise([1 | weights]) + (1 - w) * [1 | 0 ... 0]
        true   = rownormalise([1 | true])

    Args:
        weights: what each bank row means to each key [n, M].
        true: whether it is of the key's fine class, bool [n, M].
        share: w.
    """
    own = share / (1 + weights.sum(1)) + 1 - share
    target = weights * (share / (1 + weights.sum(1)))[:, None]
    level = 1 / (1 + true.sum(1)).to(target.dtype)
    apart = (target - true * level[:, None]).abs().sum(1)
    return ((own - level).abs() + apart) / 2


def needed_bank(bank: Bank | None) -> Bank:
    """The bank, where there is one.

    Raises:
        InputError: there is none.
    """
    if bank is None:
        raise InputError("soft labels are measured over a run's own bank, and none was given")
    return bank
