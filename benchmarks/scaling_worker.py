"""One set of devices in a process of its own: it prepares what it is told, and times it on demand.

Commands come as lines of JSON on standard input, answers go out the same way. JAX is imported only
once the devices are chosen.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


class Workers:
    """The processes that share one set of devices: one with several, or several with one each."""

    def __init__(self, devices: int, processes: int = 1, one_core: bool = False, port: int = 0):
        self.devices, self.processes = devices * processes, processes
        self._files = [tempfile.TemporaryFile("w+") for _ in range(processes)]
        place = {"processes": processes, "one_core": one_core, "port": port}
        environment = {**os.environ, "JAX_NUM_CPU_DEVICES": str(devices), "JAX_PLATFORMS": "cpu"}
        self._running = [
            subprocess.Popen(
                [sys.executable, "-m", __name__, json.dumps({**place, "process": process})],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                cwd=ROOT,
                env=environment,
            )
            for process, file in enumerate(self._files)
        ]

    def ask(self, do: str, name: str, **options: Any) -> Any:
        """What the first process answers; all of them do it together."""
        for process in self._running:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(json.dumps({"do": do, "name": name, **options}) + "\n")
                process.stdin.flush()
        return [self._read(number) for number in range(self.processes)][0]

    def close(self) -> None:
        """End them; those that wait for a command see the end of their input."""
        for process, file in zip(self._running, self._files, strict=True):
            assert process.stdin is not None and process.stdout is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()
            file.close()

    def _read(self, number: int) -> Any:
        stdout = self._running[number].stdout
        assert stdout is not None
        if line := stdout.readline():
            return json.loads(line)
        self._files[number].seek(0)
        said = self._files[number].read()[-2000:]
        raise RuntimeError(f"process {number} of {self.devices} devices ended: {said}")


@contextlib.contextmanager
def start_workers(**places: dict[str, Any]) -> Iterator[dict[str, Workers]]:
    """Workers by name, started together and ended together."""
    workers: dict[str, Workers] = {}
    try:
        for name, place in places.items():
            workers[name] = Workers(**place)
        yield workers
    finally:
        for worker in workers.values():
            worker.close()


def _prepare_step(
    widths: Sequence[int], p: float, batch: int, rows: int, spread: bool = False, epochs: int = 1
) -> tuple[Callable[[], Any], dict[str, Any]]:
    """An epoch of a net's training, as `jaxnet.fit` compiles it on all devices."""
    import jax
    import numpy as np

    import jaxnet
    from benchmarks.collectives import list_collectives
    from jaxnet.data import load_mnist
    from jaxnet.precision import use
    from jaxnet.train.fit import make_run, prepare

    net, loss = _build(widths, p)
    train, _ = load_mnist((0, 1))
    picked = np.resize(np.arange(len(train.labels)), rows)
    y = train.labels[picked, None].astype(np.float32)
    if widths[-1] > 1:
        y = np.eye(widths[-1], dtype=np.float32)[train.labels[picked]]
    optimizer = jaxnet.optim.sgd(lr=1e-3)
    specs = None
    if spread:
        layers = [str(2 * place) for place in range(len(widths) - 2)]
        specs = dict.fromkeys(layers, jax.sharding.PartitionSpec("data"))
    ready = prepare(
        net,
        (np.ascontiguousarray(train.images[picked]), y),
        optimizer=optimizer,
        epochs=epochs,
        batch_size=batch,
        seed=1,
        mesh=_make_mesh() if jax.device_count() > 1 else None,
        specs=specs,
    )
    parts = (net, loss, optimizer, ready.batching, epochs, ready.layout)
    with use("parity"):
        run = make_run(*parts).lower(ready.state, *ready.data, epochs).compile()

    def train_once() -> Any:
        state, losses = run(ready.state, *ready.data, epochs)
        return state, np.asarray(losses)

    state, losses = train_once()
    facts = {
        "steps": ready.batching.steps,
        "full": ready.batching.full,
        "weights": sum(leaf.size for leaf in jax.tree.leaves(ready.state.params)),
        "collectives": list_collectives(run.as_text() or ""),
        "losses": losses.reshape(-1).astype(float).tolist(),
        "stream": [int(state.generator.position), *map(int, np.asarray(state.generator.key)[:4])],
    }
    return train_once, facts


