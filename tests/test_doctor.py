"""`jaxnet doctor`: what it reads here, and what it says of machines that are not here."""

import dataclasses
import functools
import json
import os
import platform
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from click.testing import CliRunner

import jaxnet.lecture.cli
from jaxnet.lecture import _machine, doctor
from jaxnet.lecture._machine import KNOWN_DRAWS, TESTED_FROM, Facts, digest, look
from jaxnet.lecture.doctor import Finding, examine

# A machine on which everything holds, whatever machine this is.
SOUND = Facts(
    versions={
        **{"python": "3.12.1", "jax": "0.10.2", "jaxlib": "0.10.2", "flax": "0.12.8"},
        **{"optax": "0.2.8", "numpy": "2.4.6", "torch": "2.15.0+cpu", "torchvision": "0.29.2"},
    },
    environment={},
    settings={
        "jax_default_matmul_precision": None,
        "jax_enable_x64": False,
        "jax_default_prng_impl": "threefry2x32",
        "jax_threefry_partitionable": True,
    },
    backend="cpu",
    devices=("cpu",),
    machine="x86_64",
    features=frozenset(("avx2", "fma", "avx512f", "sse2")),
    torch_kernels="AVX512",
    keeps_subnormals=False,
    product_error=4e-7,
    draws=KNOWN_DRAWS,
)


def judge(**changes: Any) -> dict[str, Finding]:
    """The findings of `SOUND` with changes, by name; mappings are merged."""
    merged = {
        name: {**getattr(SOUND, name), **value} if isinstance(value, dict) else value
        for name, value in changes.items()
    }
    return {finding.name: finding for finding in examine(dataclasses.replace(SOUND, **merged))}


def call(*arguments: str):
    return CliRunner().invoke(jaxnet.lecture.cli.main, ["doctor", *arguments], prog_name="jaxnet")


def show(monkeypatch, facts: Facts, *arguments: str):
    """The command on another machine."""
    monkeypatch.setattr(doctor, "look", lambda: facts)
    return call(*arguments)


GPU = {"backend": "gpu", "devices": ("NVIDIA H100",) * 2}
NO_TORCH = {"torch": None, "torchvision": None}
TF32, MATMUL, ATEN = "TF32", "matmul precision", "ATEN_CPU_CAPABILITY"
KERNELS = "torch's kernels"
XLA, MASKS, FAST_MATH = "XLA_FLAGS", "torch's masks", "xla_cpu_enable_fast_math"
PRECISION = "jax_default_matmul_precision"
CUBLAS = "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"
NOT_PARTITIONABLE = {"settings": {"jax_threefry_partitionable": False}}
HARMLESS = (
    "--xla_force_host_platform_device_count=2 --xla_dump_to=/tmp/x --xla_cpu_enable_fast_math=false"
)


def flags(text: str) -> dict[str, Any]:
    return {"environment": {XLA: text}}


def multiply(precision: str) -> dict[str, Any]:
    return {"settings": {PRECISION: precision}}


def torch_is(version: str) -> dict[str, Any]:
    return {"versions": {"torch": version}}


