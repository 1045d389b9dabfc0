"""A net of `tests/program_nets.py` ported, and one training step of it beside torch's."""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch.utils import _pytree
from torch.utils._python_dispatch import TorchDispatchMode

import jaxnet
from jaxnet import convert
from jaxnet.certificate.bounds import PORTED, PORTED_DEEP, PORTED_FLOAT64
from jaxnet.program import TorchNet
from tests.helpers import assert_same_bits, assert_same_state, to_numpy
from tests.program_nets import CASES

BATCH, SEED = 4, 7


class Ported(NamedTuple):
    """A torch net, and what `from_torch` made of it."""

    net: Any
    jnet: TorchNet
    variables: Any


def port(name: str, wide: bool = False) -> Ported:
    """The net of that name, exported once; in float64 where `wide`."""
    return _port(name, wide)


@functools.cache
def _port(name: str, wide: bool) -> Ported:
    torch.manual_seed(0)
    net = CASES[name].build()
    net = net.double() if wide else net
    with jaxnet.precision.use("float64" if wide else "parity"):
        jnet, variables = convert.from_torch(net, make_input(name, BATCH, wide))
    assert isinstance(jnet, TorchNet) and jnet.port.checked
    return Ported(net, jnet, variables)


def make_input(name: str, batch: int, wide: bool = False) -> torch.Tensor:
    """An input for so many rows."""
    torch.manual_seed(batch)
    x = CASES[name].make(batch)
    return x.double() if wide and x.is_floating_point() else x


class Hear(TorchDispatchMode):
    """What torch draws, but for what it compares with a tensor of probabilities at once."""

    def __init__(self) -> None:
        super().__init__()
        self.draws: list[np.ndarray | None] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # noqa: D105
        before = torch.get_rng_state()
        result = function(*args, **(kwargs or {}))
        if not torch.equal(before, torch.get_rng_state()):
            own = result[1] if isinstance(result, tuple) else result
            hidden = function is torch.ops.aten.bernoulli.default
            self.draws.append(None if hidden else to_numpy(own))
        return result


def assert_same_draws(ported: Ported, x: torch.Tensor) -> dict[str, Any]:
    """jaxnet draws what the net draws in a forward of x, and leaves the stream where it does."""
    torch.manual_seed(SEED)
    with Hear() as heard:
        ported.net.train()(x)
    generator = jaxnet.random.manual_seed(SEED)
    generator, draws = jaxnet.nn.draw(ported.jnet, generator, to_numpy(x))
    assert_same_state(generator)
    listed = ported.jnet.list_draws(to_numpy(x))
    assert len(listed) == len(heard.draws) == len(draws)
    for each, theirs in zip(listed, heard.draws, strict=True):
        name = ".".join(each.path)
        if theirs is not None:
            ours = np.asarray(draws[name])
            ours = ours.astype(theirs.dtype).reshape(theirs.shape)  # of dropout2d without axes
            assert_same_bits(ours, theirs, where=f"draw {name!r}")
    return draws


def list_floats(outputs: Any) -> list[Any]:
    """The floating-point tensors or arrays that a net gave."""
    leaves = _pytree.tree_leaves(outputs)
    return [a for a in leaves if "float" in str(a.dtype)]


def contract(outputs: Any, xp: Any) -> Any:
    """A loss with a gradient in every element, none of which cancel."""
    total: Any = 0.0
    for number, each in enumerate(list_floats(outputs)):
        weights = np.cos(np.arange(int(np.prod(each.shape))) * 0.37 + number)
        weights = weights.reshape(tuple(each.shape))
        weights = torch.from_numpy(weights).to(each.dtype) if xp is torch else weights
        weights = jnp.asarray(weights, each.dtype) if xp is jnp else weights
        total = total + (each * weights + 0.5 * each * each).mean()
    return total


def assert_scaled(actual: Any, expected: Any, bound: float, where: str, size: float = 0) -> None:
    """Every element within `bound` times the largest, or `size`."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(to_numpy(expected), np.float64)
    assert actual.shape == expected.shape, f"{where}: {actual.shape}, torch {expected.shape}"
    size = max(size, float(np.max(np.abs(expected), initial=0)))
    error = float(np.max(np.abs(actual - expected), initial=0))
    assert error <= bound * size, f"{where}: off by {error / size:.2g} of the largest"


def assert_same_step(name: str, wide: bool = False, batch: int = BATCH) -> None:
    """Draws, stream, outputs, gradients and buffers of a training forward and backward."""
    with jaxnet.precision.use("float64" if wide else "parity"):
        _assert_same_step(name, wide, batch)


def _assert_same_step(name: str, wide: bool, batch: int) -> None:
    ported, x = port(name, wide), make_input(name, batch, wide)
    net, variables = ported.net, ported.variables
    before = {key: value.clone() for key, value in net.state_dict().items()}
    draws = assert_same_draws(ported, x)
    net.load_state_dict(before)
    net.zero_grad()
    torch.manual_seed(SEED)
    expected = net.train()(x)
    contract(expected, torch).backward()
    grads_torch = {k: p.grad for k, p in net.named_parameters()}
    buffers_torch = {key: value.clone() for key, value in net.named_buffers()}
    net.load_state_dict(before)
    state = {key: value for key, value in variables.items() if key != "params"}

    @jax.jit
    def step(params, draws, x):
        def objective(params):
            outputs, after = ported.jnet.apply(
                {"params": params, **state}, x, train=True, draws=draws, mutable=list(state)
            )
            return contract(outputs, jnp), (outputs, after)

        return jax.grad(objective, has_aux=True)(params)

    grads, (outputs, after) = step(variables["params"], draws, to_numpy(x))
    bound = PORTED_FLOAT64 if wide else PORTED
    for ours, theirs in zip(list_floats(outputs), list_floats(expected), strict=True):
        assert ours.dtype == theirs.detach().numpy().dtype
        assert_scaled(ours, theirs, bound, f"{name}: output")
    bound = PORTED_DEEP if CASES[name].slow and not wide else bound
    assert_same_grads(name, convert.to_state_dict({"params": grads}), grads_torch, bound)
    for key, value in convert.to_state_dict(after).items():
        # Of channels that a norm has centred, the mean is what rounding left.
        assert_scaled(value, buffers_torch[key], bound, f"{name}: {key}", 0.1)


def assert_same_grads(name: str, ours: Mapping, theirs: Mapping, bound: float) -> None:
    """Each gradient under its name, relative to the largest of all."""
    assert ours.keys() == theirs.keys()
    theirs = {k: np.zeros(ours[k].shape) if g is None else to_numpy(g) for k, g in theirs.items()}
    largest = max(float(np.max(np.abs(grad))) for grad in theirs.values())
    assert largest > 0
    for key, grad in theirs.items():
        assert_scaled(ours[key], grad, bound, f"{name}: gradient of {key}", largest)


def assert_same_evaluation(name: str, wide: bool = False) -> None:
    """`jnet.apply(variables, x)` is `net.eval()(x)`."""
    with jaxnet.precision.use("float64" if wide else "parity"):
        ported, x = port(name, wide), make_input(name, 3, wide)
        with torch.no_grad():
            expected = ported.net.eval()(x)
        outputs = jax.jit(ported.jnet.apply)(ported.variables, to_numpy(x))
        bound = PORTED_FLOAT64 if wide else PORTED
        for ours, theirs in zip(list_floats(outputs), list_floats(expected), strict=True):
            assert_scaled(ours, theirs, bound, f"{name}: evaluation")
