"""A run to be killed: `python -m tests.survivor FOLDER RESULT [epochs]`, saved after every epoch.

It goes on from what the folder has, says when it trains, and at its end writes all that it is.
"""

import sys
from functools import partial

import numpy as np

import jaxnet.runs
from jaxnet import nn
from jaxnet.archive import pack
from jaxnet.checkpoint import Checkpoints

EPOCHS = 60


def main(folder: str, result: str, epochs: str = str(EPOCHS)) -> None:
    """Train, with all that a state can hold: buffers, moments, masks, orders, a loader's draws."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(70, 6)).astype(np.float32)
    y = (x[:, :1] > 0).astype(np.float32)
    net = nn.Sequential(
        [nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 1)]
    )
    jaxnet.runs.Checkpoints = partial(Checkpoints, seconds=0)
    state, history = jaxnet.runs.fit(
        net,
        (x, y),
        loss=jaxnet.losses.binary_cross_entropy_with_logits,
        optimizer=jaxnet.optim.adam(1e-2),
        epochs=int(epochs),
        batch_size=16,
        shuffle=True,
        seed=3,
        report_every=1,
        report_loader=True,
        metrics={"accuracy": jaxnet.metrics.logit_is_right},
        hooks=[lambda chunk: print("trains", flush=True)],
        checkpoint=folder,
        resume=True,
    )
    arrays, record = pack(state, history, {})
    arrays["reports"] = np.array(str(record["reports"]))
    np.savez(result, allow_pickle=False, **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
