"""What the doctor says of this machine, beside torch in a process of its own."""

import os
from pathlib import Path

import jax
import numpy as np
import torch

from jaxnet._utils.digests import digest_array
from jaxnet.lecture._machine import KNOWN_DRAWS
from jaxnet.lecture.doctor import examine
from tests.integration import run_python
from tests.test_doctor import on_avx2


def test_this_machine_agrees_with_torchs_own_report():
    found = {finding.name: finding for finding in examine()}
    assert found["torch"].value.partition("+")[0] == torch.__version__.partition("+")[0]
    capability = torch.backends.cpu.get_cpu_capability()
    assert found["torch's kernels"].value.startswith(capability)
    assert (found["torch's kernels"].verdict == "differs") == (capability[:3] != "AVX")
    assert ("AVX-512" in found["processor"].value) or capability != "AVX512"
    assert found["jax"].value == jax.__version__


WHAT_TORCH_SAYS = """
import sys, numpy, torch
def draw(make):
    torch.manual_seed(1)
    return make().numpy()
numpy.savez(
    sys.argv[1],
    draw(lambda: torch.nn.functional.dropout(torch.ones(2000), 0.9) != 0),
    draw(lambda: torch.randperm(1000, dtype=torch.int32)),
    draw(lambda: torch.empty(1000).uniform_(0.1, 0.7)),
    draw(lambda: torch.empty(1000).normal_()),
    draw(lambda: torch.empty(15).normal_()),
)
print(torch.backends.cpu.get_cpu_capability())
"""


def ask_torch(folder: Path, **environment: str) -> tuple[dict[str, str], str]:
    """Digests of torch's own draws, and the instructions it uses, in a process of its own."""
    path, variables = folder / "draws.npz", dict(os.environ)
    variables.pop("ATEN_CPU_CAPABILITY", None)
    capability = run_python("-c", WHAT_TORCH_SAYS, str(path), env=variables | environment).strip()
    with np.load(path) as draws:
        digests = [digest_array(draws[f"arr_{i}"])[:16] for i in range(len(KNOWN_DRAWS))]
    return dict(zip(KNOWN_DRAWS, digests, strict=True)), capability


@on_avx2
def test_the_capability_that_is_said_to_differ_does(tmp_path):
    """And in what it is said to: uniform_ and normal_, not masks and orders."""
    draws, capability = ask_torch(tmp_path, ATEN_CPU_CAPABILITY="default")
    assert capability == "DEFAULT"
    differing = {name for name, found in draws.items() if found != KNOWN_DRAWS[name]}
    assert {"uniform", "normal"} <= differing <= {"uniform", "normal", "normal, fewer than 16"}


@on_avx2
def test_known_draws_are_torchs(tmp_path):
    """As this processor draws, and as one with AVX2 alone."""
    for environment in ({}, {"ATEN_CPU_CAPABILITY": "avx2"}):
        draws, capability = ask_torch(tmp_path, **environment)
        assert draws == KNOWN_DRAWS and capability.startswith("AVX")
