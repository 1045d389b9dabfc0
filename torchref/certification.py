"""A torch run and its port side by side: whether they agree, and where they first diverge."""

import hashlib
import platform
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from typing import Any

import jax
import numpy as np
import optax
import torch

import jaxnet
from jaxnet import convert, precision
from jaxnet.certificate import STAGES, Certificate
from jaxnet.certificate.comparison import Comparator, Diverged
from torchref.candidate import Port
from torchref.comparison import Comparison, relative_gaps
from torchref.construction import Drawn, draw_initial, stream_kept, watch_construction
from torchref.plan import FORWARD, Plan, make_plan
from torchref.recorder import Named, copy_named, leaves
from torchref.reference.updates import describe_decay


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
    port: tuple[Callable, Any, Any] | None = None,
) -> Certificate:
    """Train a torch net and its JAX port side by side, and say where they first diverge.

    Both start from the same weights and the same stream. At each step the port is given torch's
    weights of that step and compared in the order in which an error travels: the rows of the batch
    and the masks exactly, then layer outputs, buffers, loss, gradients, and from torch's gradients
    the update and the weights. Each number's error is measured against float64 and may be no more
    than what rounding is seen to do to it (`jaxnet.certificate.bounds`). After epochs the
    outputs of all rows in evaluation mode are compared, at the end a whole run by itself (of
    `jaxnet.fit`, where jaxnet made the port), its last weights and buffers, and the stream. The
    comparison ends where the two first part.

    It is the caller's net, loss, optimizer and scheduler that are trained, with their hooks;
    afterwards their tensors, gradients and attributes are as before. So is torch's global stream.

    Args:
      net: a `torch.nn.Sequential` that `jaxnet.convert.from_torch` takes; with `port`, any module
        in float32 on the CPU whose random numbers are drawn by `torch.nn.Dropout` layers.
      data: `(X, y)`, tensors or arrays with the same number of rows.
      loss: one of torch's loss modules; or a pair, torch's callable and the JAX one
        `loss(outputs, y)`. Without one, outputs alone are compared: "forward only".
      optimizer: of the net's parameters. Without one, the weights stay: "no updates".
      epochs: passes over the data.
      batch_size: rows of a step, from a `DataLoader`; None takes all rows at once, without one.
      shuffle: whether the loader shuffles.
      seed: starts torch's stream, after construction.
      scheduler: of the optimizer, stepped once an epoch.
      port: your own `(apply, variables, optax_optimizer)`, with a fresh optimizer. `apply` is a
        Flax module's, or a function of `(variables, x)`; it may take `train` (or `training`,
        `deterministic`, `use_running_average`) and `masks` or `draws`, True where kept, nested by
        torch's names, `{"1": keep}`. It returns the outputs, or these and its other collections.
        `variables` is `{"params": ...}` with them. Tensors bear torch's names, or are found by
        their values, in any order of the axes. A learning rate that changes is the port's own.

    Raises:
      jaxnet.convert.Unsupported: the net, the loss or the optimizer cannot be ported.
      ValueError, TypeError: an argument is out of range, a hook changes what torch trains, the
        port takes no masks where the net drops units, or two of its tensors fit one of torch's.
        What torch raises of the net on this data comes through.

    >>> net = torch.nn.Sequential(torch.nn.Linear(3, 1))
    >>> data = torch.ones(4, 3), torch.ones(4, 1)
    >>> certificate = certify(net, loss=torch.nn.MSELoss(), data=data, epochs=2, batch_size=2,
    ...                       optimizer=torch.optim.SGD(net.parameters()))
    >>> certificate.agrees, certificate.steps
    (True, 4)
    """
    with stream_kept():
        torch.manual_seed(seed)
        plan = make_plan(net, loss, optimizer, scheduler, data, epochs, batch_size, shuffle)
        return compare(plan, loss, port, jaxnet.random.manual_seed(seed), seed)


