"""Examples that are read as batches need them: the numbers of the run in memory, little memory."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grain
import jax
import numpy as np
import pytest
import torch

import jaxnet
from jaxnet import nn, optim
from jaxnet.callbacks import Checkpoint, NanGuard, NotFinite, Report
from jaxnet.checkpoint import Checkpoints
from jaxnet.data import DataLoader, sources
from jaxnet.train import OnMesh
from tests.helpers import assert_same_bits
from tests.test_train import assert_same_tree, start_of
from tests.tiny import ACCURACY, ADAM, LOSS, NET, ROWS, X, Y

WORDS = np.random.default_rng(0).integers(0, 9, size=(ROWS, 2)).astype(np.int32)
PLAIN = nn.Sequential([nn.Linear(6, 1)])
EMBEDDED = nn.Sequential([nn.Embedding(9, 3), nn.Flatten(), nn.Linear(6, 1)])
TRAJECTORY = 1e-6  # relative, as README says of torch
RUN: dict[str, Any] = {"loss": LOSS, "optimizer": ADAM, "batch_size": 8, "seed": 1}


def report(every: int = 2, **options: Any) -> list[Any]:
    return [Report(every, ACCURACY, **options)]


class Elements:
    def __init__(self, x: np.ndarray, y: np.ndarray, before: Callable[[int], Any] = lambda _: None):
        self._x, self._y, self._before = x, y, before

    def __len__(self) -> int:
        return len(self._x)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        self._before(index)
        return self._x[index], self._y[index]


def as_dataset(x: np.ndarray = X, y: np.ndarray = Y, before: Any = lambda _: None) -> Any:
    return grain.MapDataset.source(Elements(x, y, before))  # type: ignore[arg-type]


def as_mapped(path: Path, values: np.ndarray) -> np.memmap:
    np.save(path, values)
    return np.load(path, mmap_mode="r")


def as_pair(folder: Path, x: np.ndarray = X, y: np.ndarray = Y) -> tuple[np.ndarray, np.ndarray]:
    """x in a file; y stays in memory."""
    return as_mapped(folder / "x.npy", x), y


FORMS: dict[str, Callable[..., Any]] = {
    "memmap": as_pair,
    "MapDataset": lambda folder, x=X, y=Y: as_dataset(x, y),
}
each_form = pytest.mark.parametrize("form", FORMS)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Two batches of eight rows in a block: an epoch is two such, a half, and the short batch."""
    monkeypatch.setattr(sources, "BLOCK", 2 * 8 * 28)


@pytest.fixture(autouse=True)
def no_thread_stays():
    yield
    assert not list_readers()


def list_readers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if "jaxnet" in thread.name]


def assert_same_run(found: Any, expected: Any) -> None:
    """Streams, steps and accuracies are equal, losses within rounding."""
    for name in ("generator", "loader_generator", "step"):
        parts = (getattr(state, name) for state in (found[0], expected[0]))
        assert_same_tree(*(jax.tree.map(as_words, part) for part in parts))
    np.testing.assert_allclose(found[1].losses, expected[1].losses, rtol=TRAJECTORY, atol=0)
    assert found[1].losses.dtype == expected[1].losses.dtype
    assert [r.metrics for r in found[1].reports] == [r.metrics for r in expected[1].reports]
    assert [r.epoch for r in found[1].reports] == [r.epoch for r in expected[1].reports]


def as_words(leaf: Any) -> Any:
    """A key's words; other arrays as they are."""
    is_key = jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if is_key else leaf


CASES: dict[str, dict[str, Any]] = {
    "shuffled": {"shuffle": True, "callbacks": report(loader=True)},
    "in order": {"callbacks": [lambda chunk: None]},
    "float64": {"shuffle": True, "precision": "float64", "callbacks": report()},
    "fast": {"precision": "fast", "epochs": 1},
    "a key": {"shuffle": True, "seed": jax.random.key(3)},
    "drop_last": {"loader": {"shuffle": True, "drop_last": True}, "epochs": 2},
    "its own generator": {"loader": {"shuffle": True, "generator": jaxnet.random.manual_seed(5)}},
    "all rows": {"batch_size": None, "callbacks": report()},
    "words": {"x": WORDS, "net": EMBEDDED, "shuffle": True},
    "float64 rows": {"x": X.astype(np.float64), "y": Y.astype(np.float64), "epochs": 1},
}
QUICK = ("shuffled", "all rows")
"""The others run in `tests/slow`."""


@pytest.mark.parametrize("case", QUICK)
def test_a_run_is_the_one_from_memory(case, tmp_path):
    options = {**RUN, "epochs": 4, **CASES[case]}
    x, y = options.pop("x", X), options.pop("y", Y)
    net, loader = options.pop("net", NET), options.pop("loader", None)

    def fit(data):
        if loader is None:
            return jaxnet.fit(net, data, **options)
        size, rest = options["batch_size"], {**options, "batch_size": None}
        return jaxnet.fit(net, DataLoader(data, size, **loader), **rest)

    expected = fit((x, y))
    for form in FORMS.values():
        assert_same_run(fit(form(tmp_path, x, y)), expected)