def _build(widths: Sequence[int], p: float) -> tuple[Any, Callable]:
    """A net with ReLU between its layers, after dropout if p is not 0, and its loss."""
    import jaxnet
    from jaxnet import nn

    layers: list[Any] = []
    for width_in, width_out in zip(widths[:-2], widths[1:-1], strict=True):
        layers += [nn.Linear(width_in, width_out), *([nn.Dropout(p)] if p else []), nn.ReLU()]
    layers.append(nn.Linear(widths[-2], widths[-1]))
    if widths[-1] > 1:
        return nn.Sequential(layers), jaxnet.losses.cross_entropy
    return nn.Sequential([*layers, nn.Sigmoid()]), jaxnet.losses.binary_cross_entropy


def _prepare_all_reduce(
    sizes: Sequence[int], repeats: int
) -> tuple[Callable[[], Any], dict[str, Any]]:
    """Vectors of so many float32 numbers averaged over all devices, again and again."""
    import jax
    import numpy as np
    from jax import lax
    from jax.sharding import NamedSharding, PartitionSpec

    from benchmarks.collectives import list_collectives

    mesh, count = _make_mesh(), jax.device_count()

    def average(*vectors):
        def again(_, vectors):
            return tuple(vector / count for vector in lax.psum(vectors, "data"))

        return lax.fori_loop(0, repeats, again, vectors)

    parts = PartitionSpec("data")
    sharding = NamedSharding(mesh, parts)
    one_each = [np.repeat(np.arange(count, dtype=np.float32), size) for size in sizes]
    vectors = [
        jax.make_array_from_callback(values.shape, sharding, lambda index, v=values: v[index])
        for values in one_each
    ]
    spread = jax.shard_map(average, mesh=mesh, in_specs=parts, out_specs=parts, check_vma=False)
    run = jax.jit(spread).lower(*vectors).compile()
    done = jax.block_until_ready(run(*vectors))
    right = all(
        np.array_equal(part.data, np.full(part.data.shape, (count - 1) / 2, np.float32))
        for vector in done
        for part in vector.addressable_shards
    )
    facts = {"collectives": list_collectives(run.as_text() or ""), "right": right}
    return lambda: jax.block_until_ready(run(*vectors)), facts


def _prepare_draws(p: float, count: int, repeats: int) -> tuple[Callable[[], Any], dict[str, Any]]:
    """Masks of so many elements from torch's stream, one after another."""
    import jax
    from jax import lax

    from jaxnet import random

    def draw(generator, _):
        generator, keep = random.dropout_mask(generator, p, (count,))
        return generator, keep.sum()

    generator = random.manual_seed(1)
    run = jax.jit(lambda generator: lax.scan(draw, generator, length=repeats))
    jax.block_until_ready(run(generator))
    return lambda: jax.block_until_ready(run(generator)), {}


def _make_mesh() -> Any:
    import jax

    return jax.make_mesh((jax.device_count(),), ("data",))


PREPARE: dict[str, Callable[..., tuple[Callable[[], Any], dict[str, Any]]]] = {
    "step": _prepare_step,
    "all_reduce": _prepare_all_reduce,
    "draws": _prepare_draws,
}


def main() -> None:
    """Answer each command: "time" with seconds of what has that name, others with its facts."""
    place = json.loads(sys.argv[1])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # Gloo prints on standard output
    if place["one_core"] and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    import jax

    if place["processes"] > 1:
        where = f"localhost:{place['port']}"
        jax.distributed.initialize(where, place["processes"], place["process"])
    calls: dict[str, Callable[[], Any]] = {}
    for line in sys.stdin:
        command = json.loads(line)
        do, name = command.pop("do"), command.pop("name")
        if do == "time":
            begin = time.perf_counter()
            calls[name]()
            answer: Any = time.perf_counter() - begin
        else:
            calls[name], answer = PREPARE[do](**command)
        print(json.dumps(answer), file=answers, flush=True)
    if place["processes"] > 1:
        jax.distributed.shutdown()


if __name__ == "__main__":
    main()