def certify_script(
    build: Callable[[], tuple[Any, ...]],
    *,
    epochs: int = 1,
    batch_size: int | None = None,
    shuffle: bool = False,
    seed: int = 0,
    progress: Callable[[int, int], Any] | None = None,
) -> Certificate:
    """Call `build()` after `torch.manual_seed(seed)`, as a script would, and certify what it gives.

    `build` returns `(net, loss, optimizer, data)`, or a scheduler as a fifth. The stream continues
    from where `build` leaves it. Beside what `certify` compares, the initial weights of each layer
    that torch's constructor drew are compared with those that jaxnet draws at the same place of the
    stream; what the script has set itself is taken from torch.

    Args:
      build: makes what is certified.
      epochs, batch_size, shuffle, seed: as for `certify`.
      progress: called with the number of each step before it is compared, and how many there are.

    Raises:
      TypeError: `build` returns something else; otherwise as `certify`.
    """
    with stream_kept():
        torch.manual_seed(seed)
        with watch_construction() as begun:
            built = build()
        if not isinstance(built, tuple) or len(built) not in (4, 5):
            raise TypeError(
                "build must return (net, loss, optimizer, data) or (net, loss, optimizer, data, "
                f"scheduler), not {type(built).__name__}"
                + (f" of {len(built)}" if isinstance(built, tuple) else "")
            )
        net, loss, optimizer, data = built[:4]
        scheduler = built[4] if len(built) == 5 else None
        plan = make_plan(net, loss, optimizer, scheduler, data, epochs, batch_size, shuffle)
        convert.from_torch(plan.net)  # rejects the net as a whole, before its layers one by one
        generator = jaxnet.random.set_state(torch.get_rng_state().numpy())
        tell = None if progress is None else _tell_of(plan, progress)
        return compare(plan, loss, None, generator, seed, draw_initial(net, begun), tell)


def _tell_of(plan: Plan, progress: Callable[[int, int], Any]) -> Callable[[int], Any]:
    return lambda step: progress(step, plan.epochs * plan.batching.steps)


def compare(
    plan: Plan,
    loss: Any,
    port: tuple[Callable, Any, Any] | None,
    generator: Any,
    seed: int,
    drawn: Mapping[str, Drawn] | None = None,
    progress: Callable[[int], Any] | None = None,
) -> Certificate:
    """The certificate of a plan that is ready to run, torch's stream being where it begins."""
    comparator = Comparator()
    with precision.use("parity"):
        comparison = _prepare(plan, loss, port, generator, comparator, progress)
        first = copy_named(plan.net.named_parameters())
        divergence = None
        try:
            # What torch's kernels explain comes last, so that it hides nothing that they do not.
            for name, tensor in sorted((drawn or {}).items(), key=lambda item: len(item[1].causes)):
                comparator.exactly("initial weights", name, *tensor)
            comparison.run()
        except Diverged as diverged:
            divergence = diverged.divergence
        finally:
            last = copy_named(plan.net.named_parameters())
            comparison.begun.restore()
    noise = {name: int(mask.sum()) for name, mask in comparison.whole.still.items()}
    losses = np.array(comparison.losses)
    return Certificate(
        divergence=divergence,
        missing=tuple(_list_uncompared(comparator, asked=True)),
        uncompared=tuple(_list_uncompared(comparator, asked=False)),
        stages={name: comparator.stages[name] for name in STAGES if name in comparator.stages},
        checked={name: comparator.checked[name] for name in STAGES if name in comparator.checked},
        given={name: comparator.given[name] for name in STAGES if name in comparator.given},
        steps=len(losses),
        losses=losses,
        gaps=relative_gaps(comparison.seen_losses, losses),
        run_gaps=relative_gaps(comparison.whole.losses, comparison.whole.own),
        overflowed=comparison.overflowed,
        chaos=len(losses) if comparison.whole.chaos is None else comparison.whole.chaos,
        noise=(sum(noise.values()), sum(p.numel() for p in plan.net.parameters())),
        noise_by_tensor=noise,
        granted=comparison.decay | comparison.granted,
        kinks=comparison.kinks,
        settings=_settings(plan, loss, port, seed),
        digests={
            "torch, first": digest(first),
            "torch, last": digest(last),
            "jax, first": digest(comparison.port.name_params(comparison.port.params)),
            "jax, last": digest(comparison.whole.last)
            if comparison.whole.last is not None
            else "not run",
        },
        machine=describe_machine(),
    )


_ASKED = ("outputs", "loss", "gradients", "update")
_GROWN = "rounding grows to 1e-3 of torch's own loss in its first step: a smaller rate, or float64"


def _is_asked(stage: str, name: str) -> bool:
    """Whether a certificate without this says too little: of a whole run, the losses."""
    return stage in _ASKED or (stage, name) == ("whole run", "loss")


