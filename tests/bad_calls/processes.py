"""Many processes: `hosts`, `launch`, and the lecture on a mesh."""

# What is wrong here is so on purpose.
# pyright: reportArgumentType=false, reportCallIssue=false

import jax

from jaxnet import hosts, launch, lecture
from tests.bad_calls import Row

H, L = "jaxnet._utils.processes.", "jaxnet.launch."


def _connect(argument, says, **changes):
    """A call of `connect` that is right but for what is changed in it."""
    good = {"coordinator": "127.0.0.1:1234", "num_processes": 2, "process_id": 0}

    def call(_):
        with hosts.connect(**{**good, **changes}):
            pass

    return Row(H + "connect", argument, call, says)


def _run(**changes):
    lecture.run(**{"experiment": lecture.EXPERIMENTS["logits"], **changes})


def _mesh(name="data"):
    return jax.make_mesh((1,), (name,))


ROWS = [
    _connect("coordinator", "'HOST:PORT', not 'here'", coordinator="here"),
    _connect("coordinator", "'HOST:PORT', not 1234", coordinator=1234),
    _connect("coordinator", "a port from 1 to 65535, not 70000", coordinator="here:70000"),
    _connect("num_processes", "at least 1, not 0", num_processes=0),
    _connect("process_id", "from 0 to 1, not 2", process_id=2),
    _connect("process_id", "from 0 to 1, not -1", process_id=-1),
    _connect("process_id", "an integer, not True", process_id=True),
    _connect("process_id", "go together.*; process_id is missing", process_id=None),
    _connect("heartbeat", "at least 1, not 0", heartbeat=0),
    Row(
        H + "check_place",
        "process_id",
        lambda _: hosts.check_place("here:1", 1, 1.5),
        "an integer, not 1.5",
    ),
    Row(L + "make_environment", "number", lambda _: launch.make_environment(-1), "0, not -1"),
    Row(L + "make_environment", "devices", lambda _: launch.make_environment(0, 0), "1, not 0"),
    Row(L + "run_all", "commands", lambda _: launch.run_all([], []), "at least one.*none"),
    Row(
        L + "run_all",
        "environments",
        lambda _: launch.run_all([["true"]], []),
        "one for each of 1 commands, not 0",
    ),
    Row(
        "jaxnet.lecture.run",
        "mesh",
        lambda _: _run(mesh=_mesh(), device=jax.devices()[0]),
        "device and mesh exclude each other",
    ),
    Row("jaxnet.lecture.run", "mesh", lambda _: _run(mesh=8), "Mesh.*not 8", TypeError),
    Row("jaxnet.lecture.run", "mesh", lambda _: _run(mesh=_mesh("rows")), "an axis 'data'"),
]
