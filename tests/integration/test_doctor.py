"""What the doctor says of this machine, beside torch in a process of its own."""

import jax
import torch

from jaxnet.lecture._machine import KNOWN_DRAWS
from jaxnet.lecture.doctor import examine
from tests.test_doctor import ATEN, KERNELS, ask_torch, on_avx2


def test_this_machine_agrees_with_torchs_own_report():
    found = {finding.name: finding for finding in examine()}
    assert found["torch"].value.partition("+")[0] == torch.__version__.partition("+")[0]
    capability = torch.backends.cpu.get_cpu_capability()
    assert found[KERNELS].value.startswith(capability)
    assert (found[KERNELS].verdict == "differs") == (capability not in ("AVX2", "AVX512"))
    assert ("AVX-512" in found["processor"].value) or capability != "AVX512"
    assert found["jax"].value == jax.__version__


@on_avx2
def test_the_capability_that_is_said_to_differ_does():
    """And in what it is said to: uniform_ and normal_, not masks and orders."""
    draws, capability = ask_torch(**{ATEN: "default"})
    assert capability == "DEFAULT"
    differing = {name for name, found in draws.items() if found != KNOWN_DRAWS[name]}
    assert {"uniform", "normal"} <= differing <= {"uniform", "normal", "normal, fewer than 16"}
    draws, _ = ask_torch(**{ATEN: "avx2"})
    assert draws == KNOWN_DRAWS


@on_avx2
def test_known_draws_are_torchs():
    draws, capability = ask_torch()
    assert draws == KNOWN_DRAWS and capability.startswith("AVX")
