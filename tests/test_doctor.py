"""`jaxnet doctor`: what it reads here, and what it says of machines that are not here."""

import dataclasses
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import pytest
from click.testing import CliRunner

import jaxnet.lecture.cli
from jaxnet.lecture import _machine, doctor
from jaxnet.lecture._machine import KNOWN_DRAWS, Facts, look
from jaxnet.lecture.doctor import Finding, examine

# A machine on which everything holds, whatever machine this is.
SOUND = Facts(
    versions={
        **{"jax": "0.10.2", "jaxlib": "0.10.2", "flax": "0.12.8"},
        **{"optax": "0.2.8", "numpy": "2.4.6", "torch": "2.15.0+cpu"},
    },
    settings={"jax_default_matmul_precision": None, "jax_enable_x64": False},
    xla_flags="",
    devices=("cpu",),
    machine="x86_64",
    features=frozenset(("avx2", "fma", "avx512f", "sse2")),
    torch_kernels="AVX512",
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


NO_TORCH = {"versions": {"torch": None}, "torch_kernels": None}
ATEN, KERNELS, XLA = "ATEN_CPU_CAPABILITY", "torch's kernels", "XLA_FLAGS"
PRECISION, FAST_MATH = "jax_default_matmul_precision", "xla_cpu_enable_fast_math"
HARMLESS = (
    "--xla_force_host_platform_device_count=2 --xla_dump_to=/tmp/x --xla_cpu_enable_fast_math=false"
)


def torch_is(version: str) -> dict[str, Any]:
    return {"versions": {"torch": version}}


CASES = [
    # name of the finding, verdict, part of the value, part of the advice, what is changed
    ("torch", "ok", "not installed", "", NO_TORCH),
    ("torch", "unknown", "2.9.1", "2.11 and newer", torch_is("2.9.1")),
    ("torch", "ok", "3.0", "", torch_is("3.0.0a0+git1")),
    ("torch", "differs", "2.6", "masks", torch_is("2.6.0+cu124")),
    ("torch", "unknown", "nightly", "Upgrade", torch_is("nightly")),
    ("processor", "ok", "AMD64 with AVX2, FMA, AVX-512", "", {"machine": "AMD64"}),
    ("processor", "ok", "with AVX2, FMA", "", {"features": frozenset(("avx2", "fma"))}),
    ("processor", "differs", "none of", "uniform_ twice", {"features": frozenset(("sse2",))}),
    ("processor", "differs", "with AVX2", "uniform_ twice", {"features": frozenset(("avx2",))}),
    ("processor", "unknown", "unread", "AVX2 and FMA", {"features": frozenset()}),
    ("processor", "differs", "arm64", "2.3e-6", {"machine": "arm64", "features": frozenset()}),
    (KERNELS, "ok", "AVX2", "", {"torch_kernels": "AVX2"}),
    (KERNELS, "differs", "DEFAULT, not AVX2's", "without ATEN_CPU", {"torch_kernels": "DEFAULT"}),
    (KERNELS, "unknown", "does not say", "import torch", {"torch_kernels": None}),
    (KERNELS, "ok", "not installed", "", NO_TORCH),
    (
        "JAX's devices",
        "unknown",
        "2 x NVIDIA H100",
        "--device cpu",
        {"devices": ("NVIDIA H100",) * 2},
    ),
    (PRECISION, "ok", "highest", "", {"settings": {PRECISION: "highest"}}),
    (
        PRECISION,
        "differs",
        "tensorfloat32",
        f"Unset {PRECISION}",
        {"settings": {PRECISION: "tensorfloat32"}},
    ),
    ("jax_enable_x64", "differs", "True", "float64", {"settings": {"jax_enable_x64": True}}),
    ("a product, measured", "ok", "4e-07", "", {}),
    ("a product, measured", "differs", "3e-04", XLA, {"product_error": 3e-4}),
    ("a product, measured", "differs", "nan", XLA, {"product_error": float("nan")}),
    (XLA, "ok", "none", "", {"xla_flags": HARMLESS}),
    (XLA, "differs", FAST_MATH, f"out of {XLA}", {"xla_flags": f"--xla_dump_to=/x --{FAST_MATH}"}),
    (XLA, "differs", "xla_gpu_ftz", "xla_gpu_ftz", {"xla_flags": "--xla_gpu_ftz=true"}),
    (XLA, "unknown", "autotune_level", "See", {"xla_flags": "--xla_gpu_autotune_level=0"}),
    *(
        (name, "differs", "other bits", "Report", {"draws": {name: "0" * 16}})
        for name in KNOWN_DRAWS
    ),
]


@pytest.mark.parametrize(("name", "verdict", "value", "advice", "changes"), CASES)
def test_each_finding(name, verdict, value, advice, changes):
    """And no other is changed."""
    found = judge(**changes)
    finding = found.pop(name)
    assert finding.verdict == verdict and value in finding.value
    assert advice in finding.advice
    assert (finding.advice == "") == (verdict == "ok")
    assert finding.advice == "" or re.fullmatch(r"[A-Z].*\.", finding.advice)
    assert {other.verdict for other in found.values()} == {"ok"}


WHAT_TORCH_SAYS = """
import torch
from jaxnet._utils.digests import digest_array
def digest(draw):
    torch.manual_seed(1)
    print(digest_array(draw().numpy())[:16])
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


def read_features() -> set[str]:
    """What this processor can, by its names in /proc/cpuinfo."""
    return {*_machine._read_processor().get("flags", "").split()}


on_avx2 = pytest.mark.skipif(
    not {"avx2", "fma"} <= read_features(),
    reason="torch has other bits where there is no AVX2",
)


def test_what_is_measured(monkeypatch):
    """torch's own word is in `tests/integration`: it costs a process that imports torch."""
    monkeypatch.setenv(XLA, HARMLESS)
    monkeypatch.setattr(_machine, "_ask_torch", lambda: "AVX2")
    facts = look()
    assert facts.draws == KNOWN_DRAWS
    assert 0 < facts.product_error < 1e-6
    assert facts.machine == platform.machine() and facts.xla_flags == HARMLESS
    assert len(facts.devices) == len(jax.devices())
    measure_nothing(monkeypatch)
    with jax.enable_x64(True), jax.default_matmul_precision("high"):
        assert look().settings == {PRECISION: "high", "jax_enable_x64": True}


def measure_nothing(monkeypatch):
    """Leave out what compiles programs and asks processes."""
    for name, found in (("_draw", dict), ("_measure_product", float), ("_ask_torch", str)):
        monkeypatch.setattr(_machine, name, found)


def test_a_processor_that_nothing_tells_of(monkeypatch):
    monkeypatch.setattr(_machine, "Path", lambda name: Path("/no/such") / "cpuinfo")
    assert _machine._read_processor() == {}
    assert _machine.name_processor() == platform.machine()


def test_torch_is_not_imported_and_need_not_be_there(monkeypatch):
    measure_nothing(monkeypatch)
    monkeypatch.setitem(sys.modules, "torch", None)  # importing it fails
    assert look().versions["torch"] == metadata.version("torch")

    def version(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(_machine.metadata, "version", version)
    facts = look()
    assert facts.versions["torch"] is facts.torch_kernels is None


def test_a_torch_that_fails_or_hangs_is_unknown(monkeypatch):
    """And its kernels are the last that it says, after what its import may print."""
    said: list[Any] = [
        "a notice\nDEFAULT\n",
        "",
        subprocess.CalledProcessError(1, "python", stderr="ImportError"),
        subprocess.TimeoutExpired("python", 60),
        FileNotFoundError("python"),
    ]

    def check_output(command, *, timeout, **options):
        assert timeout == 60
        if isinstance(now := said.pop(0), Exception):
            raise now
        return now

    monkeypatch.setattr(_machine.subprocess, "check_output", check_output)
    ask = _machine._ask_torch.__wrapped__  # what it said before is kept
    assert [ask() for _ in range(5)] == ["DEFAULT", None, None, None, None] and not said


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
    facts = dataclasses.replace(
        SOUND,
        xla_flags="--xla_cpu_enable_fast_math=true --xla_gpu_ftz=true --xla_gpu_other=true",
        devices=("a device with a rather long name, [bold] and more",),
    )
    done = show(monkeypatch, facts, "--json", str(path))
    assert done.exit_code == 1, done.output
    assert max(map(len, done.output.splitlines())) <= 80
    text = " ".join(done.output.split())
    assert "XLA_FLAGS: Take xla_cpu_enable_fast_math, xla_gpu_ftz out" in text and "[bold]" in text
    assert "JAX's devices: Sums were compared" in text and "Nothing here" not in text
    verdicts = {finding["name"]: finding["verdict"] for finding in json.loads(path.read_text())}
    assert verdicts["XLA_FLAGS"] == "differs" != verdicts["JAX's devices"]


def test_findings_that_cannot_be_saved_are_saved_elsewhere(monkeypatch, tmp_path):
    """The place was free before the work, and is taken afterwards."""
    path = tmp_path / "findings.json"
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(doctor, "look", lambda: (path.mkdir(), SOUND)[1])
    done = call("--json", str(path))
    assert done.exit_code == 2 and "Nothing here is known" in done.stdout, done.output
    said = f"Error: {path} could not be written (Is a directory): saved as "
    assert done.stderr.startswith(said) and done.stderr.count("\n") == 1
    findings = json.loads(Path(done.stderr.removeprefix(said).split()[0]).read_text())
    assert [finding["name"] for finding in findings] == [f.name for f in examine(SOUND)]


def test_on_a_narrow_terminal_nothing_is_cut_off(monkeypatch):
    wide = show(monkeypatch, SOUND).output
    monkeypatch.setenv("COLUMNS", "5")
    assert show(monkeypatch, SOUND).output == wide


def test_what_is_unknown_alone_is_no_failure(monkeypatch):
    done = show(monkeypatch, dataclasses.replace(SOUND, features=frozenset()))
    assert done.exit_code == 0 and "Use x86 with AVX2" in done.output


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
