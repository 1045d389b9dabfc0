"""Arrays on different devices: one clear sentence, and the two mends that the README shows."""

import os
import subprocess
import sys

PROGRAM = """
import jax, numpy as np, jaxnet
from jaxnet import losses, metrics, nn, optim

here, there = jax.devices()
x = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
y = (x[:, :1] > 0).astype(np.float32)
net = nn.Sequential([nn.Linear(3, 2), nn.Dropout(0.5), nn.Linear(2, 1)])
options = dict(loss=losses.binary_cross_entropy_with_logits, optimizer=optim.sgd(), epochs=3)
state, _ = jaxnet.fit(net, jax.device_put((x, y), here), seed=1, **options)
away = jax.device_put((x, y), there)
for call in (
    lambda: jaxnet.predict(net, state, away[0]),
    lambda: jaxnet.evaluate(net, state, away, metrics={"accuracy": metrics.logit_is_right}),
    lambda: jaxnet.fit(net, away, state=state, **options),
    lambda: jaxnet.fit(net, (x, y)[:1] + away[1:], state=state, **options),
):
    try:
        call()
    except ValueError as error:
        print(error)
moved = jaxnet.predict(net, jax.device_put(state, there), away[0])
back = jaxnet.predict(net, state, jax.device_put(away[0], here))
assert np.array_equal(moved, back) and moved.devices() == {there} and back.devices() == {here}
other, _ = jaxnet.fit(net, away, seed=1, **options)
assert jax.tree.leaves(other.params)[0].devices() == {there}
mesh = jax.make_mesh((2,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
by_rows = jax.device_put((x, y), jax.NamedSharding(mesh, jax.P("rows")))
jaxnet.fit(net, by_rows, seed=1, **options)
for one, two in zip(jax.tree.leaves(other.generator), jax.tree.leaves(state.generator)):
    assert np.array_equal(one, two)
"""


def test_two_devices():
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "2", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    first, *rest = done.stdout.splitlines()
    assert first == (
        "state is on cpu:0 but x is on cpu:1: move one of them, "
        "with jax.device_put(x, jax.devices()[...]) for example"
    )
    assert len(rest) == 3 and rest[2].startswith("state is on cpu:0 but y is on cpu:1")
