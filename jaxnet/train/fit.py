"""`fit`: a net, a loss and an optimizer trained by `run`."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen
import jax
import optax

from jaxnet import nn
from jaxnet._utils.validation import check_devices
from jaxnet.data.loader import open_loader
from jaxnet.precision import Precision, cast, check_precision, use
from jaxnet.random import Generator
from jaxnet.train._checks import check_optimizer_state, check_parts, split_run
from jaxnet.train.loop import as_generator, drive
from jaxnet.train.plan import name_parts, prepare
from jaxnet.train.sharding import Placement, check_placement
from jaxnet.train.state import History, TrainState
from jaxnet.train.step import TrainStep, make_draws, start


def fit(
    net: flax.linen.Module,
    data: Any,
    *,
    loss: Callable,
    optimizer: optax.GradientTransformation,
    epochs: int,
    batch_size: int | None = None,
    shuffle: bool = False,
    seed: Any = None,
    state: TrainState | tuple[TrainState, History] | None = None,
    callbacks: Sequence[Any] = (),
    precision: Precision = "parity",
    placement: Placement | None = None,
) -> tuple[TrainState, History]:
    """Train a net: every epoch between two callbacks is part of one compiled program.

    Args:
      net: any Flax module that is called with x; whether it trains is told through `train`,
        `training`, `deterministic` or `use_running_average`, where its call takes one of these.
        With an integer seed, a net of `jaxnet.nn`.
      data: `(x, y)`, arrays (or pytrees of arrays) with the same number of rows, y already shaped
        for the loss; or a `jaxnet.data.DataLoader` of them, which can also drop a short last batch
        and have a generator of its own. Where an array is a `numpy.memmap`, or in place of the pair
        there is a Grain `MapDataset` of rows `(x, y)`, rows are read as batches need them, the next
        ones while the last ones are computed: memory holds two blocks of some 4 MiB (of one batch,
        where that is more) and a few bytes a row for their order, whatever there is on disk.
        Without a batch_size all rows are read at once.
      loss: `loss(outputs, y)`, a scalar: the mean over the batch, as in `jaxnet.losses`.
      optimizer: any optax optimizer, `jaxnet.optim`'s among them; one that looks at the loss, such
        as `optax.lbfgs`, is given it.
      epochs: passes over the rows, of at most 2**31 - 1 steps: a state counts them in int32. Where
        there are callbacks, which may end the run, any number up to 2**63 - 1 begins.
      batch_size: rows of a step; the last step of an epoch takes what is left. None takes all
        rows at once, without a loader. More than there are rows raises; torch's DataLoader
        takes it.
      shuffle: whether each epoch takes the rows in a new order.
      seed: an integer from -2**63 to 2**64 - 1 for torch's stream (weights, orders and masks as
        `torch.manual_seed(seed)` gives them), a `jaxnet.random.Generator` to continue from, or a
        `jax.random.key` for JAX's own.
      state: continue from here instead: no weights are drawn. The generator of a loader that has
        its own continues from the state's. A pair `(state, history)`, as `fit` returns it,
        resumes that run: `epochs` are then the whole run's, reports fall where they would have
        fallen, and the history is the whole run's.
      callbacks: of `jaxnet.callbacks`: reports, validation, checkpoints, early stopping; or
        functions of a `Chunk`, called after each report, at the end, and between epochs when a
        second has gone by. Of many processes each calls its own.
      precision: "parity" multiplies float32 in full, as torch does; "fast" as the backend likes
        best, which on a CPU is the same; "float64" widens the initial weights, as `net.double()`
        does in torch, and the data. It decides, whatever is set for all of JAX. Random numbers
        of torch's stream do not depend on it; masks from a `jax.random.key` do, in float64.
      placement: `jaxnet.train.OnMesh(mesh)` for many devices; None for one.

    Returns:
      The state after the last step and the `History`. Where the run is cut into chunks changes no
      bit of either.

    Raises:
      ValueError, TypeError: an argument is out of range, x or y holds nan or an infinity, both or
        neither of `seed` and `state` are given, `state` is another optimizer's or of another
        precision, its history is longer than `epochs` or of other batches, the arrays are on
        different devices and no `placement` is given, or its `specs` do not fit the weights.
        Of rows that are read as they are needed, nan or an infinity is found when it is read.

    torch has no such function; the loop that the lecture repeats is this one.

    >>> import jax.numpy as jnp, jaxnet
    >>> net = jaxnet.nn.Sequential([jaxnet.nn.Linear(1, 1)])
    >>> x = jnp.array([[0.0], [1.0]])
    >>> loss = lambda outputs, y: ((outputs - y) ** 2).mean()
    >>> state, history = fit(net, (x, 2 * x), loss=loss, optimizer=jaxnet.optim.sgd(lr=0.5),
    ...                      epochs=200, seed=1)
    >>> print(jaxnet.predict(net, state, x).round(3))
    [[0.]
     [2.]]
    """
    begin = time.perf_counter()
    check_parts(net, loss, optimizer)
    placement = check_placement(placement)
    with use(check_precision(precision)), placement.host():
        loader = open_loader(data, batch_size, shuffle, precision, pairs=True)
    begun, past = split_run(state)
    if (seed is None) == (begun is None):
        raise ValueError(
            "fit needs either seed (a new run) or state (one that is resumed), not both"
        )
    if begun is not None:
        check_optimizer_state(optimizer, begun)
    x, _ = loader.data.example
    with use(precision), placement.host():
        if begun is None:
            generator, variables = _draw_variables(net, seed, x)
            begun = start(optimizer, cast(variables, precision), generator)
        steps = TrainStep(net, loss, optimizer), make_draws(net, x)
    parts = name_parts(*steps)
    run = prepare(steps, (begun, past), loader, epochs, precision, placement, seed, parts)
    del loader  # the run has its data where it is placed: no second copy stays here
    return drive(run, callbacks, begin)


def _draw_variables(net: Any, seed: Any, x: Any) -> tuple[Any, Any]:
    """The generator after a net's initial variables, and these."""
    generator = as_generator(seed)
    if isinstance(generator, Generator):
        return nn.init(net, generator)
    check_devices(seed=generator, x=x)
    generator, key = jax.random.split(generator)
    return generator, net.init(key, x, **nn.call_keywords(net, train=False))
