"""Where a run is cut changes no bit of it, for nets, batches and cuts that are drawn."""

from typing import Any, NamedTuple

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

import jaxnet
from jaxnet import callbacks, losses, nn, optim
from jaxnet.data.loader import DataLoader
from jaxnet.random import manual_seed
from jaxnet.train import plan

ACTIVATIONS = ["ReLU", "Sigmoid", "Tanh", "GELU"]
PROBABILITIES = [0.0, 0.1, 0.5, 0.9, 0.999, 1.0]
OPTIMIZERS = {
    "sgd": lambda: optim.sgd(lr=0.1),
    "momentum": lambda: optim.sgd(lr=0.1, momentum=0.9),
    "adam": lambda: optim.adam(lr=0.01),
}


class Call(NamedTuple):
    """A call of `fit`."""

    epochs: int
    report_every: int | None
    watched: bool
    """Whether a callback looks on, which cuts the call into chunks about a second long."""
    history: bool
    """Whether it goes on from `(state, history)`, not from the state alone."""


class Case(NamedTuple):
    """A run, and two ways to cut it."""

    layers: list[tuple]
    """Each its name in `jaxnet.nn` and its arguments."""
    rows: int
    batch_size: int | None
    shuffle: bool
    drop_last: bool
    own_generator: bool
    optimizer: str
    keyed: bool
    """Whether the seed makes a `jax.random.key`."""
    seed: int
    precision: Any
    cuts: tuple[list[Call], list[Call]]


@st.composite
def nets(draw, batch_norm: bool) -> list[tuple]:
    """Up to two hidden layers, not yet built: a check of the modules' annotations draws, too."""
    widths = draw(st.lists(st.sampled_from([1, 3, 8, 17, 32]), min_size=1, max_size=3))
    layers: list[tuple] = []
    for width_in, width_out in zip(widths, widths[1:], strict=False):
        layers.append(("Linear", width_in, width_out))
        if batch_norm and draw(st.booleans()):
            layers.append(("BatchNorm1d", width_out))
        between: list[tuple] = [(draw(st.sampled_from(ACTIVATIONS)),)]
        if draw(st.booleans()):
            drop = ("Dropout", draw(st.sampled_from(PROBABILITIES)))
            between.insert(draw(st.integers(0, 1)), drop)
        layers += between
    return [*layers, ("Linear", widths[-1], 1)]


@st.composite
def cuts(draw, epochs: int) -> list[Call]:
    """The epochs in one call or two."""
    first = draw(st.integers(1, epochs))
    counts = [first, epochs - first] if first < epochs else [epochs]
    return [
        Call(
            epochs=count,
            report_every=draw(st.none() | st.integers(1, count)),
            watched=draw(st.booleans()),
            history=draw(st.booleans()),
        )
        for count in counts
    ]


@st.composite
def cases(draw) -> Case:
    rows = draw(st.integers(1, 50))
    batch_size = draw(st.none() | st.integers(1, rows))
    batched = batch_size is not None
    size = batch_size or rows
    keyed = draw(st.integers(0, 3)) == 0
    epochs = draw(st.integers(2, 6))
    return Case(
        layers=draw(nets(size > 1 and rows % size != 1)),
        rows=rows,
        batch_size=batch_size,
        shuffle=batched and draw(st.booleans()),
        drop_last=batched and draw(st.booleans()),
        own_generator=batched and not keyed and draw(st.booleans()),
        optimizer=draw(st.sampled_from(sorted(OPTIMIZERS))),
        keyed=keyed,
        seed=draw(st.integers(0, 2**31)),
        precision=draw(st.sampled_from(["parity", "parity", "parity", "float64"])),
        cuts=(draw(cuts(epochs)), draw(cuts(epochs))),
    )


def run(case: Case, cut: list[Call], optimizer: Any) -> tuple[Any, np.ndarray]:
    """The state after the last call, and the loss of every step."""
    net = nn.Sequential([getattr(nn, name)(*arguments) for name, *arguments in case.layers])
    shape = case.rows, case.layers[0][1]
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    y = (x[:, :1] > 0).astype(np.float32)
    data: Any = (x, y)
    if case.batch_size is not None:
        own = manual_seed(7) if case.own_generator else None
        data = DataLoader((x, y), case.batch_size, case.shuffle, case.drop_last, own)
    seed = jax.random.key(case.seed) if case.keyed else case.seed
    state, history, done, all_losses = None, None, 0, np.zeros(0)
    for call in cut:
        given: Any = (state, history) if call.history and state is not None else state
        done += call.epochs
        called: list[Any] = [lambda chunk: None] if call.watched else []
        if call.report_every:
            accuracy = {"accuracy": jaxnet.metrics.logit_is_right}
            called.append(callbacks.Report(call.report_every, accuracy))
        state, history = jaxnet.fit(
            net,
            data,
            loss=losses.binary_cross_entropy_with_logits,
            optimizer=optimizer,
            epochs=done if call.history else call.epochs,
            seed=seed if state is None else None,
            state=given,
            callbacks=called,
            precision=case.precision,
        )
        whole = call.history or given is None
        all_losses = history.losses if whole else np.append(all_losses, history.losses)
    return state, all_losses


def bits(tree: Any) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Type, shape and bytes of every leaf by its path; a key by its words."""
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        array = np.asarray(leaf)
        found[jax.tree_util.keystr(path)] = str(array.dtype), array.shape, array.tobytes()
    return found


def check(case: Case) -> None:
    """Both cuts give the same state and the same losses."""
    optimizer = OPTIMIZERS[case.optimizer]()
    one, other = (bits(run(case, cut, optimizer)) for cut in case.cuts)
    differing = [path for path in one if one[path] != other.get(path)]
    assert one.keys() == other.keys() and not differing, f"{differing} differ in {case}"


@hypothesis.settings(max_examples=3, deadline=None, derandomize=True)
@hypothesis.given(cases())
def test_any_cut_is_any_other(case):
    check(case)


def draw_again(monkeypatch) -> None:
    """Each chunk begins where the stream was at first."""
    make_runner = plan.make_runner

    def make(program, source, batching, first):
        run = make_runner(program, source, batching, first)
        return lambda state, epochs: run(state._replace(generator=first.generator), epochs)

    monkeypatch.setattr(plan, "make_runner", make)


ONE = [Call(3, None, watched=False, history=False)]
TWO = [Call(2, 1, watched=False, history=False), Call(1, None, watched=True, history=True)]
LAYERS = [("Linear", 6, 8), ("Dropout", 0.4), ("ReLU",), ("Linear", 8, 1)]
SHUFFLED = Case(LAYERS, 41, 8, True, False, False, "adam", False, 1, "parity", (ONE, TWO))


def test_a_fault_is_found(monkeypatch):
    check(SHUFFLED)
    draw_again(monkeypatch)
    with pytest.raises(AssertionError, match="differ in Case"):
        check(SHUFFLED)
