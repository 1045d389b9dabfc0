"""A JAX net in the form in which its author holds it, as one pure function of weights and state."""

import inspect
import sys
from collections.abc import Callable, Mapping
from functools import partial
from types import MethodType
from typing import Any, NamedTuple

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.core import unfreeze

from jaxnet.nn import call_keywords, name_draws

_FORMS = (
    "(linen module, its apply or a function, variables, optimizer), (nnx.Module, optimizer), "
    "(eqx.Module, optimizer), ((eqx.Module, state), optimizer), (hk.transform(...), params, "
    "optimizer) or a TrainState"
)
_JITTED = type(jax.jit(lambda: None))


class Form(NamedTuple):
    """A port as pure functions."""

    apply: Callable[..., tuple[Any, Any]]
    """`apply(params, state, args, keywords, *, train, masks=None)` gives `(outputs, state)` of the
    inputs `*args, **keywords`. It draws the same at random in each call from the same state."""
    params: Any
    """The floating-point arrays, as the optimizer is to see them."""
    state: Any
    """What else a forward changes: running statistics, counters of random draws."""
    optimizer: optax.GradientTransformation | None
    names_masks: bool
    """Whether masks can be handed over under torch's names, as `masks` or `draws`."""
    kind: str
    """"flax.linen", "nnx", "equinox", "haiku" or "function"."""


def open_port(port: Any) -> Form:
    """The port as pure functions. Nothing that was handed over is ever changed.

    A function takes its variables and the inputs. The variables are `{"params": ...}` with other
    collections, or parameters in any structure. It may take `train` (or `training`, `is_training`,
    `deterministic`, `use_running_average`, `inference`), `masks` or `draws`, `rngs`, `key` or
    `rng`. It returns outputs, or a pair of outputs and collections.

    Raises:
      TypeError: the port has another form, or its optimizer is not optax's.

    >>> form = open_port((lambda params, x: x @ params["w"], {"w": np.ones((2, 1))}, None))
    >>> outputs, state = form.apply(form.params, form.state, (np.ones((1, 2)),), {}, train=True)
    >>> print(outputs, form.kind)
    [[2.]] function
    """
    if all(hasattr(port, name) for name in ("apply_fn", "params", "tx")):
        return _open_train_state(port)
    parts = tuple(port) if type(port) in (tuple, list) else (port,)
    if len(parts) == 2:
        pair = type(parts[0]) is tuple and len(parts[0]) == 2
        net, state = parts[0] if pair else (parts[0], ())
        if _is_module(net, "flax.nnx"):
            return _open_nnx(net, parts[1])
        if _is_module(net, "equinox"):
            return _open_equinox(net, state, parts[1])
    if len(parts) == 3:
        net, variables, optimizer = parts
        if type(net).__name__ in ("Transformed", "TransformedWithState"):
            return _open_haiku(net, variables, optimizer)
        module, presets = _find_linen(net)
        if module is not None:
            return _open_linen(module, presets, variables, optimizer)
        alone = _is_module(net, "flax.nnx") or _is_module(net, "equinox") or isinstance(net, type)
        if callable(net) and not alone:
            params, state = _take_params(variables)
            named = params is not variables
            give = (lambda p, s: ({"params": p, **s},)) if named else (lambda p, s: (p,))
            return _open_function(_unjit(net), params, state, optimizer, give, "function")
    names = [f"class {p.__name__}" if isinstance(p, type) else type(p).__name__ for p in parts]
    raise TypeError(f"port must be {_FORMS}, not {' with '.join(names)}")


def explain_call(error: Exception, form: Form, inputs: Any) -> ValueError:
    """What to raise in place of an error of the first call with `inputs`, a pytree of arrays."""
    line = f"{type(error).__name__}: {str(error).strip()}".partition("\n")[0]
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves(inputs)]
    said = f"port failed on inputs of shape {', '.join(map(str, shapes))}: {line}"
    kernels = [np.shape(leaf) for leaf in jax.tree.leaves(form.params)]
    if form.kind != "equinox" and any(_is_channels_first(shape, kernels) for shape in shapes):
        said += "; the net takes images channels last and was given them channels first"
    return ValueError(said)


def _is_channels_first(shape: tuple[int, ...], kernels: list[tuple[int, ...]]) -> bool:
    """Whether kernels, which have input channels on their last axis but one, fit axis 1 alone."""
    counts = {kernel[-2] for kernel in kernels if len(kernel) in (2, len(shape))}
    # Where an image is as wide as an inner layer, both fit; the first layer has the fewest.
    fitting = min(counts & {*shape[1:2], *shape[-1:]}, default=0)
    return len(shape) > 2 and shape[1] == fitting != shape[-1]


