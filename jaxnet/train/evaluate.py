"""A net in evaluation mode: its outputs, and metrics of them."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np

from jaxnet._utils.validation import check_devices, check_function, check_net, check_real
from jaxnet.cache import memoize
from jaxnet.data._blocks import place_batches, prefetch, split_range
from jaxnet.data.sources import Mapped, as_source
from jaxnet.nn import call_keywords
from jaxnet.precision import use
from jaxnet.train._checks import check_metrics, check_scalar, following
from jaxnet.train.sharding import MeshLayout, mesh_of, put
from jaxnet.train.state import TrainState, check_state

Metrics = Mapping[str, Callable[[Any, Any], Any]]
"""Named functions `metric(outputs, y)`, each giving one value for each row."""


def predict(net: flax.linen.Module, state: TrainState, x: Any) -> jax.Array:
    """The net's outputs in evaluation mode: no dropout.

    In torch this is `net.eval()(x)` under `torch.no_grad()`; here it may be jitted, vmapped and
    differentiated. With a state in float64, x is cast to float64; any other is computed in float32,
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
    check_state(state)
    for leaf in jax.tree.leaves(x, is_leaf=lambda node: isinstance(node, list)):
        check_real(x=leaf)
    check_devices(state=state, x=x)
    with following(state) as cast:
        x = jax.tree.map(cast, x, is_leaf=lambda node: isinstance(node, list))
        return _make_forward(net)(state.params, state.model_state, x)


@memoize
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
      ValueError: the arrays differ in length, are on different devices or hold nan or an infinity,
        or a metric does not give one value for each row or takes the name "loss" from the loss.

    >>> import jaxnet
    >>> net = jaxnet.nn.Sequential([jaxnet.nn.Sigmoid()])
    >>> generator = jaxnet.random.manual_seed(0)
    >>> state = jaxnet.train.start(jaxnet.optim.sgd(), {"params": {}}, generator)
    >>> x, y = jnp.array([[1.0], [2.0], [-1.0], [3.0]]), jnp.array([[1.0], [1.0], [0.0], [0.0]])
    >>> evaluate(net, state, (x, y), metrics={"accuracy": jaxnet.metrics.probability_is_right})
    {'accuracy': 0.75}
    """
    check_net(net)
    check_state(state)
    check_metrics(metrics)
    if loss is not None:
        check_function("loss", loss, "a function loss(outputs, y)")
    if loss is not None and metrics and "loss" in metrics:
        raise ValueError("metrics must not be named 'loss' where a loss is given")
    measure = make_measure(net, loss, tuple((metrics or {}).items()))
    with following(state) as cast:
        source = _open(data, state, cast)
        count, totals = source.num_examples, dict[str, float]()
        for batch in _list_batches(source, mesh_of(state), cast):
            rows = len(jax.tree.leaves(batch)[0])
            for name, array in measure(state.params, state.model_state, *batch).items():
                value = array.item()
                share = 1 if isinstance(value, int) else rows / count  # counted, or a mean
                totals[name] = totals.get(name, 0) + value * share
    return {name: t / count if isinstance(t, int) else t for name, t in totals.items()}


def _open(data: Any, state: TrainState, cast: Callable) -> Any:
    """A source, checked."""
    source: Any = as_source(data)
    if source.streamed:
        if source is data:  # a run's own: in its precision, and checked
            return source
        wide = cast(np.zeros(0)).dtype == np.float64
        return Mapped(data, "float64" if wide else "parity")
    if source is not data:
        source.check_finite()
    if mesh_of(state) is None:
        x, y = source.arrays
        check_devices(state=state, x=x, y=y)
    return source


def _list_batches(source: Any, mesh: Any, cast: Callable) -> Iterable[Any]:
    """All rows at once, or block by block, the next one while the last one is computed."""

    def find_sharding(count: int) -> Any:
        return None if mesh is None else MeshLayout(mesh).shard(count)

    if not source.streamed:
        where = find_sharding(source.num_examples)
        pair = jax.tree.map(cast, source.arrays)
        return [pair if where is None else jax.tree.map(lambda a: put(a, where), pair)]

    @use(source.precision)  # a thread has JAX's settings of its own
    def load(part: range) -> Any:
        return place_batches(source.take, np.asarray(part), find_sharding(len(part)))

    return prefetch(load, split_range(source.num_examples, source.block))


@memoize
def make_measure(net: Any, loss: Callable | None, metrics: tuple[tuple[str, Callable], ...]):
    """`measure(params, model_state, x, y)`: the loss; each metric's sum, of booleans, or mean."""
    mode = call_keywords(net, train=False)

    @jax.jit
    def measure(params, model_state, x, y):
        outputs = net.apply({"params": params, **model_state}, x, **mode)
        count = len(jax.tree.leaves(x)[0])
        values = {} if loss is None else {"loss": check_scalar(loss(outputs, y))}
        for name, metric in metrics:
            rows = metric(outputs, y)
            if np.shape(rows) != (count,):
                raise ValueError(
                    f"metric {name!r} must give one value for each of {count} rows, "
                    f"not shape {np.shape(rows)}"
                )
            rows = jnp.asarray(rows)
            values[name] = rows.sum() if rows.dtype == jnp.bool_ else rows.mean()
        return values

    return measure