CASES = [
    # name of the finding, verdict, part of the value, part of the advice, what is changed
    ("torch", "ok", "not installed", "", {"versions": NO_TORCH}),
    ("torchvision", "ok", "not installed", "", {"versions": NO_TORCH}),
    (MASKS, "ok", "from torch 2.7 on", "", {"versions": NO_TORCH}),
    (MASKS, "ok", "mt19937", "", {}),
    (MASKS, "ok", "mt19937", "", torch_is("2.7.0")),
    (MASKS, "ok", "mt19937", "", torch_is("2.10.1")),
    (MASKS, "differs", "MCG31", "Upgrade torch", torch_is("2.6.0+cu124")),
    (MASKS, "differs", "MCG31", "Upgrade torch", torch_is("1.13.1")),
    (MASKS, "ok", "mt19937", "", {**torch_is("2.6.0"), "machine": "aarch64", "features": None}),
    (MASKS, "unknown", "nightly", "a release", torch_is("nightly")),
    ("torch", "unknown", "2.9.1", "2.11 and newer", torch_is("2.9.1")),
    ("torch", "ok", "3.0", "", torch_is("3.0.0a0+git1")),
    ("jax", "unknown", "0.9.9", "0.10 and newer", {"versions": {"jax": "0.9.9"}}),
    ("optax", "ok", "0.2.10", "", {"versions": {"optax": "0.2.10"}}),
    ("optax", "unknown", "0.2.7", "0.2.8 and newer", {"versions": {"optax": "0.2.7"}}),
    ("flax", "unknown", "not found", "Install flax", {"versions": {"flax": None}}),
    ("processor", "ok", "AVX2, FMA, AVX-512", "", {}),
    ("processor", "ok", "AMD64 with AVX2, FMA", "", {"machine": "AMD64"}),
    ("processor", "ok", "with AVX2, FMA", "", {"features": frozenset(("avx2", "fma"))}),
    ("processor", "differs", "none of", "uniform_ twice", {"features": frozenset(("sse2",))}),
    ("processor", "differs", "with AVX2", "uniform_ twice", {"features": frozenset(("avx2",))}),
    ("processor", "unknown", "unread", "AVX2 and FMA", {"features": None}),
    ("processor", "differs", "arm64", "2.3e-6", {"machine": "arm64", "features": None}),
    ("processor", "differs", "aarch64", "2.3e-6", {"machine": "aarch64", "features": None}),
    ("processor", "unknown", "riscv64", "not known", {"machine": "riscv64", "features": None}),
    (ATEN, "ok", "unset", "", {}),
    (ATEN, "ok", "avx2", "", {"environment": {ATEN: "avx2"}}),
    (ATEN, "differs", "default", "Unset ATEN", {"environment": {ATEN: "default"}}),
    (ATEN, "ok", "default", "", {"environment": {ATEN: "default"}, "machine": "arm64"}),
    (KERNELS, "ok", "AVX512", "", {}),
    (KERNELS, "ok", "AVX2", "", {"torch_kernels": "AVX2"}),
    (KERNELS, "differs", "DEFAULT, not AVX2's", "without ATEN_CPU", {"torch_kernels": "DEFAULT"}),
    (KERNELS, "ok", "DEFAULT", "", {"torch_kernels": "DEFAULT", "machine": "aarch64"}),
    (KERNELS, "unknown", "does not say", "import torch", {"torch_kernels": None}),
    (KERNELS, "ok", "not installed", "", {"versions": NO_TORCH, "torch_kernels": None}),
    ("JAX's backend", "ok", "cpu, 1 device (cpu)", "", {}),
    ("JAX's backend", "unknown", "gpu, 2 devices (NVIDIA H100)", "--device cpu", GPU),
    (MATMUL, "ok", "full float32", "", {}),
    (MATMUL, "ok", "full", "", multiply("highest")),
    (MATMUL, "ok", "full", "", multiply("float32")),
    (MATMUL, "differs", "high", "Unset", multiply("high")),
    (MATMUL, "differs", "tensorfloat32", f"Unset {PRECISION}", multiply("tensorfloat32")),
    ("a product, measured", "ok", "4e-07", "", {}),
    ("a product, measured", "differs", "3e-04", "XLA_FLAGS", {"product_error": 3e-4}),
    ("a product, measured", "differs", "nan", "XLA_FLAGS", {"product_error": float("nan")}),
    (TF32, "ok", "without a GPU", "", {"environment": {"NVIDIA_TF32_OVERRIDE": "1"}}),
    (TF32, "ok", "off in jaxnet", "", {**GPU, "versions": NO_TORCH}),
    (TF32, "unknown", "unseen in torch", "allow_tf32", GPU),
    (TF32, "ok", "OVERRIDE=0", "", {**GPU, "environment": {"NVIDIA_TF32_OVERRIDE": "0"}}),
    (TF32, "unknown", "OVERRIDE=1", "0", {**GPU, "environment": {"NVIDIA_TF32_OVERRIDE": "1"}}),
    (TF32, "differs", "on in torch", "Unset TORCH", {**GPU, "environment": {CUBLAS: "1"}}),
    ("jax_enable_x64", "ok", "off", "", {}),
    ("jax_enable_x64", "differs", "on", "float64", {"settings": {"jax_enable_x64": True}}),
    ("JAX's own keys", "ok", "threefry2x32, partitionable", "", {}),
    ("JAX's own keys", "differs", "rbg", "key", {"settings": {"jax_default_prng_impl": "rbg"}}),
    ("JAX's own keys", "differs", "threefry2x32", "key", NOT_PARTITIONABLE),
    (XLA, "ok", "none", "", {}),
    (XLA, "ok", "none", "", flags(HARMLESS)),
    (XLA, "differs", FAST_MATH, "out of XLA_FLAGS", flags(f"--xla_dump_to=/x --{FAST_MATH}")),
    (XLA, "differs", "xla_gpu_ftz", "xla_gpu_ftz", flags("--xla_gpu_ftz=true")),
    (XLA, "unknown", "xla_gpu_autotune_level", "See", flags("--xla_gpu_autotune_level=0")),
    ("below 1.2e-38", "ok", "taken for 0", "", {}),
    ("below 1.2e-38", "ok", "kept, as in torch", "", {"keeps_subnormals": True}),
    *(
        (name, "differs", "other bits", "Report", {"draws": {name: "0" * 16}})
        for name in KNOWN_DRAWS
    ),
]


