"""torch modules as Flax modules, with their parameters and buffers."""

import dataclasses
from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any

from jaxnet import nn
from jaxnet._utils.validation import check_count
from jaxnet.convert._ports import port_from_torch
from jaxnet.convert._unsupported import Unsupported, describe, torch_class
from jaxnet.convert.state import BUFFERS, from_tensors

_NAMES = (
    "Linear Flatten Identity Dropout ReLU LeakyReLU ELU GELU SiLU Sigmoid LogSigmoid Tanh Softplus "
    "Softmax LogSoftmax LayerNorm BatchNorm1d BatchNorm2d Embedding Conv2d MaxPool2d AvgPool2d "
    "AdaptiveAvgPool2d"
)
_LAYERS: dict[str, Any] = {name: getattr(nn, name) for name in _NAMES.split()}

SUPPORTED = "supported: Sequential of " + ", ".join(_LAYERS)

_INPUTS = "any other net from example inputs: from_torch(net, x)"

_STATE: dict[str, set[str]] = {
    **dict.fromkeys(("Linear", "LayerNorm", "Conv2d"), {"weight", "bias"}),
    **dict.fromkeys(("BatchNorm1d", "BatchNorm2d"), {"weight", "bias", *BUFFERS}),
    "Embedding": {"weight"},
}

_DTYPES = {"torch.float32", "torch.float64", "torch.int64"}

_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")

# Options without a translation, by the value that leaves them out.
_LEFT_OUT = {
    "Embedding": {"max_norm": None, "scale_grad_by_freq": False, "sparse": False},
    "MaxPool2d": {"return_indices": False},
}


def from_torch(
    net: Any, *args: Any, check: bool = True, batch_sizes: Collection[int] = (), **kwargs: Any
) -> tuple[nn.Module, nn.Variables]:
    """A torch net as a Flax module, with a copy of its parameters and buffers.

    `jnet.apply(variables, x)` equals `net.eval()(x)`, and with `train=True, draws=...` equals
    `net.train()(x)`, whatever mode `net` is in now; floats agree within rounding, and what the net
    draws at random is torch's, to the bit. Parameters are the collection "params", the running
    statistics of a BatchNorm "batch_stats", other buffers "buffers"; flattened, they bear torch's
    dotted names, a shared tensor its first. Other dtypes than float32 need JAX's x64 mode.

    A `torch.nn.Sequential` of layers of `jaxnet.nn`, or one such layer, is translated by its
    attributes: it needs no inputs, and gives a `jaxnet.nn.Sequential`. Of any other net the graphs
    of its own forward in both modes are exported by `torch.export`, from a call
    `net(*args, **kwargs)`, and become a `jaxnet.program.TorchNet`: plain data that runs, trains and
    is saved without torch. Axis 0 of the inputs, and axis 1 of sequences, may then have other sizes
    than the example's, where torch.export allows it; where it does not, the net is exported once
    more for each of `batch_sizes`.

    Args:
      net: any `torch.nn.Module`; it stays as it is. `inplace` changes no number and is left out.
      args, kwargs: example inputs of its forward: tensors, also in tuples and dictionaries.
      check: hold the exported graphs against the net in torch, two steps forward and backward with
        the stream and the buffers: export loses hooks, gradients of `torch.autograd.Function`,
        state in Python and more without a word. `jnet.port.checked` says whether it was done.
      batch_sizes: other numbers of rows that the net is to take, such as a short last batch; rows
        are the first axis of inputs that are as long as the first one.

    Raises:
      Unsupported: a ValueError that names everything without an exact translation, by its module,
        class and line, or that a check has found, and says what to do.
      ValueError: a batch size is no integer of at least 1.
      TypeError: the batch sizes are not several.

    torch keeps a net's mode in the net; here it is an argument of the call.

    >>> import torch, jax.numpy as jnp
    >>> net = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.ReLU())
    >>> _ = torch.nn.init.ones_(net[0].weight), torch.nn.init.zeros_(net[0].bias)
    >>> jnet, variables = from_torch(net)
    >>> print(jnet.apply(variables, jnp.array([[1.0, 2.0]])), list(variables["params"]["0"]))
    [[3.]] ['weight', 'bias']
    """
    if not isinstance(batch_sizes, Collection) or isinstance(batch_sizes, str):
        raise TypeError(f"batch_sizes must be several integers, not {batch_sizes!r}")
    sizes = [check_count("batch_sizes", size) for size in batch_sizes]
    if not torch_class(net, "torch.nn"):
        raise Unsupported([f"net must be a torch.nn.Module, not {describe(net)}"], SUPPORTED)
    if torch_class(net, "torch.nn", "forward") in ("Sequential", *_LAYERS):
        faults = [*_faults(net, ""), *_shared(net)]
    else:
        said = "whose forward from_torch translates from example inputs alone"
        faults = [f"net is a {describe(net)}, {said}: from_torch(net, x)"]
    if not faults:
        return _translate(net), from_tensors(net.state_dict())
    if not args and not kwargs:
        raise Unsupported(faults, f"{SUPPORTED}\n{_INPUTS}")
    return port_from_torch(net, args, kwargs, check, sizes)


