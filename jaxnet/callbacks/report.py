"""Reports: loss and metrics every so many epochs."""

from typing import Any

from jaxnet._utils.descriptions import describe
from jaxnet._utils.validation import check_count
from jaxnet.data.loader import Batching, start_epoch
from jaxnet.precision import use
from jaxnet.train._checks import check_metrics
from jaxnet.train.evaluate import Metrics, evaluate
from jaxnet.train.loop import Callback, Chunk, Run
from jaxnet.train.state import Report as ReportRecord
from jaxnet.train.state import TrainState


class Report(Callback):
    """Reports the loss, and metrics of the training rows, every so many epochs.

    A report's metrics are means over the rows in evaluation mode, after the epoch's last update,
    as `jaxnet.evaluate` gives them.

    Args:
      every: epochs between two reports.
      metrics: `{name: metric}`, each `metric(outputs, y)` giving one value for each row.
      loader: whether a report iterates a loader over the data, as the lecture's does, and so draws
        that iteration's two words from torch's stream. It is another loader than the training's:
        unshuffled, without a generator of its own.

    Raises:
      ValueError: `every` is below 1; when the run begins, `loader` is True and there is no
        batch_size, or there are metrics and the run's step has no net.

    torch has none; there the lecture evaluates and prints in its loop.

    >>> import jax.numpy as jnp, jaxnet
    >>> net = jaxnet.nn.Sequential([jaxnet.nn.Linear(1, 1)])
    >>> x = jnp.array([[1.0], [2.0]])
    >>> _, history = jaxnet.fit(net, (x, x), loss=lambda outputs, y: ((outputs - y) ** 2).mean(),
    ...                         optimizer=jaxnet.optim.sgd(0.1), epochs=4, seed=0,
    ...                         callbacks=[Report(every=2)])
    >>> [report.epoch for report in history.reports]
    [2, 4]
    """

    order = 10

    def __init__(self, every: int = 1, metrics: Metrics | None = None, loader: bool = False):
        self._every = check_count("every", every)
        check_metrics(metrics)
        self._metrics, self._loader = dict(metrics or {}), bool(loader)
        self._run: Run | None = None

    def next_epoch(self, epoch: int) -> int:
        """The next epoch with a report."""
        return epoch - epoch % self._every + self._every

    def describe(self) -> dict[str, Any]:
        """When reports are due, and what they hold."""
        metrics = describe(self._metrics)
        return {"report_every": self._every, "report_loader": self._loader, "metrics": metrics}

    def on_start(self, run: Run) -> None:
        """Compile what a report computes."""
        if self._loader and run.batching.batch_size is None:
            raise ValueError("Report(loader=True) needs a batch_size: a full batch has no loader")
        if self._metrics and not hasattr(run.program.step, "net"):
            raise ValueError(
                "Report(metrics=) needs a run of jaxnet.fit: a step of your own has no net to "
                "evaluate; a callback of your own can call jaxnet.evaluate"
            )
        self._run = run
        for blank in run.source.list_blanks():
            self._measure(run.state, blank)

    def on_chunk(self, chunk: Chunk) -> TrainState | None:
        """Add a report to the chunk where one is due; gives the state after what it drew."""
        run = self._run
        if run is None or chunk.epoch % self._every:
            return None
        values = self._measure(chunk.state, run.source)
        chunk.add_report(ReportRecord(chunk.epoch, float(chunk.losses[-1]), values))
        if not self._loader:
            return None
        loader = Batching(run.batching.num_examples, run.batching.batch_size)
        with use(run.precision):
            generator, _ = start_epoch(chunk.state.generator, loader)
        return chunk.state._replace(generator=generator)

    def on_end(self, run: Run) -> None:
        """Drop the reference to the run, and so to its data."""
        self._run = None

    def _measure(self, state: TrainState, data: Any) -> dict[str, float]:
        run: Any = self._run
        if not self._metrics:
            return {}
        with use(run.precision):
            return evaluate(run.program.step.net, state, data, metrics=self._metrics)
