"""Runs on so many devices, of this process or of several, and what came of them; 0 is no mesh."""

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
from jaxnet import nn
from jaxnet._utils.processes import fetch
from jaxnet.callbacks import Callback, Checkpoint, Chunk, Report, Run
from jaxnet.lecture import EXPERIMENTS
from jaxnet.losses import binary_cross_entropy_with_logits, cross_entropy
from jaxnet.precision import use
from jaxnet.train import OnMesh, epoch
from tests.helpers import compilations

ROWS = 153  # the last batch of 16 has 9, as the lecture's
STEPS = 2 * 10  # of two epochs
BASIC = ("lecture", "order_and_masks", "masks_of_one_step", "full_batch", "saved")
"""What runs on every number of devices."""
WIDER = ("wide", "sweep")
"""What runs beside them on the most devices."""
REST = ("norms", "own_generator", "keys", "streamed")
"""What runs in the slower tiers alone."""
LECTURE = EXPERIMENTS["minibatch"]
WIDE = nn.Sequential([nn.Linear(784, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 8)])
SMALL = nn.Sequential([nn.Linear(784, 8), nn.Dropout(0.5), nn.Linear(8, 1)])
SPECS = {"0": PartitionSpec("model"), "3": {"weight": PartitionSpec(None, "model")}}
SHUFFLED: dict[str, Any] = {"batch_size": 16, "shuffle": True}


class FlaxNet(flax.linen.Module):
    """A net of Flax's own layers, for JAX's own random numbers."""

    @flax.linen.compact
    def __call__(self, x, train=False):
        x = flax.linen.Dropout(0.5, deterministic=not train)(flax.linen.Dense(16)(x))
        return flax.linen.Dense(1)(flax.linen.relu(x))


def load(rows: int = ROWS) -> tuple[np.ndarray, np.ndarray]:
    train, _ = jaxnet.data.load_mnist((0, 1))
    step = len(train.images) // rows
    chosen = slice(0, rows * step, step)
    return train.images[chosen], train.labels[chosen, None].astype(np.float32)


def hash_batch(outputs: Any, y: Any) -> Any:
    """A sum of integers, exact in float64 in whatever order: another row or mask changes it."""
    places = (7919 * jnp.arange(outputs.size) % 10007).astype(outputs.dtype)
    return (outputs * places.reshape(outputs.shape)).sum() + (y[:, 0] * places[: len(y)]).sum()


def make_mesh(devices: int) -> Any:
    return jax.make_mesh((devices,), ("data",)) if devices else None


def collect(state: Any, history: Any) -> dict[str, Any]:
    leaves = jax.tree.leaves((state.generator, state.loader_generator))
    words = [a for a in leaves if not jnp.issubdtype(a.dtype, jax.dtypes.prng_key)]
    return {
        "losses": history.losses,
        "accuracies": np.array([list(r.metrics.values()) for r in history.reports], np.float64),
        "weights": join(state.params, np.float32),
        "variables": join(state.model_state, np.float32),
        "stream": join(words, np.uint32),
    }


def join(tree: Any, kind: Any) -> np.ndarray:
    parts = [fetch(leaf).reshape(-1).astype(kind) for leaf in jax.tree.leaves(tree)]
    return np.concatenate([*parts, np.zeros(0, kind)])


def list_runs(devices: int, folder: Path) -> dict[str, Any]:
    mesh = make_mesh(devices)
    placement = None if mesh is None else OnMesh(mesh)
    x, y = load()
    sgd, adam = jaxnet.optim.sgd(), jaxnet.optim.adam()
    integers = np.arange(ROWS * 8, dtype=np.float64).reshape(ROWS, 8)
    dropped = nn.Sequential([nn.Dropout(0.5)])
    norms = nn.Sequential([nn.Linear(784, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 1)])
    own = jaxnet.data.DataLoader(
        (x, y), 16, shuffle=True, drop_last=True, generator=jaxnet.random.manual_seed(5)
    )
    exact: dict[str, Any] = {"loss": hash_batch, "optimizer": sgd, "precision": "float64"}
    bce: dict[str, Any] = {"loss": LECTURE.loss, "optimizer": sgd}
    logits: dict[str, Any] = {"loss": binary_cross_entropy_with_logits, "optimizer": adam}

    def report() -> Report:
        return Report(metrics={"accuracy": LECTURE.metric}, loader=True)

    def fit(net: Any, data: Any, seed: Any = 1, **options: Any) -> dict[str, Any]:
        options = {"placement": placement, "epochs": 2} | options
        return collect(*jaxnet.fit(net, data, seed=seed, **options))

    def sweep() -> dict[str, Any]:
        found = jaxnet.run_sweep(
            LECTURE.net,
            (x, y),
            loss=LECTURE.loss,
            optimizer=jaxnet.optim.sgd,
            epochs=1,
            seeds=range(5),
            grid={"lr": [0.1, 0.01]},
            batch_size=16,
            mesh=mesh,
            metrics={"accuracy": LECTURE.metric},
            directory=folder / f"sweep-{devices}",
        )
        rows = [[row["seed"], row["lr"], row["train_accuracy"]] for row in found.table]
        return {"losses": found.losses, "accuracies": np.array(rows)}

    def streamed() -> dict[str, Any]:
        """The lecture's run, shuffled, with rows that are read as they are needed."""
        with tempfile.TemporaryDirectory() as place:
            path = Path(place, "rows.npy")
            np.save(path, x)
            mapped = np.load(path, mmap_mode="r")
        return fit(LECTURE.net, (mapped, y), **bce, **SHUFFLED, callbacks=[report()])

    def lecture() -> dict[str, Any]:
        watcher = Watcher()
        with compilations() as watcher.compiled:
            found = fit(LECTURE.net, (x, y), batch_size=16, **bce, callbacks=[report(), watcher])
        return found | (count_collectives(watcher) if devices else {})

    return {
        "lecture": lecture,
        "order_and_masks": lambda: fit(dropped, (integers, integers[:, :1]), **exact, **SHUFFLED),
        "masks_of_one_step": lambda: fit(dropped, (integers[:144], integers[:144, :1]), **exact),
        "full_batch": lambda: fit(LECTURE.net, (x[:144], y[:144]), **bce),
        "norms": lambda: fit(norms, (x, y), **logits | {"optimizer": sgd}, **SHUFFLED),
        "own_generator": lambda: fit(LECTURE.net, own, **bce),
        "keys": lambda: fit(
            FlaxNet(),
            (x, y),
            jax.random.key(1),
            loss=binary_cross_entropy_with_logits,
            optimizer=optax.adam(1e-3),
            **SHUFFLED,
        ),
        "wide": lambda: train_wide(devices, folder / f"wide-{devices}"),
        "saved": lambda: collect(*save(placement, folder / str(devices), 1)),
        "streamed": streamed,
        "sweep": sweep,
    }


