"""A run put together for people: saved, resumed, stopped by Ctrl-C or by numbers that go wrong."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, get_args

import jax

import jaxnet.train
from jaxnet.archive import digest_array, digest_text, name_function, name_net, name_seed
from jaxnet.checkpoint import Checkpoints
from jaxnet.checks import check_looks, check_parts, check_past, check_reports, nearest
from jaxnet.finite import Guard, NotFinite
from jaxnet.hosts import any_of, is_shared
from jaxnet.interrupts import patient
from jaxnet.precision import Precision, use
from jaxnet.rows import Rows
from jaxnet.state import Chunk, History, Hook, TrainState
from jaxnet.train import Ready, make_train_step, prepare

OnNan = Literal["stop", "ignore"]

_BASIC = ("batch_size", "shuffle", "seed", "state", "precision", "mesh", "specs")
_LOOKS = ("report_every", "report_loader", "metrics")


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, after the chunk that was under way; `state` and `history` are the run's so far."""

    def __init__(self, state: TrainState, history: History, message: str):
        super().__init__(message)
        self.state, self.history = state, history


def fit(
    net: Any,
    data: Any,
    *,
    loss: Callable,
    optimizer: Any,
    epochs: int,
    checkpoint: str | os.PathLike | None = None,
    keep: int = 3,
    resume: bool = False,
    on_nan: OnNan = "stop",
    hooks: Sequence[Hook] = (),
    **options: Any,
) -> tuple[TrainState, History]:
    """`jaxnet.fit` that survives: checkpoints, resuming, Ctrl-C, and an end at NaN.

    Every number is that of `jaxnet.fit` with the same arguments, and a run that was killed and
    resumed gives the same bits as one that was not.

    Args:
      net, data, loss, optimizer, epochs, options: as `jaxnet.fit` takes them.
      checkpoint: a folder of the run's own for a `jaxnet.checkpoint.Checkpoints`: at most a save a
        second, and one at the end.
        In many processes all call this, and the first alone uses the folder.
      keep: how many checkpoints stay.
      resume: go on from the newest checkpoint that is whole; where there is none, begin. `epochs`
        are the whole run's: more than before goes on, as many gives the run as it ended.
      on_nan: "stop" ends a run whose loss or weights are not finite with `NotFinite`, which names
        the first bad step, tensor and rows; "ignore" trains on, as torch does.
      hooks: as `jaxnet.fit` takes them. With "stop", none sees a state that is not finite; after
        resuming, they first see the epoch that was saved.

    Returns:
      The state and the `History` of the whole run, whatever processes it took.

    Raises:
      ValueError, TypeError: those of `jaxnet.fit`; `resume` without `checkpoint`; the folder has
        checkpoints and `resume` is False; they are of another run, with the differences; none can
        be read.
      OSError: the folder cannot be written.
      jaxnet.finite.NotFinite: with `on_nan="stop"`.
      Interrupted: Ctrl-C was pressed; the chunk was finished and saved. A second one interrupts at
        once.

    >>> import tempfile, jax.numpy as jnp, jaxnet
    >>> net, x = jaxnet.nn.Sequential([jaxnet.nn.Linear(1, 1)]), jnp.array([[1.0], [2.0]])
    >>> run = dict(loss=lambda outputs, y: ((outputs - y) ** 2).mean(), seed=0,
    ...            optimizer=jaxnet.optim.sgd(0.1), checkpoint=tempfile.mkdtemp())
    >>> state, history = fit(net, (x, x), epochs=2, **run)
    >>> state, history = fit(net, (x, x), epochs=5, resume=True, **run)
    >>> len(history.losses)
    5
    """
    if on_nan not in get_args(OnNan):
        meant = nearest(on_nan, get_args(OnNan))
        raise ValueError(f"on_nan must be 'stop' or 'ignore', not {on_nan!r}{meant}")
    if resume and checkpoint is None:
        raise ValueError("resume=True needs checkpoint, the folder to go on from")
    check_parts(net, loss, optimizer)
    check_looks(options.get("metrics"), hooks)
    _check_names(options)
    basic = {"optimizer": optimizer, "epochs": epochs} | {
        name: options[name] for name in _BASIC if name in options
    }
    ready = prepare(net, data, **basic)
    looks = {name: options[name] for name in _LOOKS if name in options}
    precision = options.get("precision", "parity")
    checkpoints = None
    if checkpoint is not None:
        about = _describe(net, loss, optimizer, ready, options)
        checkpoints = Checkpoints(checkpoint, keep=keep, about=about)
        ready = _resume(checkpoints, ready, resume, precision)
    inner: list[Hook] = list(hooks)
    if on_nan == "stop":
        parts = (ready.data, ready.batching, ready[:2], ready.layout, precision)
        guard = Guard(net, loss, optimizer, *parts)
        inner.insert(0, use(precision)(guard.__call__))
    if checkpoints is not None:
        inner.append(checkpoints)
    was_pressed = lambda: False  # noqa: E731
    state, history = ready[:2]
    if not _is_over(ready, hooks):
        with patient() as was_pressed, _last_good(checkpoints, ready):
            state, history = jaxnet.train.fit(
                net,
                data,
                loss=loss,
                optimizer=optimizer,
                epochs=epochs,
                batch_size=options.get("batch_size"),
                shuffle=options.get("shuffle", False),
                state=ready[:2],
                hooks=[*inner, lambda chunk: was_pressed()],
                precision=precision,
                mesh=options.get("mesh"),
                specs=options.get("specs"),
                **looks,
            )
    done = len(history.losses) // ready.batching.steps
    saved = checkpoints is not None and _save_end(checkpoints, done, state, history)
    if any_of(was_pressed()) if is_shared(state) else was_pressed():
        text = f"stopped after epoch {done} of {epochs}"
        if saved:
            text += f", which is saved in {checkpoint}"
        raise Interrupted(state, history, text)
    return state, history


