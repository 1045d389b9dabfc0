"""Metrics of rows that are held back from training."""

from typing import Any

import flax.linen

from jaxnet._utils.validation import check_net
from jaxnet.data.sources import as_source
from jaxnet.train._checks import check_metrics
from jaxnet.train.evaluate import Metrics, evaluate
from jaxnet.train.loop import Callback, Chunk


class Validation(Callback):
    """Adds metrics of other rows to each report: `"validation accuracy"` for `"accuracy"`.

    The rows are evaluated as `jaxnet.evaluate` does, in
    evaluation mode, and draw nothing from a random stream: the run is that without it. In torch
    this is the second loop, under `net.eval()` and `torch.no_grad()`.

    Args:
      net: the one that is trained.
      data: `(x, y)` of the rows held back, or a Grain `MapDataset` of them, as `evaluate` takes
        them.
      loss: `loss(outputs, y)`, reported as `"validation loss"`.
      metrics: `{name: metric}`, each giving one value for each row.

    Raises:
      ValueError: there is neither a loss nor a metric, or the rows hold nan or an infinity.

    >>> import jax.numpy as jnp, jaxnet
    >>> net = jaxnet.nn.Sequential([jaxnet.nn.Linear(1, 1)])
    >>> loss = lambda outputs, y: ((outputs - y) ** 2).mean()
    >>> x = jnp.array([[1.0], [2.0]])
    >>> _, history = jaxnet.fit(net, (x, x), loss=loss, optimizer=jaxnet.optim.sgd(0.1), epochs=2,
    ...                         seed=0, callbacks=[jaxnet.callbacks.Report(),
    ...                                            Validation(net, (x, x), loss=loss)])
    >>> list(history.reports[0].metrics)
    ['validation loss']
    """

    order = 20

    def __init__(
        self, net: flax.linen.Module, data: Any, *, loss: Any = None, metrics: Metrics | None = None
    ):
        check_net(net)
        source = as_source(data)
        source.check_finite()
        check_metrics(metrics)
        if loss is None and not metrics:
            raise ValueError("loss or metrics must be given: without them there is no validation")
        self._net, self._loss, self._metrics = net, loss, metrics
        self._data = data if source.streamed else source

    def on_chunk(self, chunk: Chunk) -> None:
        """Add the metrics to the chunk's report, if it has one."""
        if chunk.report is None:
            return
        values = evaluate(
            self._net, chunk.state, self._data, loss=self._loss, metrics=self._metrics
        )
        chunk.report.metrics.update({f"validation {name}": v for name, v in values.items()})
