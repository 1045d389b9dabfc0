"""torch's optimizers and schedulers, parameter groups included, as optax transformations."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import optax
from flax.traverse_util import unflatten_dict

from jaxnet import optim
from jaxnet.cache import by_value
from jaxnet.convert._unsupported import Unsupported, check_torch, describe, torch_class

_OPTIONS = {
    "SGD": (optim.sgd, ("momentum", "dampening", "weight_decay", "nesterov")),
    "Adam": (optim.adam, ("betas", "eps", "weight_decay", "amsgrad")),
    "AdamW": (optim.adamw, ("betas", "eps", "weight_decay", "amsgrad")),
    "RMSprop": (optim.rmsprop, ("alpha", "eps", "weight_decay", "momentum", "centered")),
    "Adagrad": (optim.adagrad, ("lr_decay", "weight_decay", "initial_accumulator_value", "eps")),
}

# What decides how torch computes the same numbers, and what a scheduler writes into a group.
_IGNORED = {"params", "param_names", "lr", "maximize", "foreach", "capturable", "differentiable"}
_IGNORED |= {"fused", "initial_lr", "decoupled_weight_decay"}

FROZEN = "frozen"
"""The label of parameters that no group has or that need no gradient."""


def optimizer_from_torch(
    optimizer: Any, net: Any, *, scheduler: Any = None, steps_per_epoch: int = 1, epochs: int = 1
) -> optax.GradientTransformation:
    """One of torch's optimizers as the optax one that computes the same updates.

    Several parameter groups become an `optax.partition` over the names of the parameters, labeled
    by the number of the group. Parameters that the optimizer does not have, and those that need no
    gradient, stay as they are.

    Args:
      optimizer: an SGD, Adam, AdamW, RMSprop or Adagrad. `foreach`, `fused`, `capturable` and
        `differentiable` change no formula and are left out.
      net: the net whose parameters it has, for their names.
      scheduler: a StepLR, ExponentialLR, CosineAnnealingLR or LambdaLR of this optimizer that is
        stepped once an epoch.
      steps_per_epoch: the optimizer's steps in an epoch, for the scheduler.
      epochs: how many epochs of a LambdaLR are tabulated, from its first.

    Raises:
      Unsupported: another class, an option without an exact translation, a scheduler of another
        optimizer or whose rate was changed manually, or a parameter that is not the net's.

    >>> import torch
    >>> net = torch.nn.Linear(1, 1)
    >>> optimizer = optimizer_from_torch(torch.optim.SGD(net.parameters(), lr=0.5), net)
    >>> params = {"weight": np.ones((1, 1)), "bias": np.ones(1)}
    >>> updates, _ = optimizer.update(params, optimizer.init(params), params)
    >>> print(updates["bias"])
    [-0.5]
    """
    name = torch_class(optimizer, "torch.optim", "step")
    if name not in _OPTIONS:
        said = f"optimizer is {describe(optimizer)}, which has no translation"
        raise Unsupported([said], "supported: " + ", ".join(_OPTIONS))
    check_torch("net", net, "torch.nn", "torch.nn.Module")
    labels = label_parameters(optimizer, net)
    rates = _rates(optimizer, scheduler, steps_per_epoch, epochs)
    parts = {
        str(number): _translate(name, group, rate)
        for number, (group, rate) in enumerate(zip(optimizer.param_groups, rates, strict=True))
    }
    used = set(labels.values())
    if used == {"0"}:
        return parts["0"]
    parts = {label: part for label, part in parts.items() if label in used}
    return _partition(tuple(parts.items()), tuple(labels.items()))


@by_value
def _partition(parts: tuple, labels: tuple) -> optax.GradientTransformation:
    """A group's optimizer for each label, and the label of each parameter by its dotted name."""
    tree = unflatten_dict({tuple(name.split(".")): label for name, label in labels})
    transforms = dict(parts) | {FROZEN: optax.set_to_zero()}
    used = {label: part for label, part in transforms.items() if label in dict(labels).values()}
    return optax.partition(used, tree)  # pyright: ignore[reportArgumentType]


def label_parameters(optimizer: Any, net: Any) -> dict[str, str]:
    """The group of every parameter of the net, "0" onwards, by its dotted name."""
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    labels = dict.fromkeys(names.values(), FROZEN)
    for number, group in enumerate(optimizer.param_groups):
        for position, parameter in enumerate(group["params"]):
            if id(parameter) not in names:
                said = f"optimizer has a parameter, {position} of group {number}, that net has not"
                raise Unsupported([said])
            if parameter.requires_grad:
                labels[names[id(parameter)]] = str(number)
    return labels


def _translate(name: str, group: Mapping[str, Any], rate: Any) -> Any:
    if name == "Adam" and group.get("decoupled_weight_decay"):
        name = "AdamW"
    factory, options = _OPTIONS[name]
    unknown = {key: value for key, value in group.items() if key not in {*options, *_IGNORED}}
    if strange := [f"{key}={value!r}" for key, value in unknown.items() if value]:
        raise Unsupported([f"{name} has {', '.join(strange)}, which has no translation"])
    values = {key: _plain(group[key]) for key in options}
    return factory(lr=rate, maximize=group["maximize"], **values)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return tuple(float(part) for part in value)
    return value if isinstance(value, bool | int) else float(value)


_SCHEDULES: dict[str, tuple[Callable, tuple[str, ...]]] = {
    "StepLR": (optim.step_lr, ("step_size", "gamma")),
    "ExponentialLR": (optim.exponential_lr, ("gamma",)),
    "CosineAnnealingLR": (optim.cosine_annealing_lr, ("T_max", "eta_min")),
    "LambdaLR": (optim.lambda_lr, ()),
}


def _schedule(scheduler: Any, name: str, group: int, rate: float, steps: int, epochs: int) -> Any:
    factory, options = _SCHEDULES[name]
    values = {key: getattr(scheduler, key) for key in options}
    if name == "LambdaLR":
        values["lr_lambda"] = scheduler.lr_lambdas[group]
        values["epochs"] = scheduler.last_epoch + epochs
    return factory(rate, steps_per_epoch=steps, **values)


def _rates(optimizer: Any, scheduler: Any, steps: int, epochs: int) -> list[Any]:
    """The learning rate or schedule of each group."""
    if scheduler is None:
        return [float(group["lr"]) for group in optimizer.param_groups]
    name = torch_class(scheduler, "torch.optim", "get_lr")
    if name not in _SCHEDULES:
        said = f"scheduler is {describe(scheduler)}, which has no translation"
        raise Unsupported([said], "supported: " + ", ".join(_SCHEDULES))
    if scheduler.optimizer is not optimizer:
        raise Unsupported(["scheduler is another optimizer's"])
    rates = []
    pairs = zip(optimizer.param_groups, scheduler.base_lrs, strict=True)
    for number, (group, base) in enumerate(pairs):
        schedule = _schedule(scheduler, name, number, float(base), steps, epochs)
        now, expected = float(group["lr"]), float(schedule(scheduler.last_epoch * steps))
        if not np.isclose(now, expected, rtol=1e-5, atol=1e-6 * abs(float(base))):
            said = f"group {number} has lr {now}, but its {name} gives {expected} after "
            said += f"{scheduler.last_epoch} epochs: a rate set manually has no translation"
            raise Unsupported([said])
        rates.append(schedule)
    return rates
