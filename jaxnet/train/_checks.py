"""Checks of the arguments of `fit`, `run` and `evaluate`."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet._utils.processes import fetch
from jaxnet._utils.validation import INT32, check_function, check_net, check_optimizer
from jaxnet.precision import MEANINGS, Precision, cast_array, use
from jaxnet.train.sharding import put
from jaxnet.train.state import History, TrainState, check_state


def check_parts(net: Any, loss: Any, optimizer: Any) -> None:
    """Reject a net, loss or optimizer that no step can be made of."""
    check_net(net)
    check_function("loss", loss, "a function loss(outputs, y)")
    check_optimizer(optimizer)


def check_scalar(loss: Any) -> Any:
    """The loss; reject anything but a scalar."""
    if not hasattr(loss, "shape") and not isinstance(loss, int | float):
        raise TypeError(f"loss must give a scalar, not a {type(loss).__name__}")
    if np.shape(loss) != ():
        raise ValueError(f"loss must give a scalar, not shape {np.shape(loss)}")
    return loss


def check_metrics(metrics: Any) -> None:
    """Reject metrics that are not named functions."""
    if metrics is not None and not isinstance(metrics, Mapping):
        raise TypeError(f"metrics must be {{name: metric}}, not {type(metrics).__name__}")
    for name, metric in (metrics or {}).items():
        check_function(f"metrics: {name!r}", metric, "a function metric(outputs, y)")


def check_optimizer_state(optimizer: Any, state: TrainState) -> None:
    """Reject the state of another optimizer."""
    check_state(state)
    expected = jax.eval_shape(optimizer.init, state.params)
    if jax.tree.structure(expected) != jax.tree.structure(state.opt_state):
        raise ValueError(
            "state must come from this optimizer: its opt_state has the parts "
            f"{jax.tree.structure(state.opt_state)}, not {jax.tree.structure(expected)}"
        )


def split_run(state: Any) -> tuple[Any, History]:
    """A state and the history of its run, an empty one where `state` was given without."""
    if is_pair(state):
        return state
    if type(state) is tuple:
        raise TypeError(
            "state must be a TrainState, or a pair (state, history) as fit returns it, not "
            f"({', '.join(type(part).__name__ for part in state)})"
        )
    return state, History(np.zeros(0, np.float32), (), 0.0, 0.0, "")


def is_pair(state: Any) -> bool:
    """Whether it is a state with the history of its run, as `fit` returns them."""
    return type(state) is tuple and len(state) == 2 and isinstance(state[1], History)


def count_epochs(past: History, steps: int, epochs: int) -> int:
    """The epochs that a run has done; reject a history of other batches or of a longer run."""
    done, rest = divmod(len(past.losses), steps)
    if rest:
        raise ValueError(
            f"state has a history of {len(past.losses)} steps, which are no whole epochs: with "
            f"these data and this batch_size an epoch has {steps}"
        )
    if done > epochs:
        raise ValueError(
            f"epochs must be at least the {done} that the history in state has, not {epochs}: "
            "they are counted from the run's beginning"
        )
    return done


def limit_epochs(done: int, steps: int, state: TrainState) -> int:
    """The last epoch whose steps the state can count, where `done` are done."""
    step = state.step
    # A state of one's own may hold anything there.
    counted = 0 if step is None or np.ndim(step) else int(fetch(step))
    return done + max(0, INT32 - counted) // steps


def check_steps(epochs: int, most: int) -> None:
    """Reject epochs whose steps no state can count."""
    if epochs > most:
        raise ValueError(
            f"epochs must be at most {most} here, not {epochs}: a state counts its steps in int32, "
            f"up to {INT32}"
        )


def check_types(state: TrainState, name: Precision) -> None:
    """Reject a state whose weights or buffers are not of the precision's type."""
    others = {kind for kind in _float_types(state) if (kind == np.float64) != (name == "float64")}
    if others:
        found = ", ".join(sorted(map(str, others)))
        raise ValueError(
            f"state is {found} but precision is {name!r}, which computes in "
            f"{MEANINGS[name].split(',')[0]}: jaxnet.precision.cast(state, {name!r}) converts it"
        )


def check_given(given: Any, before: TrainState) -> TrainState:
    """The state that a callback returned, placed as the one before it; reject anything else.

    Numbers of another type, or arrays on other devices, would have the rest of the run compiled and
    rounded otherwise.
    """
    check_state(given, "what a callback gives, if not None,")
    structures = [jax.tree.structure(state) for state in (given, before)]
    if structures[0] != structures[1]:
        raise ValueError(
            "what a callback gives must have the structure of the state before it, "
            f"{structures[1]}, not {structures[0]}"
        )
    kinds, expected = (sorted(map(str, _float_types(state))) for state in (given, before))
    if kinds != expected:
        raise ValueError(
            f"what a callback gives must be {', '.join(expected)}, as the state before it, not "
            f"{', '.join(kinds)}"
        )
    return jax.tree.map(_place_like, given, before)


def _place_like(leaf: Any, before: Any) -> Any:
    free = not isinstance(before, jax.Array) or not before.committed
    there = free or (isinstance(leaf, jax.Array) and leaf.sharding == before.sharding)
    return leaf if there else put(leaf, before.sharding)


@contextmanager
def following(state: TrainState) -> Iterator[Callable[[Any], jax.Array]]:
    """The precision of a finished run's state, for `predict` and `evaluate`; gives a cast for data.

    With float64 weights, data are cast to float64. Others are computed in float32, in full unless
    `jax_default_matmul_precision` or `use("fast")` around the call says otherwise. A net without
    weights takes data as JAX does.
    """
    check_state(state)
    kinds = _float_types(state)
    if not kinds:
        yield jnp.asarray
        return
    name: Precision = "float64" if np.dtype(np.float64) in kinds else "parity"
    config: Any = jax.config
    chosen = config.jax_default_matmul_precision or "highest"
    with use(name), jax.default_matmul_precision(chosen):
        yield partial(cast_array, name=name)


def _float_types(state: TrainState) -> set[Any]:
    """The floating-point types of a state's weights and buffers."""
    leaves = jax.tree.leaves((state.params, state.model_state))
    types = {leaf.dtype for leaf in leaves if hasattr(leaf, "dtype")}
    return {kind for kind in types if jnp.issubdtype(kind, jnp.floating)}