def _open_linen(module: Any, presets: dict[str, Any], variables: Any, optimizer: Any) -> Form:
    params, state = _take_params(variables)
    params, fixed = _partition(params)
    method = presets.get("method")
    target = module if method is None else getattr(module, getattr(method, "__name__", method))
    presets = {name: presets[name] for name in presets if name not in call_keywords(target, True)}

    def apply(params, state, args, keywords, *, train, masks=None):
        args, keywords = _complete(target, args, keywords, train, masks, {})
        # Flax takes from "params" what is drawn from a stream that it was not given.
        rngs = _offer_keys()["rngs"] if train else {"params": jax.random.key(0)}
        keywords = {"rngs": rngs, **presets, **keywords, "mutable": list(state) if train else False}
        out = module.apply({"params": _combine(params, fixed), **state}, *args, **keywords)
        return (out[0], state | unfreeze(out[1])) if train else (out, state)

    masked = name_draws(target) is not None
    return Form(apply, params, state, _open_optimizer(optimizer), masked, "flax.linen")


def _open_nnx(module: Any, optimizer: Any) -> Form:
    nnx = sys.modules["flax.nnx"]
    wrt = optimizer.wrt if isinstance(optimizer, nnx.Optimizer) else nnx.Param
    # Without copies, a call that is not jitted would change the variables of the module itself.
    graph, params, keys, state = nnx.split(nnx.clone(module), wrt, nnx.RngKey, ...)
    structure, paths = jax.tree.structure(state), [path for path, _ in nnx.to_flat_state(state)]

    def apply(params, state, args, keywords, *, train, masks=None):
        copy = nnx.merge(graph, params, keys, state, copy=True)
        copy.train() if train else copy.eval()
        offered = _offer_keys() | {"rngs": nnx.Rngs(jax.random.key(0))}
        args, keywords = _complete(copy, args, keywords, train, masks, offered)
        outputs = copy(*args, **keywords)
        after = dict(nnx.to_flat_state(nnx.state(copy)))  # with what the forward has sown
        return outputs, jax.tree.unflatten(structure, jax.tree.leaves([after[p] for p in paths]))

    masked = name_draws(module) is not None
    return Form(apply, params, state, _open_optimizer(optimizer), masked, "nnx")


def _open_equinox(module: Any, state: Any, optimizer: Any) -> Form:
    params, fixed = _partition(module)
    stateful = bool(jax.tree.leaves(state))
    layers = jax.tree.leaves(module, is_leaf=lambda layer: hasattr(layer, "axis_name"))
    axis = next((layer.axis_name for layer in layers if hasattr(layer, "axis_name")), "batch")

    def apply(params, state, args, keywords, *, train, masks=None):
        net = _set_mode(_combine(params, fixed), train)

        def call(args, keywords, masks, key, state):
            target = partial(net, state=state) if stateful else net
            args, keywords = _complete(target, args, keywords, train, masks, {"key": key})
            out = target(*args, **keywords)
            return out if stateful else (out, state)

        keys = jax.random.split(jax.random.key(0), len(jax.tree.leaves((args, keywords))[0]))
        mapped = jax.vmap(call, in_axes=(0, 0, 0, 0, None), out_axes=(0, None), axis_name=axis)
        return mapped(args, keywords, masks, keys, state)

    masked = name_draws(module) is not None
    return Form(apply, params, state, _open_optimizer(optimizer), masked, "equinox")


def _open_haiku(net: Any, variables: Any, optimizer: Any) -> Form:
    if type(net).__name__ == "Transformed":
        return _open_function(net.apply, variables, {}, optimizer, lambda p, s: (p,), "haiku")
    if not isinstance(variables, tuple) or len(variables) != 2:
        raise TypeError(f"port must have haiku's (params, state), not {type(variables).__name__}")
    return _open_function(net.apply, *variables, optimizer, lambda p, s: (p, s), "haiku")


def _open_function(net: Any, params: Any, state: Any, tx: Any, give: Callable, kind: str) -> Form:
    """A function whose first arguments are `give(params, state)`."""
    params, fixed = _partition(params)

    def apply(params, state, args, keywords, *, train, masks=None):
        first = give(_set_mode(_combine(params, fixed), train), state)
        args, keywords = _complete(net, (*first, *args), keywords, train, masks, _offer_keys())
        out = net(*args, **keywords)
        # Two outputs are a pair as well.
        if type(out) is tuple and len(out) == 2 and isinstance(out[1], Mapping):
            if not out[1] or state.keys() & out[1].keys():
                return out[0], {name: out[1].get(name, state[name]) for name in state}
        return out, state

    return Form(apply, params, state, _open_optimizer(tx), name_draws(net) is not None, kind)


def _open_train_state(port: Any) -> Form:
    fields = {**vars(port), "params": None, "opt_state": None}
    others = {name: tree for name, tree in fields.items() if isinstance(tree, Mapping)}
    params = port.params if "params" in port.params else {"params": port.params}
    return open_port((port.apply_fn, {**params, **others}, port.tx))