def test_the_order_is_torchs(tmp_path):
    """Which rows are read, in two epochs, against torch's own loader."""
    read: list[int] = []
    net, zero = nn.Sequential([nn.Linear(6, 1)]), optim.sgd(0.0)
    data = as_dataset(before=read.append)
    options = {**RUN, "optimizer": zero, "shuffle": True}
    torch.manual_seed(1)
    torch.nn.Linear(6, 1)
    loader = torch.utils.data.DataLoader(range(ROWS), batch_size=8, shuffle=True)  # type: ignore
    state, history = jaxnet.fit(net, data, epochs=2, **options)
    weight, bias = (np.asarray(state.params["0"][name], np.float64) for name in ("weight", "bias"))
    for epoch in np.split(history.losses, 2):
        for loss, batch in zip(epoch, loader, strict=True):
            logits, targets = X[batch.numpy()] @ weight.T + bias, Y[batch.numpy()]
            expected = np.mean(np.logaddexp(0, logits) - targets * logits)
            np.testing.assert_allclose(loss, expected, rtol=1e-6)
    assert sorted(read)[-2 * (ROWS - 1) :: 2] == list(range(1, ROWS)), "each row once an epoch"


@each_form
def test_a_saved_run_is_resumed(form, tmp_path):
    """With the bits of the run that goes through, and the numbers of the one in memory."""
    data, folder = FORMS[form](tmp_path), tmp_path / "saved"

    def fit(data, epochs, *more):
        callbacks = [*report(), *more]
        return jaxnet.fit(NET, data, epochs=epochs, shuffle=True, callbacks=callbacks, **RUN)

    whole = fit(data, 4)
    assert_same_run(whole, fit((X, Y), 4))
    fit(data, 2, Checkpoint(folder))
    again = fit(data, 4, Checkpoint(folder, resume=True))
    assert_same_tree(again[0], whole[0])
    assert_same_bits(again[1].losses, whole[1].losses)
    other = FORMS[form](tmp_path, x=np.flip(X).copy())
    with pytest.raises(ValueError, match="SHA-256 of 41 rows"):
        fit(other, 4, Checkpoint(folder, resume=True))
    assert Checkpoints(folder).list_epochs()[-1] == 4


def test_a_bad_step_is_named_as_from_memory(tmp_path):
    """A row so large that the weights overflow when it comes for the second time."""
    x = X.copy()
    x[7] *= 1e25
    options = {**RUN, "optimizer": optim.sgd(1.0), "epochs": 3}
    found = []
    for data in ((x, Y), as_pair(tmp_path, x)):
        with pytest.raises(NotFinite) as caught:
            jaxnet.fit(PLAIN, data, callbacks=[NanGuard()], **options)
        found.append((str(caught.value), caught.value.rows.tolist()))
    assert found[0] == found[1] and "epoch 2" in found[0][0] and 7 in found[0][1]


def test_a_sweep_reads_all_of_it(tmp_path):
    options: dict[str, Any] = {"loss": LOSS, "optimizer": optim.sgd, "epochs": 2, "batch_size": 8}
    first, *others = (
        jaxnet.run_sweep(NET, data, **options, seeds=[3], metrics=ACCURACY, test=data).table
        for data in ((X, Y), as_pair(tmp_path), as_dataset())
    )
    assert others == [first, first] and len(first) == 1


@pytest.mark.parametrize("precision", ["parity", "float64"])
def test_evaluation_counts_the_same_rows(precision, tmp_path):
    """And rejects rows that hold nan, as of arrays; the loss is the mean over rows."""
    state = jaxnet.precision.cast(start_of(jaxnet.random.manual_seed(1)), precision)
    measured: dict[str, Any] = {"loss": LOSS, "metrics": ACCURACY}
    expected = jaxnet.evaluate(NET, state, (X, Y), **measured)
    tolerance = 1e-12 if precision == "float64" else TRAJECTORY
    x = X.copy()
    x[33] = np.nan
    for form in FORMS.values():
        found = jaxnet.evaluate(NET, state, form(tmp_path), **measured)
        assert found["accuracy"] == expected["accuracy"] and isinstance(found["accuracy"], float)
        assert found["loss"] == pytest.approx(expected["loss"], rel=tolerance)
    for data in ((x, Y), *(form(tmp_path, x) for form in FORMS.values())):
        with pytest.raises(ValueError, match="x must be finite, but its row 33 holds nan"):
            jaxnet.evaluate(NET, state, data, **measured)


def test_a_mesh_reads_each_row_once():
    """On four devices: the numbers of one, the short batch on every device, no row read twice."""
    read: list[int] = []
    data, run = as_dataset(before=read.append), {**RUN, "optimizer": optim.sgd(), "shuffle": True}
    placement = OnMesh(jax.make_mesh((4,), ("data",)))
    alone, expected = jaxnet.fit(PLAIN, (X, Y), epochs=2, **run)
    state, found = jaxnet.fit(PLAIN, data, epochs=2, placement=placement, **run)
    assert len(jax.tree.leaves(state.params)[0].devices()) == 4
    jax.tree.map(assert_same_bits, state.generator, alone.generator)
    np.testing.assert_allclose(found.losses, expected.losses, rtol=TRAJECTORY)
    # The first row also says what all are like.
    assert sorted(row for row in read if row) == sorted(2 * [*range(1, ROWS)])


@each_form
def test_a_row_that_is_not_finite_is_named_when_it_is_read(form, tmp_path):
    x, done = X.copy(), []
    x[33, 2] = -np.inf
    data = FORMS[form](tmp_path, x)
    options = {**RUN, "epochs": 2, "callbacks": [lambda chunk: done.append(chunk.epoch)]}
    for size in (8, None):
        with pytest.raises(ValueError, match="x must be finite, but its row 33 holds -inf"):
            jaxnet.fit(NET, data, **{**options, "batch_size": size})
    assert not done