def save(placement: Any, folder: Path, epochs: int, resume: bool = False) -> tuple[Any, Any]:
    """A run of so many epochs, saved in a folder of its own or resumed from there."""
    options: dict[str, Any] = {"optimizer": jaxnet.optim.adam(), "epochs": epochs, "seed": 2}
    options |= {"loss": binary_cross_entropy_with_logits, "placement": placement}
    callbacks = [Checkpoint(folder, resume=resume)]
    return jaxnet.fit(SMALL, load(), callbacks=callbacks, **SHUFFLED, **options)


def train_wide(devices: int, folder: Path) -> dict[str, Any]:
    """Weights sharded over the second axis of a mesh, saved and resumed; specs that do not fit."""
    x, y = load()
    ten = jaxnet.data.one_hot(y[:, 0].astype(int), 8)
    options: dict[str, Any] = {"seed": 3, "batch_size": 16, "loss": cross_entropy}
    options["optimizer"] = jaxnet.optim.adam()
    placement = None
    if devices:
        parts = 2 if devices > 1 else 1
        placement = OnMesh(jax.make_mesh((devices // parts, parts), ("data", "model")), SPECS)

    def train(epochs: int, resume: bool) -> tuple[Any, Any]:
        saved = {"callbacks": [Checkpoint(folder, resume=resume)], "placement": placement}
        return jaxnet.fit(WIDE, (x, ten), epochs=epochs, **saved, **options)

    train(1, resume=False)
    state, history = train(2, resume=True)
    leaves = jax.tree.leaves((state.params, state.opt_state[0]))
    sizes = [np.prod(leaf.addressable_shards[0].data.shape) for leaf in leaves]
    message = ""
    if devices > 1:
        uneven = {"0": {"weight": PartitionSpec("model", "data")}, "3": PartitionSpec("model")}
        placement = OnMesh(jax.make_mesh((1, devices), ("data", "model")), uneven)
        thin = nn.Sequential([*WIDE.layers[:3], nn.Linear(64, 7)])
        try:
            jaxnet.fit(thin, (x, ten[:, :7]), epochs=1, placement=placement, **options)
        except ValueError as error:
            message = str(error)
    found = {"shard_sizes": np.array(sizes), "message": np.array(message)}
    return collect(state, history) | found


class Watcher(Callback):
    """Sees a run, and how many programs are compiled by the end of each of its chunks."""

    compiled: list[str]

    def on_start(self, run: Run) -> None:
        self.run, self.counts = run, list[int]()

    def on_chunk(self, chunk: Chunk) -> None:
        self.counts.append(len(self.compiled))


def count_collectives(watcher: Watcher) -> dict[str, Any]:
    """The collectives of a run's program, by kind; what its chunks after the first compiled."""
    run, capacity = watcher.run, epoch.count_capacity(watcher.run.batching)
    train = epoch._compile_epochs(run.program, run.batching, capacity)
    with use(run.precision):
        text = train.lower(run.state, run.source.arrays, 1).compile().as_text() or ""
    kinds = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")
    counts = [len(re.findall(rf"= .*\b{kind}(?:-start)?\(", text)) for kind in kinds]
    return {"counts": np.array(counts), "later": np.array(watcher.counts[-1] - watcher.counts[0])}


def find(devices: int, folder: Path, names: Iterable[str] = BASIC) -> dict[str, np.ndarray]:
    """What came of some runs on so many devices, by the names of run and array."""
    runs = list_runs(devices, folder)
    found = {name: runs[name]() for name in names}
    return {f"{run}.{name}": a for run, values in found.items() for name, a in values.items()}
