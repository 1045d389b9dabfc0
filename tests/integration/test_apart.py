"""What only a process of its own can show: what is imported, how much memory is taken."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

import jaxnet.lecture.cli
from jaxnet.data import Batching, start_epoch
from tests import child
from tests.integration import ROOT, run_python
from tests.test_bad_input import check_output, watch
from tests.test_streaming import as_pair

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
import json, warnings
import torch

warnings.simplefilter("ignore")  # of the number of cores
for shuffle, own in [(False, False), (True, False), (True, True)]:
    torch.manual_seed(1)
    generator = torch.Generator().manual_seed(1) if own else None
    loader = torch.utils.data.DataLoader(range(41), 8, shuffle=shuffle, num_workers=2,
                                         persistent_workers=True, generator=generator)
    orders = [torch.cat(list(loader)).tolist() for epoch in range(3)]
    stream = generator.get_state() if own else torch.get_rng_state()
    print(json.dumps([shuffle, own, orders, stream.tolist()]))
"""


def test_persistent_workers_draw_as_torchs_do():
    """Three epochs with workers of torch's, in a process that JAX has started no threads in."""
    for line in run_python("-c", WORKERS).splitlines():
        shuffle, own, orders, stream = json.loads(line)
        for persistent in (True, False):
            batching = Batching(41, 8, shuffle, own=own, persistent_workers=persistent)
            generator = jaxnet.random.manual_seed(1)
            for epoch, expected in enumerate(orders):
                generator, order = start_epoch(generator, batching, epoch == 0)
                same = expected == (list(range(41)) if order is None else order.tolist())
                assert same or not persistent
            assert (jaxnet.random.get_state(generator).tolist() == stream) == persistent


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
