"""A net in evaluation mode: its outputs, and metrics of them."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.cache import memoise
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
from jaxnet.precision import following, use
from jaxnet.rows import Rows, check_data, count_rows, cut, is_streamed, place, prefetch
from jaxnet.state import TrainState

Metrics = Mapping[str, Callable[[Any, Any], Any]]
"""Named functions `metric(outputs, y)`, each giving one value for each row."""


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
    data: Any,
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
    check_looks(metrics)
    if loss is not None:
        check_function("loss", loss, "a function loss(outputs, y)")
    if loss is not None and metrics and "loss" in metrics:
        raise ValueError("metrics must not be named 'loss' where a loss is given")
    measure = make_measure(net, loss, tuple((metrics or {}).items()))
    with following(state) as cast:
        data = _open(data, state, cast)
        count, totals = count_rows(data), dict[str, float]()
        for batch in _list_batches(data, mesh_of(state), cast):
            for name, array in measure(state.params, state.model_state, *batch).items():
                value = array.item()
                share = 1 if isinstance(value, int) else len(batch[0]) / count  # counted, or a mean
                totals[name] = totals.get(name, 0) + value * share
    return {name: t / count if isinstance(t, int) else t for name, t in totals.items()}


def _open(data: Any, state: TrainState, cast: Callable) -> Any:
    """A pair, checked, or `Rows`; they may hold nan, as a pair may."""
    if isinstance(data, Rows):
        return data
    data = check_data(data)
    if is_streamed(data):
        wide = cast(np.zeros(0)).dtype == np.float64
        return Rows(data, "float64" if wide else "parity", finite=False)
    check_rows(*data)
    if mesh_of(state) is None:
        check_devices(state=state, x=data[0], y=data[1])
    return data


def _list_batches(data: Any, mesh: Any, cast: Callable) -> Iterable[tuple[jax.Array, jax.Array]]:
    """All rows at once, or block by block, the next one while the last one is computed."""

    def find_place(count: int) -> Any:
        return None if mesh is None else Layout(mesh).rows(count)

    if not isinstance(data, Rows):
        x, y = (cast(values) for values in data)
        where = find_place(len(x))
        return [(x, y) if where is None else (put(x, where), put(y, where))]

    @use(data.precision)  # a thread has JAX's settings of its own
    def load(part: range) -> tuple[jax.Array, jax.Array]:
        return place(data.take, np.asarray(part), find_place(len(part)))

    return prefetch(load, cut(len(data), data.block))


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
