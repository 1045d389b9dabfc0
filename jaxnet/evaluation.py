"""A net in evaluation mode: its outputs, and metrics of them."""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.checks import (
    check_devices,
    check_function,
    check_looks,
    check_net,
    check_real,
    check_rows,
    check_scalar,
    check_state_kind,
)
from jaxnet.nn import call_keywords
from jaxnet.placement import Layout, mesh_of, put
from jaxnet.precision import following
from jaxnet.rows import (
    BLOCK,
    Rows,
    check_data,
    count_rows,
    cut,
    is_map_dataset,
    is_streamed,
    prefetch,
)
from jaxnet.state import TrainState

Metrics = Mapping[str, Callable[[Any, Any], Any]]
"""Named functions `metric(outputs, y)`, each giving one value for each row."""


def memoise(factory: Callable) -> Callable:
    """`lru_cache`, for arguments of which some may not be hashable: those are not remembered."""
    check_function("factory", factory)
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
    """The net's outputs in evaluation mode: no dropout.

    In torch this is `net.eval()(x)` under `torch.no_grad()`; here it may be jitted, vmapped and
    differentiated. A state in float64 is met by x in float64; any other is computed in float32,
    multiplied in full unless `jax_default_matmul_precision` or `jaxnet.precision.use` around the
    call says otherwise. Under a jit of your own, a float64 state needs `use("float64")` around it.

    Raises:
      ValueError: `state` and `x` were put on different devices.

    >>> import jaxnet
    >>> net = jaxnet.nn.Sequential([jaxnet.nn.Dropout(0.5), jaxnet.nn.Sigmoid()])
    >>> generator = jaxnet.random.manual_seed(0)
    >>> state = jaxnet.train.start(jaxnet.optim.sgd(), {"params": {}}, generator)
    >>> print(predict(net, state, jnp.array([[0.0]])))
    [[0.5]]
    """
    check_net(net)
    check_state_kind(state)
    check_real(x=x)
    check_devices(state=state, x=x)
    with following(state) as put:
        return _make_forward(net)(state.params, state.model_state, put(x))


@memoise
def _make_forward(net: Any):
    mode = call_keywords(net, train=False)

    @jax.jit
    def forward(params, model_state, x):
        return net.apply({"params": params, **model_state}, x, **mode)

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
    Gives Python numbers, so it cannot be jitted. The precision is that of `predict`.

    Args:
      net, state: as `fit` took and gave them.
      data: `(x, y)`, or a Grain `MapDataset` of rows; mapped arrays and data sets are read block by
        block, and a loss that is given is then the mean of the blocks', by their rows.
      loss: `loss(outputs, y)`, reported as "loss".
      metrics: `{name: metric}`, each `metric(outputs, y)` giving one value for each row.

    Raises:
      ValueError: the arrays differ in length or lie on different devices, or a metric does not
        give one value for each row or takes the name "loss" from the loss.

    >>> import jaxnet
    >>> net = jaxnet.nn.Sequential([jaxnet.nn.Sigmoid()])
    >>> generator = jaxnet.random.manual_seed(0)
    >>> state = jaxnet.train.start(jaxnet.optim.sgd(), {"params": {}}, generator)
    >>> x, y = jnp.array([[1.0], [2.0], [-1.0], [3.0]]), jnp.array([[1.0], [1.0], [0.0], [0.0]])
    >>> evaluate(net, state, (x, y), metrics={"accuracy": jaxnet.metrics.probability_is_right})
    {'accuracy': 0.75}
    """
    check_net(net)
    check_state_kind(state)
    data = data if isinstance(data, Rows) else check_data(data)
    check_looks(metrics)
    if loss is not None:
        check_function("loss", loss, "a function loss(outputs, y)")
    if loss is not None and metrics and "loss" in metrics:
        raise ValueError("metrics must not be named 'loss' where a loss is given")
    streamed = isinstance(data, Rows) or is_streamed(data)
    if not isinstance(data, Rows) and not is_map_dataset(data):
        check_rows(*data)
    mesh = mesh_of(state)
    if not streamed and mesh is None:
        check_devices(state=state, x=data[0], y=data[1])
    measure = make_measure(net, loss, tuple((metrics or {}).items()))
    count, totals = count_rows(data), dict[str, float]()
    with following(state) as cast:
        for x, y in _read(data, cast) if streamed else [data]:
            batch = (cast(x), cast(y))
            if mesh is not None:
                batch = tuple(put(values, Layout(mesh).rows(len(x))) for values in batch)
            values = measure(state.params, state.model_state, *batch)
            for name, value in values.items():
                value = value.item()
                share = 1 if isinstance(value, int) else len(x) / count  # counted, or a mean
                totals[name] = totals.get(name, 0) + value * share
    return {name: t / count if isinstance(t, int) else t for name, t in totals.items()}


def _read(data: Any, cast: Callable) -> Iterator[tuple[Any, Any]]:
    """Rows in their own order, block by block, the next one while the last one is computed."""
    if not isinstance(data, Rows):
        wide = cast(np.zeros(0)).dtype == np.float64
        data = Rows(data, "float64" if wide else "parity")
    count = max(1, BLOCK // max(1, data.bytes))
    return prefetch(lambda part: data.take(np.asarray(part)), cut(len(data), count))


@memoise
def make_measure(net: Any, loss: Callable | None, metrics: tuple[tuple[str, Callable], ...]):
    """`measure(params, model_state, x, y)`, compiled: the loss, and of each metric the sum or mean.

    The sum where a metric says of each row whether it is right, the mean where it is a number.
    """
    mode = call_keywords(net, train=False)

    @jax.jit
    def measure(params, model_state, x, y):
        outputs = net.apply({"params": params, **model_state}, x, **mode)
        values = {} if loss is None else {"loss": check_scalar(loss(outputs, y))}
        for name, metric in metrics:
            rows = metric(outputs, y)
            if np.shape(rows) != x.shape[:1]:
                raise ValueError(
                    f"metric {name!r} must give one value for each of {len(x)} rows, "
                    f"not shape {np.shape(rows)}"
                )
            rows = jnp.asarray(rows)
            values[name] = rows.sum() if rows.dtype == jnp.bool_ else rows.mean()
        return values

    return measure
