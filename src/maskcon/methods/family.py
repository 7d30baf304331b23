"""The loss functions of the methods.

Each takes a `Step` and its hyper-parameters and returns a scalar. Their defaults stand in the
records of `maskcon.methods.METHODS`.
"""

from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import normalize

from maskcon.errors import InputError
from maskcon.methods import losses, ranges, targets
from maskcon.methods.graph import nearest_components
from maskcon.methods.losses import batch_keys
from maskcon.methods.mixing import of_mixed
from maskcon.methods.ranges import Number
from maskcon.methods.step import Step, needed


def selfcon(step: Step, *, t: Number) -> Tensor:
    """Each image is its own class; labels are ignored.

    InfoNCE of the query with its own key against the bank: `contrast` with zero weights.
    Reference: MoCo (He et al., CVPR 2020), equation 1.
    """
    return _contrast(step, None, w=1.0, t=t)


def supcon(step: Step, *, t: Number) -> Tensor:
    """The own key and every bank row of the class are positives alike.

    `grafit` with w = 1. Reference: SupCon (Khosla et al., NeurIPS 2020), equation 2, with a
    momentum encoder and a bank.
    """
    return _contrast(step, targets.same_class, w=1.0, t=t)


def grafit(step: Step, *, w: Number, t: Number) -> Tensor:
    """SupCon and SelfCon, mixed: w * supcon + (1 - w) * selfcon.

    The comparison of that name in MaskCon (CVPR 2023), equation 4; the original Grafit
    (Touvron et al., ICCV 2021) differs in its losses' details.
    """
    return _contrast(step, targets.same_class, w=w, t=t)


def maskcon(step: Step, *, w: Number, tau: Number, t: Number) -> Tensor:
    """Bank rows of the class are positives by their nearness to the key; other classes are not.

    `targets.nearest_same_class` at temperature tau, with share w. w = 0 is `selfcon`;
    tau -> infinity is `grafit` with the same w; tau -> 0 with w = 1 puts one half on the own
    key and one half on the nearest row of the class. Reference: MaskCon (Feng and Patras,
    CVPR 2023), equations 5-8.
    """
    ranges.temperature(tau=tau)
    return _contrast(step, partial(targets.nearest_same_class, tau=tau), w=w, t=t)


def coins(step: Step, *, w: Number, t: Number) -> Tensor:
    """Cross-entropy on the label and SelfCon, mixed: w * supce + (1 - w) * selfcon.

    The comparison of that name in MaskCon (CVPR 2023): a plain linear layer with bias on the
    feature. The original is `coins_original`.
    """
    ranges.share(w=w)
    return w * supce(step) + (1 - w) * selfcon(step, t=t)


def coins_original(step: Step, *, w: Number, t_class: Number, t: Number) -> Tensor:
    """SelfCon, and cross-entropy of the query with unit-length class prototypes.

        selfcon + w * CE(q . prototype / t_class, y)

    The prototypes are learned, and lie in the space of the projection; `coins` has a classifier
    on the feature, and shares that sum to 1. Reference: CoIns (Xu et al., ICCV 2021).
    """
    ranges.temperature(t_class=t_class)
    ranges.at_least_zero(w=w)
    query, label, prototypes = needed(step, "query.z", "label", "prototypes")
    with torch.autocast(query.device.type, enabled=False):
        logits = query.float() @ normalize(prototypes.float(), dim=1).T / t_class  # [N, C]
    return selfcon(step, t=t) + w * step.mean(losses.cross_entropy(logits, label))


def supce(step: Step) -> Tensor:
    """Cross-entropy of a linear classifier on the feature; no keys, no bank. `coins`, w = 1."""
    logits, label = needed(step, "query.logits", "label")
    if step.lots is not None:
        label = step.lots.label[label]
    return step.mean(losses.cross_entropy(logits, label))


def ancor(step: Step, *, t: Number) -> Tensor:
    """Cross-entropy on the label, and a contrast of directions from the class's prototype.

        CE(logits, y) + InfoNCE on A(x) = normalise(x - W_y / |W_y|), x of unit length

    logits = W ReLU(p) + b, p the projection before it is scaled to x, as in the released program;
    no gradient goes into W from the second term, whose negatives are the bank rows of the query's
    own class: what all of a class have in common cannot tell them apart. Reference: ANCOR (Bukchin
    et al., CVPR 2021).
    """
    ranges.temperature(t=t)
    query, key, bank = _keys(step)
    label, bank_label, prototypes = needed(step, "label", "bank_label", "prototypes")
    with torch.autocast(query.device.type, enabled=False):
        prototypes = normalize(prototypes.detach().float(), dim=1)  # [C, D]

        def turned(x: Tensor, y: Tensor) -> Tensor:
            # where x is the prototype itself there is no direction, and no large gradient either
            return normalize(x.float() - prototypes[y], dim=1, eps=1e-3)

        with torch.no_grad():
            key, bank = turned(key, label), turned(bank, bank_label)
        same = label[:, None] == bank_label  # [N, M]
        contrast = losses.angular(turned(query, label), key, bank, same, t=t)
    return supce(step) + step.mean(contrast)


def ascl(step: Step, *, tau: Number, neighbours: Number, t: Number) -> Tensor:
    """The nearest bank rows are positives, as far as the key is sure of them; no labels.

    `targets.confident_neighbours`; the paper takes 5 neighbours on CIFAR-100. Reference: ASCL
    (Feng and Patras, Adaptive Soft Contrastive Learning, ICPR 2022).
    """
    ranges.temperature(tau=tau, t=t)
    ranges.at_least_zero(neighbours=neighbours)
    query, key, bank = _keys(step)
    weights = targets.confident_neighbours(_similarity(key, bank), tau=tau, neighbours=neighbours)
    return step.mean(losses.contrast(query, key, bank, weights, t=t))