def _open_optimizer(optimizer: Any) -> optax.GradientTransformation | None:
    optimizer = getattr(optimizer, "tx", optimizer)  # an nnx.Optimizer's own
    if isinstance(optimizer, optax.MultiSteps):
        return optimizer.gradient_transformation()
    if optimizer is None or isinstance(optimizer, optax.GradientTransformation):
        return optimizer
    raise TypeError(f"port must have an optimizer of optax's, not {type(optimizer).__name__}")


def _complete(
    target: Callable, args: tuple, keywords: Any, train: bool, masks: Any, offered: dict[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """The inputs of a call with what else it takes: its mode, masks, and keys that are offered."""
    signature = inspect.signature(target)
    takes = name_draws(target) and not (isinstance(masks, dict) and not masks)
    told = call_keywords(target, train, masks if takes else None)
    parameters = signature.parameters
    untold = [parameter for name, parameter in parameters.items() if name not in told]
    filled = _fill(signature.replace(parameters=untold), args, keywords)
    for name in offered.keys() & parameters.keys() - filled:
        # A forward in evaluation mode may tell its mode by the key that it is not given.
        if train or parameters[name].default is inspect.Parameter.empty:
            told[name] = offered[name]
    given, named = list(args), dict(keywords)
    for place, (name, parameter) in enumerate(parameters.items()):
        by_place = parameter.kind <= parameter.POSITIONAL_OR_KEYWORD and place <= len(given)
        if name in told and by_place:
            given.insert(place, told[name])
        elif name in told:
            named[name] = told[name]
    return given, named


def _fill(signature: inspect.Signature, args: tuple, keywords: Any) -> set[str]:
    """The parameters that inputs take: one of attention's may be called `key`."""
    any_number = any(p.kind is p.VAR_POSITIONAL for p in signature.parameters.values())
    try:
        return set(keywords if any_number else signature.bind(*args, **keywords).arguments)
    except TypeError:  # a key stands before the inputs
        return set(keywords)


def _take_params(variables: Any) -> tuple[Any, dict[str, Any]]:
    """Parameters, and the other collections beside them, if these are what there is."""
    if not isinstance(variables, Mapping) or "params" not in variables:
        return variables, {}
    others = {name: tree for name, tree in variables.items() if name != "params"}
    return variables["params"], unfreeze(others)


def _partition(tree: Any) -> tuple[Any, Any]:
    """The floating-point arrays of a tree, and what else there is, with None in their places."""

    def is_trained(leaf: Any) -> bool:
        if type(leaf).__module__.partition(".")[0] == "torch":
            raise TypeError("port must have arrays of JAX or NumPy, not torch's tensors")
        arrays = isinstance(leaf, jax.Array | np.ndarray | np.generic)
        return arrays and jnp.issubdtype(leaf.dtype, jnp.inexact)

    trained = jax.tree.map(lambda leaf: leaf if is_trained(leaf) else None, tree)
    return trained, jax.tree.map(lambda leaf: None if is_trained(leaf) else leaf, tree)


def _combine(*parts: Any) -> Any:
    is_none = lambda leaf: leaf is None  # noqa: E731
    return jax.tree.map(lambda one, other: other if one is None else one, *parts, is_leaf=is_none)


def _set_mode(net: Any, train: bool) -> Any:
    """An Equinox module in this mode, anything else as it is."""
    known = _is_module(net, "equinox")
    return sys.modules["equinox"].nn.inference_mode(net, not train) if known else net


def _is_module(value: Any, library: str) -> bool:
    """Whether it is a module of a library, which its author has imported then."""
    return library in sys.modules and isinstance(value, sys.modules[library].Module)


def _find_linen(net: Any) -> tuple[Any, dict[str, Any]]:
    """The linen module that this is or whose `apply` it is, and keywords that are set already."""
    function, presets = _unjit(net), {}
    if isinstance(function, partial) and not function.args:
        function, presets = function.func, function.keywords
    if isinstance(function, MethodType) and function.__func__ is flax.linen.Module.apply:
        return function.__self__, presets
    return net if isinstance(net, flax.linen.Module) else None, presets


def _unjit(function: Any) -> Any:
    """A function whose mode may be Python's boolean, as it may not where `jax.jit` is around it."""
    function = inspect.unwrap(function, stop=lambda f: not isinstance(f, _JITTED))
    if isinstance(function, partial):
        return partial(_unjit(function.func), *function.args, **function.keywords)
    return function


def _offer_keys() -> dict[str, Any]:
    rngs = {name: jax.random.key(seed) for seed, name in enumerate(("params", "dropout"))}
    keys = dict.fromkeys(("key", "rng", "dropout_key", "dropout_rng"), rngs["dropout"])
    return keys | {"rngs": rngs}
