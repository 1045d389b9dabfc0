"""A run on a mesh: `mesh` and `specs` of `fit` and `run_sweep`."""

# What is wrong here is so on purpose.
# pyright: reportArgumentType=false, reportCallIssue=false

import jax
from jax.sharding import PartitionSpec

import jaxnet
from tests.bad_calls import Row
from tests.bad_calls.files import X, Y, fit, net


def _mesh(*names):
    return jax.make_mesh((1,) * len(names), names)


def _fit(argument, says, kind=ValueError, mesh=None, **changes):
    def call(_):
        return fit(mesh=_mesh("data", "model") if mesh is None else mesh(), **changes)

    return Row("jaxnet.fit", argument, call, says, kind)


def _sweep(mesh):
    loss, optimizer = jaxnet.losses.binary_cross_entropy, jaxnet.optim.sgd
    options = {"loss": loss, "optimizer": optimizer, "epochs": 1, "seeds": [0]}
    return jaxnet.run_sweep(net(), (X, Y), mesh=mesh, **options)


ROWS = [
    _fit("mesh", r"must be a jax.sharding.Mesh, .* not 8", TypeError, mesh=lambda: 8),
    _fit(
        "mesh",
        r"must be a jax.sharding.Mesh, .* not \[CpuDevice",
        TypeError,
        mesh=lambda: jax.devices(),
    ),
    _fit(
        "mesh",
        r"must have an axis 'data', .* or specs .* \('model',\)",
        mesh=lambda: _mesh("model"),
    ),
    Row("jaxnet.fit", "specs", lambda _: fit(specs=PartitionSpec("data")), "specs needs mesh"),
    _fit("specs", "must be a PartitionSpec, or a mapping .*, not 'data'", TypeError, specs="data"),
    _fit(
        "specs",
        "must be a PartitionSpec, or a mapping .*, not 3 at 0.weight",
        TypeError,
        specs={"0": {"weight": 3}},
    ),
    _fit(
        "specs", "must name weights of the net, not '7'; there are 0", specs={"7": PartitionSpec()}
    ),
    _fit(
        "specs",
        "must name weights .* not '0.wieght'; .*; did you mean 'weight'?",
        specs={"0": {"wieght": PartitionSpec()}},
    ),
    _fit(
        "specs",
        "must have a PartitionSpec for 0.weight, which is a tensor",
        specs={"0": {"weight": {"0": PartitionSpec()}}},
    ),
    _fit(
        "specs",
        r"has more axes than 0.bias, whose shape is \(1,\)",
        specs={"0": {"bias": PartitionSpec(None, "model")}},
    ),
    _fit(
        "specs",
        "names the axis 'modle', but mesh has 'data', 'model'; did you mean 'model'?",
        specs={"0": PartitionSpec("modle")},
    ),
    Row(
        "jaxnet.run_sweep",
        "mesh",
        lambda _: _sweep(2),
        "must be a jax.sharding.Mesh, .* not 2",
        TypeError,
    ),
    Row("jaxnet.run_sweep", "mesh", lambda _: _sweep(_mesh("model")), "must have an axis 'data'"),
]
