"""A torch run and its port side by side: whether they agree, and where they first diverge."""

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch

from jaxnet import precision
from jaxnet.certificate import Certificate
from jaxnet.random._arguments import check_seed
from torchref.certificates import compare_all, describe_run
from torchref.construction import draw_initial, stream_kept, watch_construction
from torchref.plan import Plan, make_plan
from torchref.prepare import Options, prepare_own, prepare_user


def certify(
    net: torch.nn.Module,
    *,
    data: tuple[Any, Any],
    loss: Any = None,
    optimizer: torch.optim.Optimizer | None = None,
    epochs: int = 1,
    batch_size: int | None = None,
    shuffle: bool = False,
    seed: int = 0,
    scheduler: Any = None,
    scheduler_interval: str = "epoch",
    dropout: str = "torch",
    port: Any = None,
    port_from_torch: Callable[[Any], Any] | None = None,
    known: Collection[str] = (),
    time: bool = False,
) -> Certificate:
    """Train a torch net and its JAX port side by side, and say where they first diverge.

    Both start from the same weights and the same stream. At each step the port is given torch's
    weights of that step and compared in the order in which an error travels: the rows of the batch
    and the masks exactly, then layer outputs, buffers, loss, gradients, and from torch's gradients
    the update and the weights. Each number's error is measured against float64 and may be no more
    than what rounding is seen to do to it (`jaxnet.certificate.bounds`). After epochs the
    outputs of all rows in evaluation mode are compared, at the end a whole run by itself (of
    `jaxnet.train.run`, where jaxnet made the port), its last weights and buffers, the stream. The
    comparison ends where the two first part.

    It is the caller's net, loss, optimizer and scheduler that are trained, with their hooks;
    afterwards their tensors, gradients and attributes are as before. So is torch's global stream.

    Args:
      net: any module in float32 on the CPU; without `port`, one that `jaxnet.convert.from_torch`
        takes, from a batch of the data as its example.
      data: `(X, y)`, tensors or arrays with the same number of rows. Several inputs are a tuple, or
        a dictionary by keyword; so may y be.
      loss: any callable of torch's, `loss(outputs, y)`; or a pair, torch's callable and the JAX one
        `loss(outputs, y)`. Without one, outputs alone are compared: "forward only".
      optimizer: of the net's parameters. Without one, the weights stay: "no updates". With `port`,
        it may have hooks and a `step` of its own, which clips gradients, adds up those of several
        batches or sets its rate: the port has the same as one optax transformation.
      epochs: passes over the data.
      batch_size: rows of a step, from a `DataLoader`; None takes all rows at once, without one.
      shuffle: whether the loader shuffles.
      seed: starts torch's stream, after construction; an integer as `torch.manual_seed` takes it.
      scheduler: of the optimizer.
      scheduler_interval: when it is stepped, after each "epoch" or after each "step".
      dropout: "torch" drops what torch draws; "off", beside a port, drops nothing on either side.
      port: your own, in the form in which its library has it, with torch's weights and a fresh
        optimizer of optax's: `(linen module or its apply, variables, optimizer)`, `(nnx.Module,
        optimizer)`, `(eqx.Module, optimizer)`, `((eqx.Module, state), optimizer)`,
        `(hk.transform(f), params, optimizer)`, a Flax `TrainState`, or `(function, params,
        optimizer)`. A function takes its variables and the inputs; it may take `train` (or
        `training`, `deterministic`, `use_running_average`) and `masks` or `draws`, True where
        kept, nested by torch's names, `{"1": keep}`; torch's draws take the place of those of a
        port that draws by itself. A learning rate that changes is the port's own.
      port_from_torch: a linear function from torch's state_dict to a tree like the port's
        parameters, where names, values and numbers do not tell which leaf holds which tensor.
      known: differences of formula to go on beyond: "batchnorm-variance", "clip-epsilon",
        "merged-bias".
      time: also time a training step of both sides, of torch as it was given and by
        `torch.compile`, if they do not part: `Certificate.timing`.

    Raises:
      jaxnet.convert.Unsupported: the net, the loss or the optimizer cannot be ported.
      ValueError, TypeError: an argument is out of range, torch's loss does not take these outputs
        and targets, a hook changes what torch trains, or the port cannot be called on this data.
        The optimizer needs a closure (LBFGS), or the scheduler a validation loss. What the net
        raises on this data comes through.

    >>> net = torch.nn.Sequential(torch.nn.Linear(3, 1))
    >>> data = torch.ones(4, 3), torch.ones(4, 1)
    >>> certificate = certify(net, loss=torch.nn.MSELoss(), data=data, epochs=2, batch_size=2,
    ...                       optimizer=torch.optim.SGD(net.parameters()))
    >>> certificate.agrees, certificate.steps
    (True, 4)
    """
    seed = check_seed(seed)
    with stream_kept():
        torch.manual_seed(seed)
        plan = make_plan(
            net,
            data=data,
            loss=loss,
            optimizer=optimizer,
            epochs=epochs,
            batch_size=batch_size,
            shuffle=shuffle,
            scheduler=scheduler,
            scheduler_interval=scheduler_interval,
            dropout=dropout,
        )
        return _compare(plan, loss, seed, Options(port, port_from_torch, known, time))