@pytest.mark.parametrize(("name", "verdict", "value", "advice", "changes"), CASES)
def test_each_finding(name, verdict, value, advice, changes):
    finding = judge(**changes)[name]
    assert finding.verdict == verdict and value in finding.value
    assert advice in finding.advice
    assert (finding.advice == "") == (verdict == "ok")
    assert finding.advice == "" or re.fullmatch(r"[A-Z].*\.", finding.advice)


def test_only_what_was_changed_is_found():
    """Beside what a change brings along: a GPU's backend and TF32, another torch or processor."""
    assert {finding.verdict for finding in judge().values()} == {"ok"}
    along = {"backend": {"JAX's backend", TF32}, "machine": {"processor"}, "versions": {"torch"}}
    for name, verdict, _, _, changes in CASES:
        others = {found for found, finding in judge(**changes).items() if finding.verdict != "ok"}
        allowed = {name}.union(*(along.get(change, ()) for change in changes))
        assert others <= allowed and (name in others) == (verdict != "ok")


WHAT_TORCH_SAYS = """
import hashlib, torch
def digest(draw):
    torch.manual_seed(1)
    print(hashlib.sha256(draw().numpy().tobytes()).hexdigest()[:16])
digest(lambda: torch.nn.functional.dropout(torch.ones(2000), 0.9) != 0)
digest(lambda: torch.randperm(1000, dtype=torch.int32))
digest(lambda: torch.empty(1000).uniform_(0.1, 0.7))
digest(lambda: torch.empty(1000).normal_())
digest(lambda: torch.empty(15).normal_())
print(torch.backends.cpu.get_cpu_capability())
"""


def ask_torch(**environment: str) -> tuple[dict[str, str], str]:
    """Digests of torch's own draws, and the instructions it uses, in a process of its own."""
    variables = {name: value for name, value in os.environ.items() if name != ATEN}
    command, env = [sys.executable, "-c", WHAT_TORCH_SAYS], variables | environment
    *digests, capability = subprocess.check_output(command, text=True, env=env).split()
    return dict(zip(KNOWN_DRAWS, digests, strict=True)), capability


on_avx2 = pytest.mark.skipif(
    not {"avx2", "fma"} <= (_machine._read_features() or frozenset()),
    reason="torch has other bits where there is no AVX2",
)


def test_what_is_measured():
    facts = look()
    assert facts.draws == KNOWN_DRAWS
    assert 0 < facts.product_error < 1e-6
    assert facts.machine == platform.machine() and facts.backend == jax.default_backend()
    assert len(facts.devices) == len(jax.devices())
    if facts.backend == "cpu":
        assert not facts.keeps_subnormals
    with jax.enable_x64(True), jax.default_matmul_precision("high"):
        settings = look().settings
    assert settings["jax_enable_x64"] is True
    assert settings["jax_default_matmul_precision"] == "high"
    assert digest(np.zeros(2, np.float32)) != digest(np.array([0.0, -0.0], np.float32))


def test_the_tested_versions_are_those_that_the_package_asks_for():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *project["optional-dependencies"]["torch"]]
    bounds = dict(re.split(r">=", text) for text in [*asked, "python" + project["requires-python"]])
    for name, bound in TESTED_FROM.items():
        text = bounds["jax" if name == "jaxlib" else name]
        assert ".".join(map(str, bound)) == text


def test_a_processor_that_nothing_tells_of(monkeypatch):
    monkeypatch.setattr(_machine.platform, "system", lambda: "Windows")
    monkeypatch.setattr(_machine, "Path", lambda name: Path("/no/such") / "cpuinfo")
    assert _machine._read_features() is None


def test_a_mac_is_asked_by_sysctl(monkeypatch):
    monkeypatch.setattr(_machine.platform, "system", lambda: "Darwin")
    said = "SSE2 FMA\nSMEP AVX2 AVX512F\n"
    monkeypatch.setattr(_machine.subprocess, "check_output", lambda *_, **__: said)
    assert _machine._read_features() == {"sse2", "fma", "smep", "avx2", "avx512f"}

    def fail(*_, **__):
        raise FileNotFoundError("sysctl")

    monkeypatch.setattr(_machine.subprocess, "check_output", fail)
    assert _machine._read_features() is None


def test_torch_is_not_imported_and_need_not_be_there(monkeypatch):
    for name in ("torch", "torchvision"):
        monkeypatch.setitem(sys.modules, name, None)  # importing it fails
    assert look().versions["torch"] == metadata.version("torch")

    def version(name):
        if name.startswith("torch"):
            raise metadata.PackageNotFoundError(name)
        return "9.9"

    monkeypatch.setattr(_machine.metadata, "version", version)
    versions = look().versions
    assert versions["torch"] is versions["torchvision"] is None and versions["jax"] == "9.9"


