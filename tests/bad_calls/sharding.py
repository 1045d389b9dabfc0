"""A run on a mesh: `placement` of `fit` and of the lecture, `mesh` of `run_sweep`."""

# What is wrong here is so on purpose.
# pyright: reportArgumentType=false, reportCallIssue=false

import jax
from jax.sharding import PartitionSpec

import jaxnet
from jaxnet import lecture
from jaxnet.train import OnMesh
from tests.bad_calls import Row
from tests.bad_calls.files import X, Y, fit, net


def _mesh(*names):
    return jax.make_mesh((1,) * len(names), names)


def _place(argument, says, kind=ValueError, mesh=None, specs=None):
    """A run on a mesh of one device, or on what is given in its place."""

    def call(_):
        fit(placement=OnMesh(_mesh("data", "model") if mesh is None else mesh(), specs))

    return Row("jaxnet.train.OnMesh", argument, call, says, kind)


def _sweep(mesh):
    loss, optimizer = jaxnet.losses.binary_cross_entropy, jaxnet.optim.sgd
    options = {"loss": loss, "optimizer": optimizer, "epochs": 1, "seeds": [0]}
    return jaxnet.run_sweep(net(), (X, Y), mesh=mesh, **options)


def _run(**changes):
    lecture.run(**{"experiment": lecture.EXPERIMENTS["logits"], **changes})


NO_MESH = "must be a jax.sharding.Mesh, .* not "
ROWS = [
    Row("jaxnet.fit", "placement", lambda _: fit(placement=_mesh("data")),
        "must be a jaxnet.train.OnMesh, not Mesh", TypeError),
    _place("mesh", NO_MESH + "8", TypeError, mesh=lambda: 8),
    _place("mesh", NO_MESH + r"\[CpuDevice", TypeError, mesh=jax.devices),
    _place("mesh", r"must have an axis 'data', .* or specs .* \('model',\)",
           mesh=lambda: _mesh("model")),
    _place("specs", "a PartitionSpec, or a mapping .*, not 'data'", TypeError, specs="data"),
    _place("specs", "a PartitionSpec, or a mapping .*, not 3 at 0.weight", TypeError,
           specs={"0": {"weight": 3}}),
    _place("specs", "must name weights of the net, not '7'; there are 0",
           specs={"7": PartitionSpec()}),
    _place("specs", "must name weights .* not '0.wieght'; .*; did you mean 'weight'?",
           specs={"0": {"wieght": PartitionSpec()}}),
    _place("specs", "must have a PartitionSpec for 0.weight, which is a tensor",
           specs={"0": {"weight": {"0": PartitionSpec()}}}),
    _place("specs", r"has more axes than 0.bias, whose shape is \(1,\)",
           specs={"0": {"bias": PartitionSpec(None, "model")}}),
    _place("specs", "names the axis 'modle', but mesh has 'data', 'model'; did you mean 'model'?",
           specs={"0": PartitionSpec("modle")}),
    Row("jaxnet.run_sweep", "mesh", lambda _: _sweep(2), NO_MESH + "2", TypeError),
    Row("jaxnet.run_sweep", "mesh", lambda _: _sweep(_mesh("model")), "must have an axis 'data'"),
    Row("jaxnet.lecture.run", "placement",
        lambda _: _run(placement=OnMesh(_mesh("data")), device=jax.devices()[0]),
        "device and placement exclude each other"),
    Row("jaxnet.lecture.run", "placement", lambda _: _run(placement=8), "OnMesh, not 8", TypeError),
]  # fmt: skip
