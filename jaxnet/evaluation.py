"""A net in evaluation mode: its outputs, and metrics of them."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen
import jax
import jax.numpy as jnp

from jaxnet.checks import check_rows, find_placement
from jaxnet.state import TrainState

Metrics = Mapping[str, Callable[[Any, Any], Any]]
"""Named functions `metric(outputs, y)`, each giving one value for each row."""


def memoise(factory: Callable) -> Callable:
    """`lru_cache`, for arguments of which some may not be hashable: those are not remembered."""
    remembered = functools.lru_cache(maxsize=32)(factory)

    @functools.wraps(factory)
    def call(*arguments):
        try:
            hash(arguments)
        except TypeError:
            return factory(*arguments)
        return remembered(*arguments)

    return call


def predict(net: flax.linen.Module, state: TrainState, x: Any) -> jax.Array:
    """The net's outputs in evaluation mode, `net.eval()(x)` in torch: no dropout, no gradients.

    Raises:
      ValueError: `state` and `x` are committed to different devices.
    """
    find_placement(state=state, x=x)
    return _make_forward(net)(state.params, state.model_state, jnp.asarray(x))


@memoise
def _make_forward(net: Any):
    @jax.jit
    def forward(params, model_state, x):
        return net.apply({"params": params, **model_state}, x)

    return forward


def evaluate(
    net: flax.linen.Module,
    state: TrainState,
    data: tuple[Any, Any],
    *,
    loss: Callable | None = None,
    metrics: Metrics | None = None,
) -> dict[str, float]:
    """Mean of each metric over the rows in evaluation mode, and the loss if one is given.

    A metric of booleans is counted in integers, so an accuracy is an exact count over the rows.

    Args:
      net, state: as `fit` took and gave them.
      data: `(x, y)`.
      loss: `loss(outputs, y)`, reported as "loss".
      metrics: `{name: metric}`, each `metric(outputs, y)` giving one value for each row.

    Raises:
      ValueError: the arrays differ in length or lie on different devices, or a metric does not
        give one value for each row.

    >>> import jaxnet
    >>> net = jaxnet.nn.Sequential([jaxnet.nn.Sigmoid()])
    >>> generator = jaxnet.random.manual_seed(0)
    >>> state = jaxnet.train.start(net, jaxnet.optim.sgd(), {"params": {}}, generator)
    >>> x, y = jnp.array([[1.0], [2.0], [-1.0], [3.0]]), jnp.array([[1.0], [1.0], [0.0], [0.0]])
    >>> evaluate(net, state, (x, y), metrics={"accuracy": jaxnet.metrics.probability_is_right})
    {'accuracy': 0.75}
    """
    x, y = data
    check_rows(x, y)
    find_placement(state=state, x=x, y=y)
    measure = _make_measure(net, loss, tuple((metrics or {}).items()))
    values = measure(state.params, state.model_state, jnp.asarray(x), jnp.asarray(y))
    values = {name: value.item() for name, value in values.items()}
    return {name: v / len(x) if isinstance(v, int) else v for name, v in values.items()}


@memoise
def _make_measure(net: Any, loss: Callable | None, metrics: tuple[tuple[str, Callable], ...]):
    @jax.jit
    def measure(params, model_state, x, y):
        outputs = net.apply({"params": params, **model_state}, x)
        values = {} if loss is None else {"loss": loss(outputs, y)}
        for name, metric in metrics:
            rows = metric(outputs, y)
            if rows.shape != x.shape[:1]:
                raise ValueError(
                    f"metric {name!r} must give one value for each of {len(x)} rows, "
                    f"not shape {rows.shape}"
                )
            values[name] = rows.sum() if rows.dtype == jnp.bool_ else rows.mean()
        return values

    return measure
