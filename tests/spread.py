"""Runs on so many devices, and what came of them; no devices are no mesh at all.

`python -m tests.child spread ...` is one of so many processes with a device each.
"""

import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import PartitionSpec

import jaxnet
from jaxnet import nn, runs
from jaxnet._utils.processes import agree, any_of, connect, fetch, gather, is_first
from jaxnet.callbacks.nan_guard import NotFinite
from jaxnet.lecture.experiments import EXPERIMENTS
from jaxnet.precision import use
from jaxnet.train.fit import prepare
from jaxnet.train.step import make_run

ROWS = 153  # the last batch of 16 has 9, as the lecture's
STEPS = 2 * 10  # of two epochs
BASIC = ("lecture", "order_and_masks", "masks_of_one_step", "full_batch", "saved")
"""What runs on every number of devices."""
WIDER = ("wide", "sweep")
"""What runs beside them on the most devices of one process; the rest in two processes."""
WIDE = nn.Sequential([nn.Linear(784, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 8)])
SPECS = {
    "0": PartitionSpec("model"),
    "3": {"weight": PartitionSpec(None, "model")},
}


class FlaxNet(flax.linen.Module):
    """A net of Flax's own layers, for JAX's own random numbers."""

    @flax.linen.compact
    def __call__(self, x, train=False):
        x = flax.linen.Dropout(0.5, deterministic=not train)(flax.linen.Dense(16)(x))
        return flax.linen.Dense(1)(flax.linen.relu(x))


def load(rows: int = ROWS) -> tuple[np.ndarray, np.ndarray]:
    """Rows of both digits, and their labels."""
    train, _ = jaxnet.data.load_mnist((0, 1))
    step = len(train.images) // rows
    chosen = slice(0, rows * step, step)
    return train.images[chosen], train.labels[chosen, None].astype(np.float32)


def hash_batch(outputs: Any, y: Any) -> Any:
    """A sum of integers, exact in float64 in whatever order: another row or mask changes it."""
    places = (7919 * jnp.arange(outputs.size) % 10007).astype(outputs.dtype)
    return (outputs * places.reshape(outputs.shape)).sum() + (y[:, 0] * places[: len(y)]).sum()


