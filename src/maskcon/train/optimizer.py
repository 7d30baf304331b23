"""The optimizer of a run: which parameters have what rate and what weight decay."""

from typing import Any

import torch
from torch import Tensor, nn

from maskcon.config import Config
from maskcon.errors import InputError
from maskcon.model.blocks import networks
from maskcon.model.libraries import library
from maskcon.model.network import Headed, Network


def optimizer_of(
    network: Network, config: Config, device: torch.device, *, scaled: bool
) -> torch.optim.Optimizer:
    """SGD with momentum, AdamW (Loshchilov and Hutter, 2019) or LARS (You et al., 2017).

    With Nesterov's momentum (as in Sutskever et al., 2013) a step of SGD or LARS goes along
    g + momentum * v in place of v, the average that g has just joined.

    LARS scales the step of each tensor that has weight decay by 0.001 |p| / (|g| + decay |p|);
    the other tensors have the step of SGD.

    The rates of SGD and AdamW are tensors, which a CUDA graph reads anew at each step; LARS of
    timm takes numbers alone.

    Args:
        network: whose parameters learn, but for those that are frozen.
        config: of the run.
        device: of the parameters.
        scaled: whether the loss is scaled, which fused steps on a processor do not know.

    Raises:
        InputError: a layer decay that has no effect on this network.
    """
    groups = _groups(network, config)
    rates: dict[str, Any] = {"lr": config.lr, "weight_decay": config.weight_decay}
    along: dict[str, Any] = {"momentum": config.momentum, "nesterov": config.nesterov}
    if config.optimizer == "lars":
        lars = library("timm.optim").Lars
        made: torch.optim.Optimizer = lars(groups, **along, **rates)
        return made
    for group in groups:
        group["lr"] = torch.tensor(config.lr, device=device)
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, fused=not scaled, **along, **rates)
    on_gpu = device.type == "cuda"
    return torch.optim.AdamW(groups, fused=not scaled, capturable=on_gpu and not scaled, **rates)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The learning rate of the next step; layers that have a share of it get their share."""
    for group in optimizer.param_groups:
        own = rate * group.get("lr_scale", 1.0)
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(own)
        else:
            group["lr"] = own


def capturable(optimizer: torch.optim.Optimizer) -> bool:
    """Whether a CUDA graph can repeat its step: it would not read a rate anew that is a number."""
    return all(isinstance(group["lr"], Tensor) for group in optimizer.param_groups)


def _groups(network: Network, config: Config) -> list[dict[str, Any]]:
    """Groups of the parameters that learn, each with what differs from the others."""
    trunk, start = network.backbone, "backbone."
    if isinstance(trunk, Headed) and trunk.trunk is not None:
        trunk, start = trunk.trunk, f"{start}trunk."
    made = [*networks(trunk, start)]
    if config.layer_decay == 1:
        named = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
        exempt = {begin + name for begin, one in made for name in _exempt(one)}
        return _by_decay(named, config, exempt)
    trunk = made[0][1] if len(made) == 1 else trunk
    groups = _layers(trunk, config, _exempt(trunk))
    own = {id(p) for p in trunk.parameters()}
    heads = [(n, p) for n, p in network.named_parameters() if p.requires_grad and id(p) not in own]
    return [*groups, *_by_decay(heads, config, set())]


def _by_decay(
    named: list[tuple[str, nn.Parameter]], config: Config, exempt: set[str]
) -> list[dict[str, Any]]:
    """One group, or of those without weight decay another: biases, norms, and what is exempt."""
    if config.decay_norms:
        return [{"params": [p for _, p in named]}] if named else []
    without = [name for name, p in named if p.ndim <= 1 or name in exempt]
    decayed = [p for name, p in named if name not in {*without}]
    others = [p for name, p in named if name in {*without}]
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def _layers(trunk: nn.Module, config: Config, exempt: set[str]) -> list[dict[str, Any]]:
    """Groups of a backbone's parameters, a layer each, with "lr_scale" d^(layers behind it).

    Raises:
        InputError: the network does not say what its layers are, or one layer alone learns.
    """
    lacks = f"{config.backbone} does not say what its layers are"
    if hasattr(trunk, "group_matcher"):
        groups: list[dict[str, Any]] = library("timm.optim").param_groups_layer_decay(
            trunk,
            weight_decay=config.weight_decay,
            no_weight_decay_list=set() if config.decay_norms else exempt,
            weight_decay_exclude_1d=not config.decay_norms,
            layer_decay=config.layer_decay,
        )
        if any(group["lr_scale"] != 1 for group in groups):
            return groups
        lacks = "only the last of the backbone's layers learns"
    raise InputError(
        f"--layer-decay has no effect: {lacks}; leave it out. It belongs to backbones timm/NAME of "
        "which several layers learn"
    )


def _exempt(network: nn.Module) -> set[str]:
    """Names of parameters that a network of timm's exempts from weight decay."""
    return set(getattr(network, "no_weight_decay", set)())