def certify_script(
    build: Callable[[], Any],
    *,
    epochs: int | None = None,
    batch_size: int | None = None,
    shuffle: bool | None = None,
    seed: int = 0,
    scheduler_interval: str | None = None,
    time: bool | None = None,
    progress: Callable[[int, int], Any] | None = None,
) -> Certificate:
    """Call `build()` after `torch.manual_seed(seed)`, as a script would, and certify what it gives.

    `build` returns `(net, loss, optimizer, data)`, or a scheduler as a fifth, or a dictionary of
    `certify`'s arguments, with a port of your own or without. The stream continues from where
    `build` leaves it. Beside what `certify` compares, the initial weights of each layer that
    torch's constructor drew are compared with those that jaxnet draws at the same place of the
    stream, unless there is a port; what the script has set itself is taken from torch.

    Args:
      build: makes what is certified.
      epochs, batch_size, shuffle, scheduler_interval, time: as for `certify`; None takes what
        `build` says, or else what `certify` takes.
      seed: as for `certify`.
      progress: called with the number of each step before it is compared, and how many there are.

    Raises:
      TypeError: `build` returns something else; otherwise as `certify`.
    """
    seed = check_seed(seed)
    with stream_kept():
        torch.manual_seed(seed)
        with watch_construction() as begun:
            built = build()
        given = _read_built(built)
        asked = {"epochs": epochs, "batch_size": batch_size, "shuffle": shuffle}
        asked |= {"scheduler_interval": scheduler_interval, "time": time}
        given |= {name: value for name, value in asked.items() if value is not None}
        options = Options(**{name: given.pop(name) for name in Options._fields if name in given})
        plan = make_plan(**given)
        if progress is not None:
            steps = plan.epochs * plan.batching.steps
            options = options._replace(progress=lambda step: progress(step, steps))
        return _compare(plan, given.get("loss"), seed, options, begun)


_BUILT = ("net", "loss", "optimizer", "data", "scheduler")


def _read_built(built: Any) -> dict[str, Any]:
    """What `build` gave, as the arguments of `certify`."""
    if isinstance(built, tuple) and len(built) in (4, 5):
        return dict(zip(_BUILT, built, strict=False))
    if not isinstance(built, Mapping):
        raise TypeError(
            "build must return (net, loss, optimizer, data), (net, loss, optimizer, data, "
            f"scheduler) or a dictionary of certify's arguments, not {type(built).__name__}"
            + (f" of {len(built)}" if isinstance(built, tuple) else "")
        )
    taken = inspect.signature(certify).parameters.keys() - {"seed"}
    if strange := [name for name in built if name not in taken]:
        why = ": it comes before build" if strange[0] == "seed" else ""
        raise TypeError(
            f"build must return arguments of certify, {', '.join(sorted(taken))}, not "
            f"{strange[0]!r}{why}"
        )
    if missing := [name for name in ("net", "data") if name not in built]:
        raise TypeError(f"build must return a dictionary with {missing[0]!r}")
    return dict(built)


def _compare(plan: Plan, loss: Any, seed: int, options: Options, begun: Any = None) -> Certificate:
    """The certificate; torch's stream is where the run begins.

    `begun` says where the stream was when each module of a script was built.
    """
    drawn = draw_initial(plan.net, begun) if begun and options.port is None else {}
    prepare = prepare_own if options.port is None else prepare_user
    with precision.use("parity"):
        comparison = prepare(plan, loss, options)
        settings = describe_run(plan, loss, options.port, seed)
        return compare_all(comparison, drawn, settings, options.time)
