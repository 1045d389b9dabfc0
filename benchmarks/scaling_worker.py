"""A number of devices in a process of its own: it prepares what it is told, and times it on demand.

Commands come as lines of JSON on standard input, answers go out the same way. The number of devices
is an environment variable that JAX reads when it starts.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import PartitionSpec

import jaxnet
from benchmarks.collectives import list_collectives
from benchmarks.timing import clock
from jaxnet import nn
from jaxnet.callbacks import Callback, Run, Stop
from jaxnet.data import load_mnist
from jaxnet.precision import use
from jaxnet.train import OnMesh, TrainState
from jaxnet.train.epoch import count_capacity, make_epochs

ROOT = Path(__file__).parents[1]


class Worker:
    """The process that has so many devices."""

    def __init__(self, devices: int):
        self.devices = devices
        self._errors = tempfile.TemporaryFile("w+")
        environment = {**os.environ, "JAX_NUM_CPU_DEVICES": str(devices), "JAX_PLATFORMS": "cpu"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=ROOT,
            env=environment,
        )

    def ask(self, do: str, name: str, **options: Any) -> Any:
        """What it answers to a command; a RuntimeError with what it said where it ended instead."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        with contextlib.suppress(BrokenPipeError):
            stdin.write(json.dumps({"do": do, "name": name, **options}) + "\n")
            stdin.flush()
        if line := stdout.readline():
            return json.loads(line)
        self._errors.seek(0)
        said = self._errors.read()[-2000:]
        raise RuntimeError(f"the process of {self.devices} devices ended: {said}")

    def close(self) -> None:
        """End it; while it waits for a command it sees the end of its input."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()


@contextlib.contextmanager
def start_workers(devices: Sequence[int]) -> Iterator[list[Worker]]:
    """A worker for each number of devices, started together and ended together."""
    workers: list[Worker] = []
    try:
        for count in devices:
            workers.append(Worker(count))
        yield workers
    finally:
        for worker in workers:
            worker.close()


class _Catch(Callback):
    """Takes a run as `jaxnet.fit` has prepared it, and ends it before its first step."""

    def on_start(self, run: Run) -> None:
        self.run = run
        raise Stop


def prepare(
    widths: Sequence[int], p: float, batch: int, examples: int, epochs: int, sharded: bool
) -> tuple[Callable[[], Any], dict[str, Any]]:
    """Epochs of a net's training as `jaxnet.fit` compiles them on all devices, and their facts."""
    net, loss = build(widths, p)
    caught = _Catch()
    jaxnet.fit(
        net,
        _load(examples, widths[-1]),
        loss=loss,
        optimizer=jaxnet.optim.sgd(lr=1e-3),
        epochs=epochs,
        batch_size=batch,
        seed=1,
        callbacks=[caught],
        placement=_place(len(widths) - 2 if sharded else 0),
    )
    run = caught.run
    with use(run.precision):
        whole = make_epochs(run.program, run.batching, count_capacity(run.batching))
        program = jax.jit(whole).lower(run.state, run.source.arrays, epochs).compile()

    def train() -> tuple[TrainState, np.ndarray]:
        state, losses = program(run.state, run.source.arrays, epochs)
        return state, np.asarray(losses)[:epochs].reshape(-1)

    state, losses = train()
    return train, {
        "steps": run.batching.steps,
        "full": run.batching.full,
        "weights": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        "collectives": list_collectives(program.as_text() or ""),
        "losses": losses.astype(float).tolist(),
        "stream": [int(state.generator.position), *map(int, np.asarray(state.generator.key)[:4])],
    }


def build(widths: Sequence[int], p: float) -> tuple[Any, Callable]:
    """A net with ReLU between its layers, after dropout if p is not 0, and its loss."""
    layers: list[Any] = []
    for width_in, width_out in zip(widths[:-2], widths[1:-1], strict=True):
        layers += [nn.Linear(width_in, width_out), *([nn.Dropout(p)] if p else []), nn.ReLU()]
    layers.append(nn.Linear(widths[-2], widths[-1]))
    if widths[-1] > 1:
        return nn.Sequential(layers), jaxnet.losses.cross_entropy
    return nn.Sequential([*layers, nn.Sigmoid()]), jaxnet.losses.binary_cross_entropy


def _load(examples: int, outputs: int) -> tuple[np.ndarray, np.ndarray]:
    """So many of the lecture's digits, repeated where there are fewer, with their targets."""
    train, _ = load_mnist((0, 1))
    picked = np.resize(np.arange(len(train.labels)), examples)
    labels = train.labels[picked]
    y = np.eye(outputs, dtype=np.float32)[labels] if outputs > 1 else labels[:, None]
    return np.ascontiguousarray(train.images[picked]), y.astype(np.float32)


def _place(sharded: int) -> OnMesh | None:
    """A mesh over all devices, the weights of the first so many layers sharded over it."""
    if jax.device_count() == 1:
        return None
    # `build` numbers the layers of a net without dropout 0, 2, 4, with the ReLUs between.
    names = [str(2 * layer) for layer in range(sharded)]
    specs = dict.fromkeys(names, PartitionSpec("data")) if names else None
    return OnMesh(jax.make_mesh((jax.device_count(),), ("data",)), specs)


def main() -> None:
    """Answer each command: "time" with seconds of what has that name, "prepare" with its facts."""
    calls: dict[str, Callable[[], Any]] = {}
    for line in sys.stdin:
        command = json.loads(line)
        do, name = command.pop("do"), command.pop("name")
        if do == "time":
            answer: Any = clock(calls[name])
        else:
            calls[name], answer = prepare(**command)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