def _faults(module: Any, place: str) -> Iterator[str]:
    """Everything in a module and below it that has no translation."""
    name = torch_class(module, "torch.nn", "forward")
    where = f"layer {place!r}" if place else "the net"
    for kind in _HOOKS:
        if vars(module).get(kind):
            yield f"{where} has {kind[1:].replace('_', ' ')}, which may change what it computes"
    if "forward" in vars(module):
        yield f"{where} has a forward of its own"
    tensors = *module.named_parameters(recurse=False), *module.named_buffers(recurse=False)
    for key, value in tensors:
        if getattr(value, "_backward_hooks", None):
            yield f"{where} has a hook on {key}, which may change its gradient"
        if str(value.dtype) not in _DTYPES:
            yield f"{where} has {key} of {value.dtype}, expected float32"
        if name in _LAYERS and key not in _STATE.get(name, set()):
            yield f"{where}, {name}, has a tensor {key!r} that torch's {name} has not"
    if name == "Sequential":
        for key, child in module.named_children():
            yield from _faults(child, f"{place}.{key}" if place else key)
    elif name not in _LAYERS:
        yield f"{where} is {describe(module)}, which has no translation"
    else:
        yield from (f"{where}, {name}: {fault}" for fault in _option_faults(module, name))


def _option_faults(module: Any, name: str) -> Iterator[str]:
    for option, neutral in _LEFT_OUT.get(name, {}).items():
        if getattr(module, option) != neutral:
            yield f"{option}={getattr(module, option)!r} has no translation, only {neutral!r} has"
    if name in ("Softmax", "LogSoftmax") and module.dim is None:
        yield "dim=None, which guesses the axis, has no translation: name the axis"
    try:
        _layer(module, name)
    except (TypeError, ValueError) as error:
        yield str(error)


def _shared(net: Any) -> list[str]:
    """Parameters under two names: each would be trained apart."""
    places = {key: id(value) for key, value in net.named_parameters(remove_duplicate=False)}
    counts = Counter(places.values())
    return [f"{key!r} is shared with another layer" for key, at in places.items() if counts[at] > 1]


def _translate(module: Any) -> nn.Module:
    name = torch_class(module, "torch.nn", "forward")
    if name != "Sequential":
        return _layer(module, name)
    # named_children leaves out a layer that is used twice.
    children = {key: _translate(child) for key, child in module._modules.items()}
    return nn.Sequential(list(children.values()), names=tuple(children))


def _layer(module: Any, name: str) -> nn.Module:
    """The layer whose fields are torch's attributes; `bias` is there a tensor or None."""
    layer = _LAYERS[name]
    fields = [field.name for field in dataclasses.fields(layer) if field.init]
    options = {key: getattr(module, key) for key in fields if key not in ("parent", "name")}
    if "bias" in options:
        options["bias"] = options["bias"] is not None
    return layer(**options)