def test_a_torch_that_fails_or_hangs_is_unknown(monkeypatch):
    """And its kernels are the last that it says, after what its import may print."""
    said: list[Any] = [
        subprocess.CompletedProcess([], 0, stdout="a notice\nDEFAULT\n"),
        subprocess.CompletedProcess([], 0, stdout=""),
        subprocess.CalledProcessError(1, "python", stderr="ImportError"),
        subprocess.TimeoutExpired("python", _machine.TORCH_SECONDS),
        FileNotFoundError("python"),
    ]
    asked = []

    def run(command, *, env, timeout, **options):
        asked.append((env.get(ATEN), timeout))
        if isinstance(now := said.pop(0), Exception):
            raise now
        return now

    monkeypatch.setattr(_machine.subprocess, "run", run)
    ask = _machine._ask_torch.__wrapped__  # what it said before is kept
    assert ask("default") == "DEFAULT"
    assert [ask("default") for _ in range(4)] == [None] * 4 and not said
    assert asked == [("default", 60)] * 5


def test_torch_is_asked_once_whatever_the_number_of_looks(monkeypatch):
    """Another value of the variable is another question."""
    asked = []

    def run(command, *, env, **options):
        asked.append(env.get(ATEN))
        return subprocess.CompletedProcess(command, 0, stdout="AVX2\n")

    ask = functools.cache(_machine._ask_torch.__wrapped__)
    monkeypatch.setattr(_machine, "_ask_torch", ask)
    monkeypatch.setattr(_machine.subprocess, "run", run)
    monkeypatch.delenv(ATEN, raising=False)
    assert look().torch_kernels == look().torch_kernels == "AVX2" and asked == [None]
    monkeypatch.setenv(ATEN, "default")
    assert look().torch_kernels == "AVX2" and asked == [None, "default"]


def test_the_command_on_a_sound_machine(monkeypatch, tmp_path):
    path = tmp_path / "new" / "findings.json"
    done = show(monkeypatch, SOUND, "--json", str(path))
    assert done.exit_code == 0, done.output
    assert "Nothing here is known to make numbers differ" in done.output
    assert max(map(len, done.output.splitlines())) <= 80
    findings = json.loads(path.read_text())
    assert [finding["name"] for finding in findings] == [f.name for f in examine(SOUND)]
    assert set(findings[0]) == {"name", "value", "verdict", "advice"}
    for finding in findings:
        assert finding["name"] in done.output and finding["value"] in done.output


def test_the_command_on_a_machine_that_differs(monkeypatch, tmp_path):
    path = tmp_path / "findings.json"
    text = "--xla_cpu_enable_fast_math=true --xla_gpu_ftz=true --xla_gpu_enable_fast_min_max=true"
    facts = dataclasses.replace(
        SOUND,
        environment={"XLA_FLAGS": text, ATEN: "default"},
        devices=("a device with a rather long name, [bold] and more",),
        backend="gpu",
    )
    done = show(monkeypatch, facts, "--json", str(path))
    assert done.exit_code == 1, done.output
    assert max(map(len, done.output.splitlines())) <= 80
    text = " ".join(done.output.split())
    assert f"{ATEN}: Unset {ATEN}: with it torch rounds" in text
    assert "XLA_FLAGS: Take xla_cpu_enable_fast_math" in text and "[bold]" in text
    assert "JAX's backend: Sums were compared" in text and "Nothing here" not in text
    verdicts = {finding["name"]: finding["verdict"] for finding in json.loads(path.read_text())}
    assert verdicts[ATEN] == verdicts["XLA_FLAGS"] == "differs" != verdicts["TF32"]


def test_what_is_unknown_alone_is_no_failure(monkeypatch):
    done = show(monkeypatch, dataclasses.replace(SOUND, features=None))
    assert done.exit_code == 0 and "See that the processor has AVX2" in done.output


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError("Unable to initialize backend 'x'"), "not start here: Unable to initialize"),
        (AssertionError(), "JAX does not start here: JAX_PLATFORMS is 'cuda'"),
    ],
)
def test_a_jax_that_does_not_start_is_said(monkeypatch, error, message):
    def devices():
        raise error

    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    monkeypatch.setattr(jax, "devices", devices)
    done = call()
    assert done.exit_code == 2 and message in " ".join(done.output.split())


def test_the_command_here():
    """The whole of it, on this machine."""
    done = call()
    expected = any(finding.verdict == "differs" for finding in examine())
    assert done.exit_code == expected, done.output
    assert "drawn here: torch's bits" in done.output
