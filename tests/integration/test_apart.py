"""What only a process of its own can show: what is imported, how much memory is taken."""

import json
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

import jaxnet.lecture.cli
from jaxnet import losses, nn, optim
from jaxnet.certificate.bounds import VISIBLE
from jaxnet.data import DataLoader
from tests import child
from tests.integration import ROOT, run_python
from tests.test_bad_input import check_output, watch
from tests.test_streaming import as_pair
from tests.tiny import X, Y

__all__ = ["watch"]  # a fixture


def test_jaxnet_does_not_need_grain(tmp_path):
    as_pair(tmp_path)
    program = (
        "import sys, jaxnet, numpy as np\n"
        "assert 'grain' not in sys.modules; sys.modules['grain'] = None\n"
        f"x = np.load({str(tmp_path / 'x.npy')!r}, mmap_mode='r')\n"
        "state, _ = jaxnet.fit(jaxnet.nn.Sequential([jaxnet.nn.Linear(6, 1)]), (x, x[:, :1]),\n"
        "    loss=jaxnet.losses.mse_loss, optimizer=jaxnet.optim.sgd(), epochs=1, batch_size=8,\n"
        "    seed=0)\n"
        "print(int(state.step))\n"
    )
    assert run_python("-c", program).strip() == "6"  # batches of eight


COUNT = 4096  # rows of one MiB


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_data_several_times_larger_than_the_address_space_may_be():
    """4 GiB of rows under a limit of some 0.8: an epoch in torch's order, each batch its rows."""
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "MALLOC_ARENA_MAX": "1"}
    command = "-W", "error", "-m", "tests.child", "limited", str(COUNT), "128"
    found = json.loads(run_python(*command, env=environment).splitlines()[-1])
    assert found["VmPeak"] <= found["limit"] < COUNT * child.MIB / 3
    torch.manual_seed(child.SEED)
    torch.nn.Linear(child.WIDE, 1)
    loader = torch.utils.data.DataLoader(range(COUNT), batch_size=4, shuffle=True)  # type: ignore
    codes = np.array([child.encode(batch.numpy()).mean(dtype=np.float64) for batch in loader])
    expected = codes * found["total"] + found["bias"] + codes
    assert len(found["losses"]) == COUNT // 4
    np.testing.assert_allclose(found["losses"], expected, rtol=0, atol=1e-5)
    assert np.abs(np.diff(expected)).mean() > 1e-2, "other batches have other losses"


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
    first, *rest = run_python("-c", PROGRAM, env=environment).splitlines()
    assert first == (
        "state is on cpu:0 but x is on cpu:1: move one of them, "
        "with jax.device_put(x, jax.devices()[...]) for example"
    )
    assert len(rest) == 3 and rest[2].startswith("state is on cpu:0 but y is on cpu:1")


WITHOUT_TORCH = """
import sys
for name in ("torch", "torchvision", "torchref"):
    sys.modules[name] = None  # importing it fails
import pkgutil, importlib, jaxnet
for module in pkgutil.walk_packages(jaxnet.__path__, "jaxnet."):
    if module.name != "jaxnet.__main__":
        importlib.import_module(module.name)
from jaxnet.lecture.cli import main
main(["lecture", "--only", "minibatch", "--only", "logits"], prog_name="jaxnet")
"""


def test_every_module_and_the_lecture_work_where_torch_cannot_be_imported():
    said = run_python("-c", WITHOUT_TORCH)
    assert ".9886/.9953" in said and ".9577" in said


def test_python_m_jaxnet_is_the_same_command():
    said = run_python("-m", "jaxnet", "--version")
    assert said.split() == ["jaxnet,", "version", jaxnet.__version__]


WORKERS = """
import json, sys, warnings
import numpy as np, torch
from torch.utils.data import DataLoader, TensorDataset

warnings.simplefilter("ignore")  # of the number of cores
X, Y = (torch.from_numpy(np.load(path)) for path in sys.argv[1:])
for shuffle, own in [(False, False), (True, False), (True, True)]:
    torch.manual_seed(1)
    net = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Dropout(0.4), torch.nn.Linear(8, 1))
    optimizer, losses = torch.optim.SGD(net.parameters(), lr=0.1), []
    loader = DataLoader(TensorDataset(X, Y), 8, shuffle=shuffle, num_workers=2,
                        persistent_workers=True, generator=torch.Generator() if own else None)
    for epoch in range(3):
        for x, y in loader:
            loss = torch.nn.functional.mse_loss(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    print(json.dumps([shuffle, own, losses, torch.get_rng_state().tolist()]))
"""


def test_persistent_workers_draw_as_torchs_do(tmp_path):
    """Three epochs with workers of torch's, in a process that JAX has started no threads in."""
    paths = [str(tmp_path / "x.npy"), str(tmp_path / "y.npy")]
    for path, rows in zip(paths, (X, Y), strict=True):
        np.save(path, rows)
    net = nn.Sequential([nn.Linear(6, 8), nn.Dropout(0.4), nn.Linear(8, 1)])
    run: dict[str, Any] = {"loss": losses.mse_loss, "optimizer": optim.sgd(0.1), "seed": 1}
    for line in run_python("-c", WORKERS, *paths).splitlines():
        shuffle, own, expected, words = json.loads(line)
        generator = jaxnet.random.manual_seed(torch.Generator().initial_seed()) if own else None
        for persistent in (True, False):
            loader = DataLoader((X, Y), 8, shuffle, False, generator, persistent)
            state, history = jaxnet.fit(net, loader, epochs=3, **run)
            # Other masks change a loss by its half; the stream is compared to the bit.
            same = np.allclose(history.losses, expected, rtol=VISIBLE, atol=0)
            stream = jaxnet.random.get_state(state.generator).tolist()
            assert (same, stream == words) == (persistent, persistent or own)


SCRIPT = """
import mate
import torch

def build():
    net = torch.nn.Sequential(torch.nn.Linear(2, 1))
    return net, torch.nn.MSELoss(), torch.optim.SGD(net.parameters()), mate.DATA
"""


def test_a_folder_of_scripts_shadows_no_module(tmp_path):
    """Where `python -m` puts the working folder first; with a picture that matplotlib draws."""
    (tmp_path / "mate.py").write_text("import torch\nDATA = torch.ones(4, 2), torch.ones(4, 1)")
    for name in ("matplotlib", "click", "typing_extensions", "json"):
        (tmp_path / f"{name}.py").write_text(SCRIPT)
    said = run_python(
        "-m", "torchref", "certify", "json.py:build", "--save", "it.html", cwd=tmp_path
    )
    assert said.startswith("AGREE: 1 steps") and "wrote it.html" in said
    assert "<svg" in (tmp_path / "it.html").read_text()


@pytest.mark.parametrize(
    ("module", "arguments", "says"),
    [
        ("jaxnet", "lecture --root {}/cut --json {}/new/a.json", "holds 779 bytes of data"),
        ("jaxnet", "lecture --device gpu --json {}/a.json", "--device must be one that JAX finds"),
        ("torchref", "certify {}/file:build", "file is no Python file"),
    ],
)
def test_so_does_a_process(module, arguments, says, watch):
    parts = arguments.replace("{}", str(watch.folder)).split()
    command = [sys.executable, "-B", "-m", module, *parts]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    changes = watch.changes()
    assert done.returncode == 2, done.stderr
    assert not done.stdout
    check_output(done.stderr, says)
    assert not changes