def _save_end(checkpoints: Checkpoints, done: int, state: TrainState, history: History) -> bool:
    """Save where a run ended, unless that has just failed; whether it is saved."""
    saved = done > 0 and checkpoints.failed != done and checkpoints.save(done, state, history)
    checkpoints.close()
    return saved


def _check_names(options: Mapping[str, Any]) -> None:
    """Refuse what `jaxnet.fit` does not take, before anything is written."""
    known = (*_BASIC, *_LOOKS)
    for name in options:
        if name not in known:
            meant = nearest(name, known) or f"; expected {', '.join(known)}"
            raise TypeError(f"{name} is no argument of fit{meant}")
    check_reports(*(options.get(name) for name in _LOOKS))


def _describe(
    net: Any, loss: Any, optimizer: Any, ready: Ready, options: Mapping[str, Any]
) -> dict[str, Any]:
    """What makes a run this one, beside its arrays' shapes."""
    x, y = _describe_data(ready.data)
    every = options.get("report_every")
    seed = options.get("seed")
    begin = f"a state at step {ready.state.step}" if seed is None else name_seed(seed)
    return {
        "net": name_net(net),
        "loss": name_function(loss),
        "x": x,
        "y": y,
        "batches": str(ready.batching),
        "seed": begin,
        "report_every": None if every is None else int(every),
        "report_loader": bool(options.get("report_loader", False)),
        "metrics": {k: name_function(v) for k, v in (options.get("metrics") or {}).items()},
        "precision": options.get("precision", "parity"),
        "what a step computes, its loss and its optimizer": _digest_step(
            net, loss, optimizer, ready, options.get("precision", "parity")
        ),
    }


def _describe_data(data: Any) -> list[str]:
    """Type, shape and digest of x and of y: of all rows, or of some where they are read."""
    if not isinstance(data, Rows):
        return [f"{v.dtype} {v.shape}, SHA-256 {digest_array(v)}" for v in data]
    return [
        f"{text}, SHA-256 of {len(values)} rows {digest_array(values)}"
        for text, values in zip(data.describe(), data.sample(), strict=True)
    ]


def _digest_step(
    net: Any, loss: Any, optimizer: Any, ready: Ready, precision: Precision
) -> dict[str, str]:
    """What tells runs apart whose losses or optimizers bear one name: a rate, for one."""
    data = ready.data.like if isinstance(ready.data, Rows) else ready.data
    size = ready.batching.size
    batch = tuple(jax.ShapeDtypeStruct((size, *v.shape[1:]), v.dtype) for v in data)
    with use(precision):
        # Of shapes alone: where arrays lie on a mesh, the same computation prints otherwise.
        state = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), ready.state)
        traced = jax.make_jaxpr(make_train_step(net, loss, optimizer))(state, batch)
    constants = [digest_array(value) for value in traced.consts]
    return {"sha256": digest_text(f"{traced} {constants}")[:16], "jax": jax.__version__}


def _resume(checkpoints: Checkpoints, ready: Ready, resume: bool, precision: Precision) -> Ready:
    """The run as its folder has it."""
    epochs = checkpoints.list_epochs()
    if epochs and not resume:
        raise ValueError(
            f"checkpoint {checkpoints.directory} has checkpoints already, up to epoch "
            f"{epochs[-1]}: resume=True goes on from there, or choose an empty folder"
        )
    with use(precision):
        saved = checkpoints.restore(like=ready.state)
    if saved is None:
        return ready
    state, history = saved
    done = check_past(history, ready.batching.steps, ready.epochs.stop)
    return ready._replace(state=state, history=history, epochs=range(done, ready.epochs.stop))


def _is_over(ready: Ready, hooks: Sequence[Hook]) -> bool:
    """Whether a resumed run has ended: by its epochs, or by a hook that ends it where it stands."""
    reports = ready.history.reports
    done, end = ready.epochs.start, ready.epochs.stop
    if done == 0:
        return False
    report = reports[-1] if reports and reports[-1].epoch == done else None
    losses = ready.history.losses[-ready.batching.steps :]
    chunk = Chunk(done, end, ready.state, losses, report, ready.history)
    over = any([hook(chunk) is True for hook in hooks])
    return (any_of(over) if is_shared(ready.state) else over) or done == end


@contextmanager
def _last_good(checkpoints: Checkpoints | None, ready: Ready) -> Iterator[None]:
    """A run that goes wrong in here leaves its last sound state in the folder."""
    try:
        yield
    except NotFinite as error:
        done = len(error.history.losses) // ready.batching.steps
        if done and checkpoints is not None:
            if checkpoints.save(done, error.state, error.history):
                error.add_note(f"epoch {done}, before that, is saved in {checkpoints.directory}")
        raise