def ressl(step: Step, *, tau: Number, t: Number) -> Tensor:
    """The query must be as near to each bank row as the key is; no labels, no own key.

        cross-entropy(softmax(k B^T / tau), softmax(q B^T / t))

    Reference: ReSSL (Zheng et al., NeurIPS 2021).
    """
    ranges.temperature(tau=tau, t=t)
    query, key, bank = _keys(step)
    target = targets.softmax_over_bank(_similarity(key, bank), tau=tau)
    return step.mean(losses.soft_cross_entropy(query, bank, target, t=t))


def sane(
    step: Step,
    *,
    tau_sharpen: Number,
    mu: Number,
    lam: Number,
    t: Number,
) -> Tensor:
    """Labels over the keys of batch and bank that keys refine, for mixed images; no labels.

        (1 - lam) * CE(onehot, query) + lam * CE(refined labels, mixed query)

    over the key set [keys of the batch | bank], with `targets.refined_labels` mixed as the
    images are. mu = 0 and lam = 0 is `selfcon` on that key set. Reference: SANE (Zhou
    et al., NeurIPS 2021), self-labelling refinery and momentum mixup.
    """
    ranges.temperature(t=t)
    ranges.share(lam=lam)
    ranges.at_least_zero(mu=mu)
    if not isinstance(tau_sharpen, Tensor):
        ranges.check(0 < tau_sharpen <= 1, "tau_sharpen", tau_sharpen, "a factor above 0, up to 1")

    def towards(step: Step, mu: Number) -> Tensor:
        query, key, bank = _keys(step)
        batch, own = batch_keys(step)
        keys = torch.cat([batch, bank])  # [K, D]
        labels = targets.refined_labels(
            _similarity(key, keys), own, t=t, tau_sharpen=tau_sharpen, mu=mu
        )
        return step.mean(losses.soft_cross_entropy(query, keys, labels, t=t))

    plain = (1 - lam) * towards(step, 0.0)
    if not isinstance(lam, Tensor) and lam == 0:
        return plain
    return plain + lam * of_mixed(step, lambda part: towards(part, mu))


def wcl(step: Step, *, t: Number) -> Tensor:
    """Two views find each other, and rows that nearest neighbours connect; no labels, no bank.

        pairs(z, z', t) + mean of both views' same_group(graph, components of the other, t)

    The components of the graph that joins each row to its nearest other row (`graph`) are
    weak labels; those of one view group the other. In the second loss only the anchor has
    gradient, in the first both rows of a pair. Reference: WCL (Zheng et al., ICCV 2021).
    """
    return _weak(step, 0, t=t)


def wcl_crops(step: Step, *, neighbours: Number, t: Number) -> Tensor:
    """WCL, with small crops of the nearest other images as further positives; no labels.

    The bank holds the graph projections of small crops of earlier images; for each row, those
    nearest to its other view join the positives of the second loss. Reference: WCL (Zheng et
    al., ICCV 2021), K-NN multi-crop; its details are not stated there.
    """
    ranges.check(neighbours >= 1 and neighbours % 1 == 0, "neighbours", neighbours, "1, 2, 3, ...")
    return _weak(step, int(neighbours), t=t)


def _contrast(step: Step, rule: targets.Rule | None, *, w: Number, t: Number) -> Tensor:
    """`losses.contrast` of a step, the weights given by a rule (none: all zero)."""
    ranges.share(w=w)
    ranges.temperature(t=t)
    query, key, bank = _keys(step)
    weights = None
    if rule is not None:
        label, bank_label = needed(step, "label", "bank_label")
        similarity = _similarity(key, bank)
        if step.lots is None:
            weights = rule(similarity, label[:, None] == bank_label)
        else:
            relation = step.lots.relation[label][:, bank_label]
            weights = targets.taught(rule, similarity, relation)
    return step.mean(losses.contrast(query, key, bank, weights, w=w, t=t))


def _weak(step: Step, neighbours: int, *, t: Number) -> Tensor:
    """`wcl`, with some neighbours' crops if there are to be any."""
    ranges.temperature(t=t)
    first, second, h1, h2 = needed(step, "query.z", "key.z", "query.graph", "key.graph")
    loss = step.mean(losses.pairs(first, second, t=t))
    for own, other in ((h1, h2), (h2, h1)):
        more = None
        if neighbours:
            (bank,) = needed(step, "bank_z")
            near = _similarity(other, bank).topk(min(neighbours, len(bank)), 1).indices
            more = bank[near]  # [N, neighbours, D]
        group = nearest_components(other)
        loss = loss + 0.5 * step.mean(losses.same_group(own, group, more, t=t))
    return loss


def _keys(step: Step) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and bank rows, all of one width."""
    query, key, bank = needed(step, "query.z", "key.z", "bank_z")
    if not query.shape[1] == key.shape[1] == bank.shape[1]:
        raise InputError(
            f"queries are {query.shape[1]} wide, keys {key.shape[1]} and bank rows "
            f"{bank.shape[1]}: all come from one projector, so all must be of one width"
        )
    return query, key.detach(), bank


@torch.no_grad()
def _similarity(key: Tensor, rows: Tensor) -> Tensor:
    """Cosines [N, K] of keys and rows, in float32 under any autocast; without gradient."""
    with torch.autocast(key.device.type, enabled=False):
        return key.float() @ rows.float().T