def make_mesh(devices: int, *axes: str) -> Any:
    """So many devices in a row, or half of them in each of two rows; None of none."""
    if not devices:
        return None
    parts = 2 if devices > 1 else 1
    shape = (devices,) if len(axes) == 1 else (devices // parts, parts)
    return jax.make_mesh(shape, axes)


def collect(state: Any, history: Any) -> dict[str, Any]:
    """What is compared of a run."""
    accuracies = [list(report.metrics.values()) for report in history.reports]
    return {
        "losses": history.losses,
        "accuracies": np.array(accuracies, np.float64),
        "weights": np.concatenate(
            [fetch(leaf).reshape(-1) for leaf in jax.tree.leaves(state.params)] + [[]]
        ),
        "variables": np.concatenate(
            [np.asarray(leaf).reshape(-1) for leaf in jax.tree.leaves(state.model_state)] + [[]]
        ),
        "stream": np.concatenate(
            [
                np.asarray(leaf).reshape(-1).astype(np.uint32)
                for leaf in jax.tree.leaves((state.generator, state.loader_generator))
                if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
            ]
            + [np.zeros(0, np.uint32)]
        ),
    }


def list_runs(devices: int, folder: Path) -> dict[str, Any]:
    """A function for each run."""
    mesh = make_mesh(devices, "data")
    lecture = EXPERIMENTS["minibatch"]
    logits, cross_entropy = (
        jaxnet.losses.binary_cross_entropy_with_logits,
        jaxnet.losses.cross_entropy,
    )
    x, y = load()
    sgd, adam = jaxnet.optim.sgd(), jaxnet.optim.adam()
    integers = np.arange(ROWS * 8, dtype=np.float64).reshape(ROWS, 8)
    dropped = nn.Sequential([nn.Dropout(0.5)])
    norms = nn.Sequential([nn.Linear(784, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 1)])
    small = nn.Sequential([nn.Linear(784, 8), nn.Dropout(0.5), nn.Linear(8, 1)])
    own = jaxnet.data.DataLoader(
        (x, y), 16, shuffle=True, drop_last=True, generator=jaxnet.random.manual_seed(5)
    )
    ten = jaxnet.data.one_hot(y[:, 0].astype(int), 8)
    exact: dict[str, Any] = {"loss": hash_batch, "optimizer": sgd, "precision": "float64"}
    shuffled: dict[str, Any] = {"batch_size": 16, "shuffle": True}
    looks: dict[str, Any] = {
        "report_every": 1,
        "report_loader": True,
        "metrics": {"accuracy": lecture.metric},
    }

    def fit(net: Any, data: Any, seed: Any = 1, **options: Any) -> dict[str, Any]:
        options = {"mesh": mesh, "epochs": 2} | options
        return collect(*jaxnet.fit(net, data, seed=seed, **options))

    def wide() -> dict[str, Any]:
        """Weights in parts, on a mesh of two axes."""
        options: dict[str, Any] = {"epochs": 2, "seed": 3, "batch_size": 16}
        options |= {"mesh": make_mesh(devices, "data", "model"), "loss": cross_entropy}
        specs = SPECS if devices else None
        state, history = jaxnet.fit(WIDE, (x, ten), optimizer=adam, specs=specs, **options)
        leaves = jax.tree.leaves((state.params, state.opt_state[0]))
        parts = [np.prod(leaf.addressable_shards[0].data.shape) for leaf in leaves]
        refusal = ""
        if devices > 1:
            uneven = {"0": {"weight": PartitionSpec("model", "data")}, "3": PartitionSpec("model")}
            options["mesh"] = jax.make_mesh((1, devices), ("data", "model"))
            thin = nn.Sequential([*WIDE.layers[:3], nn.Linear(64, 7)])
            try:
                jaxnet.fit(thin, (x, ten[:, :7]), optimizer=adam, specs=uneven, **options)
            except ValueError as error:
                refusal = str(error)
        found = {"shard_sizes": np.array(parts), "refusal": np.array(refusal)}
        return collect(state, history) | found

    def sweep() -> dict[str, Any]:
        found = jaxnet.run_sweep(
            lecture.net,
            (x, y),
            loss=lecture.loss,
            optimizer=jaxnet.optim.sgd,
            epochs=1,
            seeds=range(5),
            grid={"lr": [0.1, 0.01]},
            batch_size=16,
            mesh=mesh,
            metrics={"accuracy": lecture.metric},
            directory=folder / f"sweep-{devices}",
        )
        rows = [[row["seed"], row["lr"], row["train_accuracy"]] for row in found.table]
        return {"losses": np.asarray(found.losses), "accuracies": np.array(rows)}

    def streamed() -> dict[str, Any]:
        """The lecture's run with rows that are read as they are needed."""
        with tempfile.TemporaryDirectory() as place:
            path = Path(place, "rows.npy")
            np.save(path, x)
            mapped = np.load(path, mmap_mode="r")
        return fit(lecture.net, (mapped, y), **bce, **shuffled, **looks)

    def saved() -> dict[str, Any]:
        """The first epoch here, saved; a folder for each number of devices."""
        options = shuffled | {"loss": logits, "optimizer": adam, "seed": 2, "epochs": 1}
        place = folder / str(devices)
        return collect(*runs.fit(small, (x, y), mesh=mesh, checkpoint=place, **options))

    bce: dict[str, Any] = {"loss": lecture.loss, "optimizer": sgd}
    keys: dict[str, Any] = {"loss": logits, "optimizer": optax.adam(1e-3)}
    return {
        "lecture": lambda: fit(lecture.net, (x, y), batch_size=16, **bce, **looks),
        "order_and_masks": lambda: fit(dropped, (integers, integers[:, :1]), **exact, **shuffled),
        "masks_of_one_step": lambda: fit(dropped, (integers[:144], integers[:144, :1]), **exact),
        "full_batch": lambda: fit(lecture.net, (x[:144], y[:144]), **bce),
        "norms": lambda: fit(norms, (x, y), loss=logits, optimizer=sgd, **shuffled),
        "own_generator": lambda: fit(lecture.net, own, **bce),
        "keys": lambda: fit(FlaxNet(), (x, y), seed=jax.random.key(1), **keys, **shuffled),
        "wide": wide,
        "saved": saved,
        "streamed": streamed,
        "sweep": sweep,
    }


def count_collectives(devices: int) -> dict[str, Any]:
    """The collectives of the program that trains the lecture's net, by kind."""
    lecture = EXPERIMENTS["minibatch"]
    mesh = make_mesh(devices, "data")
    options: dict[str, Any] = {"epochs": 1, "batch_size": 16, "seed": 1}
    ready = prepare(lecture.net, load(), mesh=mesh, optimizer=lecture.optimizer, **options)
    with use("parity"):
        run = make_run(
            lecture.net, lecture.loss, lecture.optimizer, ready.batching, 1, ready.layout
        )
        text = run.lower(ready.state, *ready.data, 1).compile().as_text()
        state, _ = run(ready.state, *ready.data, 1)
        run(state, *ready.data, 1)
    kinds = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")
    counts = [len(re.findall(rf"= .*\b{kind}(?:-start)?\(", text)) for kind in kinds]
    return {"counts": np.array(counts), "programs": np.array(run._cache_size())}


def share_weights(folder: Path) -> dict[str, Any]:
    """A run whose weights lie in parts with several processes, saved and gone on with."""
    mesh = jax.make_mesh((jax.device_count(),), ("model",))
    x, y = load()
    options: dict[str, Any] = {"optimizer": jaxnet.optim.adam(), "batch_size": 16, "seed": 3}
    options |= {"loss": jaxnet.losses.cross_entropy, "mesh": mesh, "specs": SPECS}
    options["checkpoint"] = folder / "shared"
    data = (x, jaxnet.data.one_hot(y[:, 0].astype(int), 8))
    runs.fit(WIDE, data, epochs=1, **options)
    return collect(*runs.fit(WIDE, data, epochs=2, resume=True, **options))


def differ() -> dict[str, Any]:
    """What comes of processes that do not give the same, or do not watch alike."""
    x, y = load(32)
    number = jax.process_index()
    net, loss = nn.Sequential([nn.Linear(784, 1)]), jaxnet.losses.mse_loss
    mesh = jax.make_mesh((jax.device_count(),), ("data",))
    common: dict[str, Any] = {"loss": loss, "optimizer": jaxnet.optim.sgd(), "mesh": mesh}

    def refusal(**changes: Any) -> np.ndarray:
        options = {"data": (x, y), "epochs": 1, "seed": 0} | changes
        try:
            jaxnet.fit(net, **options, **common)
        except ValueError as error:
            return np.array(str(error))
        return np.array("")

    seen: list[Any] = []
    hooks = [] if number else [seen.append]
    _, history = jaxnet.fit(net, (x, y), epochs=3, seed=0, hooks=hooks, **common)
    specs = {"0": {"weight": PartitionSpec(None, "data")}}
    bad: dict[str, Any] = {"specs": specs, "epochs": 2, "batch_size": 16, "seed": 0}
    bad |= common | {"loss": jaxnet.lecture.manual_sigmoid_loss}
    try:
        runs.fit(net, (1e6 * x, y), **bad)
        not_finite = ""
    except NotFinite as error:
        not_finite = str(error)
    return {
        "data": refusal(data=(x + np.float32(number), y)),
        "seed": refusal(seed=number),
        "epochs": refusal(epochs=1 + number),
        "steps": np.array(len(history.losses)),
        "not_finite": np.array(not_finite),
        "exact": np.array([agree(2**40 + number), agree(0.1 + number)], np.float64),
        "flags": np.array([any_of(number == 1), any_of(False)]),
        "gathered": np.array(gather(number)),
    }


def run_together(count: int, file: Path, folder: Path, coordinator: str, number: int) -> None:
    """Every run on the devices of many processes; each writes what it has found."""
    with connect(coordinator, count, number):
        alone = folder if is_first() else folder / f"of process {number}"
        found = {name: run() for name, run in list_runs(count, alone).items()}
        found["shared"] = share_weights(alone)
        found["differ"] = differ()
        found["files"] = {"made": np.array(alone.exists())}
        np.savez(file, **flatten(found), allow_pickle=False)


def find(devices: int, folder: Path, names: Iterable[str] = BASIC) -> dict[str, np.ndarray]:
    """What came of some runs on so many of this process's devices."""
    runs = list_runs(devices, folder)
    found = {name: runs[name]() for name in names}
    if devices:
        found["collectives"] = count_collectives(devices)
    return flatten(found)


def flatten(found: dict[str, dict[str, Any]]) -> dict[str, np.ndarray]:
    """All arrays by the names of their runs."""
    return {f"{run}.{name}": a for run, values in found.items() for name, a in values.items()}
