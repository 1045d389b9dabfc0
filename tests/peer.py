"""One process of a run of many: `python -m tests.peer FOLDER RESULT EPOCHS [COORDINATOR N K]`.

It goes on from what the folder has, says at each epoch that it trains, and the first writes at its
end all that the run is. FAIL_AT=K makes process K alone fail, PACE=S takes S seconds an epoch.
"""

import os
import sys
import time
from functools import partial

import jax
import numpy as np

import jaxnet.runs
from jaxnet import hosts, nn
from jaxnet.archive import pack
from jaxnet.checkpoint import Checkpoints
from jaxnet.state import History, TrainState

ADVICE = "start all of them again"


def train(folder: str | None, epochs: int, mesh=None, hooks=()) -> tuple[TrainState, History]:
    """A run with all that a state can hold, whose batches divide by 2 and by 3, some unevenly."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 6)).astype(np.float32)
    y = (x[:, :1] > 0).astype(np.float32)
    net = nn.Sequential(
        [nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 1)]
    )
    if folder is not None:
        jaxnet.runs.Checkpoints = partial(Checkpoints, seconds=0)
    try:
        return jaxnet.runs.fit(
            net,
            (x, y),
            loss=jaxnet.losses.binary_cross_entropy_with_logits,
            optimizer=jaxnet.optim.adam(1e-2),
            epochs=epochs,
            batch_size=12,
            shuffle=True,
            seed=3,
            report_every=1,
            report_loader=True,
            metrics={"accuracy": jaxnet.metrics.logit_is_right},
            hooks=hooks,
            checkpoint=folder,
            resume=folder is not None,
            mesh=mesh,
        )
    finally:
        jaxnet.runs.Checkpoints = Checkpoints


def as_arrays(state: TrainState, history: History) -> dict[str, np.ndarray]:
    """All that a run is."""
    arrays, record = pack(state, history, {})
    return arrays | {"accuracy": np.array([r[2]["accuracy"] for r in record["reports"]])}


def watch(chunk) -> None:
    """Say that the run goes on, and fail where that is asked for."""
    if hosts.is_first():
        print("trains", chunk.epoch, flush=True)
    time.sleep(float(os.environ.get("PACE", "0")))
    if os.environ.get("FAIL_AT") == str(jax.process_index()):
        raise ZeroDivisionError("mine alone")


def main(folder: str, result: str, epochs: str, *place: str) -> None:
    """Train with the others."""
    coordinator, count, number = place or (None, None, None)
    numbers = (int(count), int(number)) if count and number else (None, None)
    with hosts.connect(coordinator, *numbers, advice=ADVICE):
        mesh = jax.make_mesh((len(jax.devices()),), ("data",))
        arrays = as_arrays(*train(folder, int(epochs), mesh, [watch]))
        if hosts.is_first():
            np.savez(result, allow_pickle=False, **arrays)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except hosts.PeerLost as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(hosts.LOST)