def _list_uncompared(comparator: Comparator, asked: bool) -> Iterator[str]:
    """What was compared at no step, and why: what the call asked for, or the rest."""
    for (stage, name), compared in comparator.tensors.items():
        if not compared and _is_asked(stage, name) == asked:
            yield f"{stage} of {name}: {comparator.why.get((stage, name)) or _GROWN}"


def _prepare(
    plan: Plan,
    loss: Any,
    port: Any,
    generator: Any,
    comparator: Comparator,
    progress: Callable[[int], Any] | None,
) -> Comparison:
    """The port beside the plan: jaxnet's translation, or the user's."""
    jax_loss = loss[1] if isinstance(loss, tuple) else _port_loss(loss)
    names = [
        name for name, m in plan.net.named_modules(remove_duplicate=False) if m in _layers(plan)
    ]
    tensors: dict[str, Any] = {
        "weights": copy_named(plan.net.named_parameters()),
        "buffers": copy_named(plan.net.named_buffers()),
    }
    if port is not None:
        optimizer = optax.identity() if plan.scope else port[2]
        ours = Port(port[0], port[1], optimizer, jax_loss, **tensors, layers=names)
        if not ours.takes_masks and any(
            isinstance(layer, torch.nn.Dropout) and 0 < layer.p < 1 for layer in _layers(plan)
        ):
            raise ValueError("port must have an apply that takes masks: the net drops units")
        if any(float(state.get("step", 1)) > 0 for state in plan.optimizer.state.values()):
            raise ValueError("optimizer must be fresh beside a port of your own: it has a state")
        return Comparison(plan, ours, generator, comparator, progress=progress)
    jnet, variables = convert.from_torch(plan.net)
    if plan.scope:
        ours = Port(jnet.apply, variables, optax.identity(), jax_loss, **tensors, layers=names)
        return Comparison(plan, ours, generator, comparator, jnet, jax_loss, progress)
    steps = plan.batching.steps
    optimizer = convert.optimizer_from_torch(
        plan.optimizer,
        plan.net,
        scheduler=plan.scheduler,
        steps_per_epoch=steps,
        epochs=plan.epochs,
    )
    tensors |= {"layers": names, "shared": not isinstance(loss, tuple)}
    ours = Port(jnet.apply, variables, optimizer, jax_loss, **tensors)
    done = 0 if plan.scheduler is None else plan.scheduler.last_epoch * steps
    ours.opt_state = convert.opt_state_from_torch(
        plan.optimizer, plan.net, ours.opt_state, count=done
    )
    return Comparison(plan, ours, generator, comparator, jnet, jax_loss, progress)


def _port_loss(loss: Any) -> Callable:
    return (lambda outputs, y: outputs.mean()) if loss is None else convert.loss_from_torch(loss)


def _layers(plan: Plan) -> set[torch.nn.Module]:
    return set(leaves(plan.net))


def digest(named: Named) -> str:
    """SHA-256 over the names and bytes of named arrays, in the order of the names."""
    seen = hashlib.sha256()
    for name in sorted(named):
        seen.update(name.encode() + np.ascontiguousarray(named[name]).tobytes())
    return seen.hexdigest()


def _settings(plan: Plan, loss: Any, port: Any, seed: int) -> dict[str, Any]:
    named = loss[0] if isinstance(loss, tuple) else loss
    name = getattr(named, "__name__", type(named).__name__)
    return {
        "scope": plan.scope or None,
        "decay": describe_decay(plan.optimizer),
        "net": type(plan.net).__name__,
        "layers": len(leaves(plan.net)),
        "parameters": sum(parameter.numel() for parameter in plan.net.parameters()),
        "loss": None if plan.scope == FORWARD else name,
        "optimizer": None if plan.scope else type(plan.optimizer).__name__,
        "scheduler": None if plan.scheduler is None else type(plan.scheduler).__name__,
        "port": "jaxnet.convert" if port is None else "the caller's",
        "rows": len(plan.x),
        "epochs": plan.epochs,
        "batch_size": plan.batch_size,
        "shuffle": plan.shuffle,
        "seed": seed,
    }


def describe_machine() -> dict[str, str]:
    """Versions, platform and precision of a comparison."""
    versions = {
        name: metadata.version(name) for name in ("jax", "jaxlib", "flax", "optax", "numpy")
    }
    return {
        "jaxnet": jaxnet.__version__,
        "torch": torch.__version__,
        **versions,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": torch.backends.cpu.get_cpu_capability(),
        "backend": jax.default_backend(),
        "precision": f"parity ({precision.MEANINGS['parity']})",
    }
