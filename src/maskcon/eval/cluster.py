"""k-means against the fine classes, over all images and inside each coarse class."""

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix
from torch import Tensor

from maskcon.errors import InputError
from maskcon.eval.estimate import estimate_clusters
from maskcon.eval.rows import by_class, check_rows
from maskcon.runtime.progress import Progress, Silent

RESTARTS = 10  # of k-means
WITHIN, ESTIMATED = "/within_coarse", "/estimated"


def clusters(features: Tensor, number: int, *, restarts: int = RESTARTS, seed: int = 0) -> Tensor:
    """k-means: the cluster of each row, int64 [N] in 0..number - 1.

    On the sphere, squared distance is 2 - 2 cosine, so this groups by cosine similarity. The
    best of several starts (k-means++) is kept.

    Args:
        features: [N, F] of unit length.
        number: of clusters; as many as there are rows where there are fewer.
        restarts: how often it starts anew.
        seed: of the starts.
    """
    check_rows(features, least=1)
    if number < 1:
        raise InputError(f"{number} clusters were asked for; give one or more")
    x = features.cpu().numpy()
    # Equal rows cannot be in different clusters, and scikit-learn warns where they would be.
    number = min(number, len(np.unique(x, axis=0)))
    found = KMeans(number, n_init=restarts, random_state=seed).fit_predict(x)
    return torch.from_numpy(found.astype(np.int64))


def agreement(cluster: Tensor, label: Tensor, suffix: str = "") -> dict[str, float]:
    """How well clusters match classes, whatever either are called.

    nmi       mutual information over the mean of the entropies, in [0, 1]
    ari       Rand index, adjusted so that chance is 0 (Hubert & Arabie 1985)
    accuracy  share of rows whose cluster is matched with their class, in the best matching of
              one cluster to one class (Hungarian); clusters beyond the classes match nothing

    Args:
        cluster: of each row [N].
        label: class of each row [N]; there may be more or fewer classes than clusters.
        suffix: follows each name.
    """
    found, true = cluster.cpu().numpy(), label.cpu().numpy()
    table = contingency_matrix(true, found)
    matched = table[linear_sum_assignment(table, maximize=True)].sum()
    return {
        f"nmi{suffix}": min(1.0, float(normalized_mutual_info_score(true, found))),  # 1 + 2e-16
        f"ari{suffix}": float(adjusted_rand_score(true, found)),
        f"accuracy{suffix}": float(matched / len(true)),
    }


def clusters_within(
    features: Tensor,
    coarse: Tensor,
    numbers: dict[int, int],
    *,
    restarts: int = RESTARTS,
    seed: int = 0,
) -> Tensor:
    """k-means inside each coarse class; no cluster spans two of them.

    Args:
        features: [N, F] of unit length.
        coarse: coarse label of each row [N].
        numbers: of clusters of each coarse label.
        restarts: how often k-means starts anew.
        seed: of the starts.

    Returns:
        the cluster of each row, int64 [N], numbered through from 0.
    """
    joined = torch.empty(len(features), dtype=torch.long)
    first = 0
    for members in by_class(coarse.cpu()):
        number = numbers[int(coarse[members[0]])]
        inside = features[members.to(features.device)]
        joined[members] = first + clusters(inside, number, restarts=restarts, seed=seed)
        first += number
    return joined


def agreement_within(
    cluster: Tensor, fine: Tensor, coarse: Tensor, suffix: str = ""
) -> dict[str, float]:
    """`agreement` of a clustering made inside each coarse class.

    Args:
        cluster: of each row [N].
        fine: fine label of each row [N].
        coarse: coarse label of each row [N].
        suffix: follows each name.

    Returns:
        {"nmi/within_coarse", "ari/within_coarse", "accuracy/within_coarse"} of all rows at once,
        which the coarse labels alone lift above chance; and "ari/within_coarse/mean", the mean
        ARI of each coarse class by itself, which they do not. Coarse classes of one fine class
        are not in that mean, and where there are no others, it is left out.
    """
    found = agreement(cluster, fine, WITHIN + suffix)
    alone = [
        adjusted_rand_score(fine[members].cpu().numpy(), cluster[members].cpu().numpy())
        for members in by_class(coarse.cpu())
        if len(fine[members].unique()) > 1
    ]
    if alone:
        found[f"ari{WITHIN}/mean{suffix}"] = float(np.mean(alone))
    return found


def clustering(
    features: Tensor,
    fine: Tensor,
    coarse: Tensor | None = None,
    *,
    most: int = 30,
    restarts: int = RESTARTS,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, float]:
    """Clusters against fine classes: over all, inside coarse classes, given and estimated numbers.

    Estimates see no fine label. Where there are coarse labels, the number of clusters of all
    images is the sum of the coarse classes' estimates.

    Args:
        features: [N, F] of unit length, N of two or more.
        fine: fine label of each row [N].
        coarse: coarse label of each row [N]; without them there is nothing within.
        most: clusters that an estimate may find in a coarse class, or in all images without them.
        restarts: of k-means.
        seed: of everything drawn.
        progress: told how far it is.

    Returns:
        names of `agreement` with the true number of clusters, as they are; with an estimated
        number, followed by "/estimated"; and of `agreement_within` both ways. "clusters" and
        "clusters/estimated" are the numbers, "clusters/estimated/low" and "/high" the sums of the
        ends of the estimates' intervals.
    """
    check_rows(features, fine, coarse)
    say = (progress or Silent()).update
    whole = torch.zeros_like(fine) if coarse is None else coarse
    true, guessed = dict[int, int](), dict[int, int]()
    low = high = 0
    groups = by_class(whole.cpu())
    for i, members in enumerate(groups, 1):
        say(f"clusters: estimating their number, {i} of {len(groups)}")
        name = int(whole[members[0]])
        true[name] = len(fine[members].unique())
        inside = features[members.to(features.device)]
        estimate = estimate_clusters(inside, most=most, seed=seed)
        guessed[name] = estimate.number
        low, high = low + estimate.low, high + estimate.high
    found = {f"clusters{ESTIMATED}/low": float(low), f"clusters{ESTIMATED}/high": float(high)}
    ways = ("", true, len(fine.unique())), (ESTIMATED, guessed, sum(guessed.values()))
    for suffix, numbers, number in ways:
        say(f"clusters: {number} of {len(features):,} images")
        cluster = clusters(features, number, restarts=restarts, seed=seed)
        found |= agreement(cluster, fine, suffix) | {f"clusters{suffix}": float(number)}
        if coarse is not None:
            cluster = clusters_within(features, coarse, numbers, restarts=restarts, seed=seed)
            found |= agreement_within(cluster, fine, coarse, suffix)
    return found
