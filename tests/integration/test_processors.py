"""Where torch runs other kernels than AVX2's: a certificate says so, and only where it is so."""

import json
import os
from typing import Any

import numpy as np
import pytest
import torch

from jaxnet.certificate.bounds import EPS, OTHER_NORMALS
from jaxnet.certificate.causes import kernel_causes
from tests.integration import run_python
from tests.mutants import planted, replaced
from tests.test_doctor import on_avx2
from torchref.certification import certify_script

BUILDS = """
import torch


def linear():
    net = torch.nn.Sequential(torch.nn.Linear(40, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1))
    return net, torch.nn.MSELoss(), torch.optim.SGD(net.parameters()), (X, Y)


def embedding():
    layers = torch.nn.Embedding(40, 3), torch.nn.Flatten(), torch.nn.Linear(120, 1)
    net = torch.nn.Sequential(*layers)
    data = torch.arange(40).repeat(8, 1), Y
    return net, torch.nn.MSELoss(), torch.optim.SGD(net.parameters()), data


X, Y = torch.ones(8, 40), torch.ones(8, 1)
"""

CERTIFIED = f"""{BUILDS}
import json
from jaxnet.data import load_mnist
from tests.mutants import planted, replaced
from torchref.certification import certify_script
from torchref.results import certify_experiment


def tell(name, certificate):
    told[name] = [certificate.agrees, str(certificate), certificate.to_json()["divergence"]]


told = {{"kernels": torch.backends.cpu.get_cpu_capability()}}
tell("linear", certify_script(linear, seed=1))
tell("embedding", certify_script(embedding, seed=1))
train, _ = load_mnist((0, 1))
few = train._replace(images=train.images[:32], labels=train.labels[:32])
tell("experiment", certify_experiment("logits", few, epochs=1))
for name, before, after, build in (
    ("weight", "a=math.sqrt(5))", "a=math.sqrt(5.00001))", linear),
    ("bias", "features,), -bound, bound)", "features,), -bound, 1.000001 * bound)", linear),
    ("normal", "normal(generator, (self.num_", "normal(generator, std=1.001, shape=(self.num_",
     embedding),
):
    with planted(LAYERS := "jaxnet/nn/layers.py", replaced(LAYERS, before, after)):
        tell(name, certify_script(build, seed=1))
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    """Of each certificate made under torch's kernels without AVX2: verdict, text, divergence."""
    environment = os.environ | {"ATEN_CPU_CAPABILITY": "default"}
    return json.loads(run_python("-c", CERTIFIED, env=environment))


@on_avx2
@pytest.mark.parametrize(
    ("name", "tensor", "tried"),
    [
        ("linear", "0.weight", "with uniform_ rounded twice"),
        ("experiment", "0.weight", "with uniform_ rounded twice"),
        ("embedding", "0.weight", "normal_ takes other logarithms"),
    ],
)
def test_kernels_that_draw_other_weights_are_named(told, name, tensor, tried):
    agrees, text, divergence = told[name]
    assert told["kernels"] == "DEFAULT" and not agrees
    assert text.startswith(f"DIVERGE before the first step: initial weights of {tensor}.")
    assert divergence["causes"][0].startswith("torch runs its DEFAULT kernels (torch.backends.cpu")
    assert divergence["causes"][1].startswith(tried) and len(divergence["causes"]) == 3
    assert all(cause in text for cause in divergence["causes"])
    assert max(map(len, text.splitlines())) <= 110


@on_avx2
@pytest.mark.parametrize(
    ("name", "tensor"), [("weight", "0.weight"), ("bias", "0.bias"), ("normal", "0.weight")]
)
def test_kernels_are_not_blamed_for_weights_that_are_wrong(told, name, tensor):
    """Not even for a bound that is off by a millionth; nor do they hide it behind their own."""
    agrees, text, divergence = told[name]
    assert not agrees and divergence["stage"] == "initial weights"
    assert divergence["tensor"] == tensor
    assert "kernels" not in text and "does the initializer draw in torch's order" in text


@on_avx2
def test_kernels_that_jaxnet_follows_are_not_blamed():
    """A `uniform` that rounds twice is jaxnet's fault where torch rounds once."""
    exec(BUILDS, builds := {})
    assert torch.backends.cpu.get_cpu_capability().startswith("AVX")
    file = "jaxnet/random/distributions.py"
    fused = "fused_multiply_add(unit, np.float32(high32 - low32), low32)"
    with planted(file, replaced(file, fused, "unit * np.float32(high32 - low32) + low32")):
        certificate = certify_script(builds["linear"], seed=1)
    found = certificate.divergence
    assert found is not None and found.stage == "initial weights"
    assert "kernels" not in str(certificate)


def test_what_is_tried_of_kernels():
    ones, bound = np.ones(3, np.float32), OTHER_NORMALS
    near, far = (np.float32(1 + gap) * ones for gap in (bound / 2, 2 * bound))
    ulp = np.float32(1 + EPS) * ones
    for kernels in ("DEFAULT", "NO AVX", "SVE256"):
        named, tried, _ = kernel_causes(kernels, ones, ulp, uniform=ulp, normal=ones)
        assert kernels in named and "uniform_" in tried
        assert "normal_" in kernel_causes(kernels, ones, near, uniform=ones, normal=ulp)[1]
    assert not kernel_causes("AVX512", ones, ulp, uniform=ulp, normal=ones)
    assert not kernel_causes("DEFAULT", ones, near, uniform=ulp, normal=ones)
    assert not kernel_causes("DEFAULT", ones, far, uniform=ones, normal=ulp)
    assert not kernel_causes("DEFAULT", ones, near, uniform=ones, normal=ones)  # nothing is drawn
    assert not kernel_causes("DEFAULT", ones, near[:2], uniform=ones, normal=ulp)
