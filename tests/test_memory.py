"""What is on the device while a run trains: one copy of the data, and all that a chunk needs."""

import gc
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnet
from jaxnet import nn
from jaxnet.callbacks import Callback, Checkpoint, NanGuard, Report, Validation
from jaxnet.data import Batching, InMemory, make_batching
from jaxnet.train import OnMesh, SingleDevice, make_draws, make_train_step, start
from jaxnet.train.epoch import Program, make_epochs
from tests.tiny import ACCURACY, ADAM, LOSS, NET, X, Y

NET_WIDE = nn.Sequential([nn.Linear(250, 4), nn.Dropout(0.5), nn.Linear(4, 1)])
SHAPE = (2000, 250)
"""Of x alone: no weight, batch or mask has it."""
WAYS: list[dict[str, Any]] = [{"batch_size": 16, "shuffle": True}, {"batch_size": 16}, {}]


def make_data(kind: str) -> tuple[Any, Any]:
    """Rows of zeros and ones, in the host's memory or on the device."""
    x = np.random.default_rng(0).integers(0, 2, SHAPE).astype(np.float32)
    data = x, x[:, :1].copy()
    return jax.device_put(data) if kind == "jax" else data


def find_copies() -> set[int]:
    """Where in memory JAX holds arrays of x's shape; several may be views of one place."""
    return {a.unsafe_buffer_pointer() for a in jax.live_arrays() if a.shape == SHAPE}


def train(data: Any, callbacks: list[Any], **options: Any) -> tuple[Any, Any]:
    return jaxnet.fit(
        NET_WIDE, data, loss=LOSS, optimizer=ADAM, epochs=3, seed=1, callbacks=callbacks, **options
    )


@pytest.mark.parametrize("kind", ["numpy", "jax"])
def test_there_is_one_copy_of_the_data(kind, tmp_path, options=WAYS[0]):
    """Of a caller's own arrays none beside them, of NumPy's one; and none when the run is over."""
    data, copies = make_data(kind), []
    held = data[0][:99], data[1][:99]
    callbacks: list[Any] = [Report(metrics=ACCURACY), lambda chunk: copies.append(find_copies())]
    callbacks += [Validation(NET_WIDE, held, loss=LOSS), NanGuard()]
    callbacks += [Checkpoint(tmp_path, seconds=0)]
    assert len(find_copies()) == (kind == "jax")
    train(data, callbacks, **options)
    assert len(copies) == 3 and all(len(found) == 1 for found in copies), copies
    if kind == "jax":
        assert copies == [{data[0].unsafe_buffer_pointer()}] * 3
    assert len(find_copies()) == (kind == "jax"), "a callback holds what the run had"


def test_a_mesh_has_its_copy_alone():
    """Two devices, a copy each, and none of the host's beside them."""
    counts = []

    def count(chunk):
        gc.collect()
        counts.append(len([a for a in jax.live_arrays() if a.shape == SHAPE]))

    mesh = OnMesh(jax.make_mesh((2,), ("data",)))
    train(make_data("numpy"), [Report(), count], placement=mesh, **WAYS[1])
    assert counts == [1, 1, 1]


def test_a_full_batch_of_a_mapped_array_is_on_the_device(tmp_path):
    """Read once, not moved again at each chunk."""
    x, y = make_data("numpy")
    np.memmap(tmp_path / "x", x.dtype, "w+", shape=x.shape)[:] = x
    data, kinds = (np.memmap(tmp_path / "x", x.dtype, "r", shape=x.shape), y), []

    class Look(Callback):
        def on_start(self, run):
            kinds.extend(map(type, run.source.arrays))

    train(data, [Look()])
    assert all(issubclass(kind, jax.Array) for kind in kinds) and len(kinds) == 2


@pytest.mark.parametrize("options", WAYS[::2], ids=str)
def test_a_compiled_run_has_no_room_for_a_copy(options):
    """Neither its temporary memory nor what it gives holds the data a second time."""
    x, y = make_data("jax")
    batching = make_batching(len(x), **{"batch_size": None, **options})
    run, state = make_run(NET_WIDE, x, batching)
    memory = run.lower(state, (x, y), 3).compile().memory_analysis()
    assert memory.temp_size_in_bytes + memory.output_size_in_bytes < x.nbytes / 4


def make_run(net: Any, x: Any, batching: Batching) -> tuple[Any, Any]:
    """Three epochs of a net as one program, and the state to begin with."""
    program = Program(make_train_step(net, LOSS, ADAM), make_draws(net, x), SingleDevice())
    generator, variables = jaxnet.init(net, jaxnet.random.manual_seed(1))
    return jax.jit(make_epochs(program, batching, 3)), start(ADAM, variables, generator)


def test_a_chunk_moves_nothing_between_host_and_device():
    """All that a compiled chunk needs is there; what it draws and looks up is drawn there."""
    x, y = jnp.asarray(X), jnp.asarray(Y)
    run, state = make_run(NET, x, Batching(len(X), 8, shuffle=True))
    arguments = jax.device_put((state, (x, y), 3))
    with jax.transfer_guard("disallow"):
        jax.block_until_ready(run(*arguments))
        with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
            run(arguments[0], (X, y), arguments[2])


def test_a_second_copy_would_be_noticed(tmp_path, monkeypatch):
    """Of a run that copies its data and holds both, as one that prepares them twice would."""
    kept, place = list[Any](), SingleDevice.place

    def copy(self, state, source, batching):
        state, placed, layout = place(self, state, source, batching)
        kept.append(placed)
        return state, InMemory(jax.tree.map(jnp.copy, kept[0].arrays)), layout

    monkeypatch.setattr(SingleDevice, "place", copy)
    with pytest.raises(AssertionError, match="len"):
        test_there_is_one_copy_of_the_data("jax", tmp_path)
    assert len(kept) == 1
