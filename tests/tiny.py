"""The net, the rows and the optimizer that most tests of a run share, and so its programs.

Batches of eight leave a short one of one row; the net drops units; the optimizer has a state.
"""

import numpy as np

from jaxnet import losses, metrics, nn, optim

ROWS = 41
_RNG = np.random.default_rng(0)
X = _RNG.normal(size=(ROWS, 6)).astype(np.float32)
Y = (X[:, :1] + X[:, 1:2] > 0).astype(np.float32)
HELD = (X[::3] + np.float32(0.1), Y[::3])
"""Rows that no run trains on."""
NET = nn.Sequential([nn.Linear(6, 8), nn.Dropout(0.4), nn.ReLU(), nn.Linear(8, 1)])
LINEAR = nn.Sequential([nn.Linear(6, 1)])
"""For what compiles programs of its own: a third of what one of `NET`, shuffled, costs."""
LOSS = losses.binary_cross_entropy_with_logits
SGD = optim.sgd(0.1)
ADAM = optim.adam(lr=0.01)
ACCURACY = {"accuracy": metrics.logit_is_right}
