"""`jaxnet doctor`: what it reads here, and what it says of machines that are not here."""

import dataclasses
import json
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

from jaxnet.lecture import _machine, doctor
from jaxnet.lecture._machine import KNOWN_DRAWS, Facts, look
from jaxnet.lecture.doctor import examine
from tests.helpers import each_row
from tests.test_cli import call

# A machine on which everything holds, whatever machine this is.
SOUND = Facts(
    versions=dict.fromkeys(_machine.PACKAGES, "1.0") | {"torch": "2.15.0+cpu"},
    settings={"jax_default_matmul_precision": None, "jax_enable_x64": False},
    xla_flags="",
    devices=("cpu",),
    machine="x86_64",
    features=frozenset(("avx2", "fma", "avx512f", "sse2")),
    torch_kernels="AVX512",
    product_error=4e-7,
    draws=KNOWN_DRAWS,
)


def change(**changes: Any) -> Facts:
    """`SOUND` with changes; mappings are merged."""
    merged = {
        name: {**getattr(SOUND, name), **value} if isinstance(value, dict) else value
        for name, value in changes.items()
    }
    return dataclasses.replace(SOUND, **merged)


def show(monkeypatch, facts: Facts, *arguments: str):
    """The command on another machine."""
    monkeypatch.setattr(doctor, "look", lambda: facts)
    return call("doctor", *arguments)


PRECISION = "jax_default_matmul_precision"
HARMLESS = (
    "--xla_force_host_platform_device_count=2 --xla_dump_to=/tmp/x --xla_cpu_enable_fast_math=false"
)
TORCH = {
    "2.9.1": ("unknown", "2.9.1", "2.11 and newer"),
    "3.0.0a0+git1": ("ok", "3.0", ""),
    "2.6.0+cu124": ("differs", "2.6", "masks"),
    "nightly": ("unknown", "nightly", "Upgrade"),
}
PROCESSORS = [
    ("AMD64", "avx2 fma avx512f", "ok", "AMD64 with AVX2, FMA, AVX-512", ""),
    ("x86_64", "avx2 fma", "ok", "with AVX2, FMA", ""),
    ("x86_64", "sse2", "differs", "none of", "uniform_ twice"),
    ("x86_64", "avx2", "differs", "with AVX2", "uniform_ twice"),
    ("x86_64", "", "unknown", "unread", "AVX2 and FMA"),
    ("arm64", "", "differs", "arm64", "2.3e-6"),
]
KERNELS = {
    "AVX2": ("ok", "AVX2", ""),
    "DEFAULT": ("differs", "DEFAULT, not AVX2's", "without ATEN_CPU"),
    None: ("unknown", "does not say", "import torch"),
}
FLAGS = {
    HARMLESS: ("ok", "none", ""),
    "--xla_dump_to=/x --xla_cpu_enable_fast_math": ("differs", "fast_math", "out of XLA_FLAGS"),
    "--xla_gpu_ftz=true": ("differs", "xla_gpu_ftz", "xla_gpu_ftz"),
    "--xla_gpu_autotune_level=0": ("unknown", "autotune_level", "See"),
}
PRODUCTS = {4e-7: ("ok", "4e-07", ""), 3e-4: ("differs", "3e-04", "XLA_FLAGS")}
PRODUCTS[float("nan")] = ("differs", "nan", "XLA_FLAGS")
SETTINGS = [
    (PRECISION, "highest", "ok", ""),
    (PRECISION, "tensorfloat32", "differs", f"Unset {PRECISION}"),
    ("jax_enable_x64", True, "differs", "float64"),
]
NO_TORCH = {"versions": {"torch": None}, "torch_kernels": None}
CASES = [
    # name of the finding, verdict, part of the value, part of the advice, what is changed
    *((name, "ok", "not installed", "", NO_TORCH) for name in ("torch", "torch's kernels")),
    *(("torch", *said, {"versions": {"torch": version}}) for version, said in TORCH.items()),
    *(
        ("processor", *said, {"machine": machine, "features": frozenset(features.split())})
        for machine, features, *said in PROCESSORS
    ),
    *(("torch's kernels", *said, {"torch_kernels": found}) for found, said in KERNELS.items()),
    ("JAX's devices", "unknown", "2 x NVIDIA", "--device cpu", {"devices": ("NVIDIA H100",) * 2}),
    *(
        (name, verdict, str(value), advice, {"settings": {name: value}})
        for name, value, verdict, advice in SETTINGS
    ),
    *(("a product, measured", *said, {"product_error": e}) for e, said in PRODUCTS.items()),
    *(("XLA_FLAGS", *said, {"xla_flags": flags}) for flags, said in FLAGS.items()),
    *((name, "differs", "other bits", "Report", {"draws": {name: "0"}}) for name in KNOWN_DRAWS),
]


@each_row("name verdict value advice changes", CASES)
def test_each_finding(name, verdict, value, advice, changes):
    """And no other is changed."""
    found = {finding.name: finding for finding in examine(change(**changes))}
    finding = found.pop(name)
    assert finding.verdict == verdict and value in finding.value
    assert advice in finding.advice
    assert (finding.advice == "") == (verdict == "ok")
    assert finding.advice == "" or re.fullmatch(r"[A-Z].*\.", finding.advice)
    assert {other.verdict for other in found.values()} == {"ok"}


on_avx2 = pytest.mark.skipif(
    not {"avx2", "fma"} <= {*_machine._read_processor().get("flags", "").split()},
    reason="torch has other bits where there is no AVX2",
)


def test_what_is_measured(monkeypatch):
    """torch's own word is in `tests/integration`: it costs a process that imports torch."""
    monkeypatch.setenv("XLA_FLAGS", HARMLESS)
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
    said: list[Any] = ["a notice\nDEFAULT\n", "", subprocess.TimeoutExpired("python", 60)]

    def check_output(command, *, timeout, **options):
        assert timeout == 60
        if isinstance(now := said.pop(0), Exception):
            raise now
        return now

    monkeypatch.setattr(_machine.subprocess, "check_output", check_output)
    ask = _machine._ask_torch.__wrapped__  # what it said before is kept
    assert [ask() for _ in range(3)] == ["DEFAULT", None, None] and not said


def test_the_command_on_a_sound_machine(monkeypatch, tmp_path):
    """On a terminal of any width: nothing is cut off."""
    path = tmp_path / "new" / "findings.json"
    done = show(monkeypatch, SOUND, "--json", str(path))
    assert done.exit_code == 0, done.output
    assert "Nothing here is known to make numbers differ" in done.output
    assert max(map(len, done.output.splitlines())) <= 80
    findings = json.loads(path.read_text())
    assert findings == [finding._asdict() for finding in examine(SOUND)]
    for finding in findings:
        assert finding["name"] in done.output and finding["value"] in done.output
    monkeypatch.setenv("COLUMNS", "5")
    assert show(monkeypatch, SOUND).output == done.output


def test_the_command_on_a_machine_that_differs(monkeypatch):
    flags = "--xla_cpu_enable_fast_math=true --xla_gpu_ftz=true --xla_gpu_other=true"
    devices = ("a device with a rather long name, [bold] and more",)
    done = show(monkeypatch, change(xla_flags=flags, devices=devices))
    assert done.exit_code == 1, done.output
    assert max(map(len, done.output.splitlines())) <= 80
    text = " ".join(done.output.split())
    assert "XLA_FLAGS: Take xla_cpu_enable_fast_math, xla_gpu_ftz out" in text and "[bold]" in text
    assert "JAX's devices: Sums were compared" in text and "Nothing here" not in text
    done = show(monkeypatch, change(devices=devices))
    assert done.exit_code == 0 and "Sums were compared" in done.output, "unknown is no failure"


def test_findings_that_cannot_be_saved_are_saved_elsewhere(monkeypatch, tmp_path):
    """The place was free before the work, and is taken afterwards."""
    path = tmp_path / "findings.json"
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(doctor, "look", lambda: (path.mkdir(), SOUND)[1])
    done = call("doctor", "--json", str(path))
    assert done.exit_code == 2 and "Nothing here is known" in done.stdout, done.output
    said = f"Error: {path} could not be written (Is a directory): saved as "
    assert done.stderr.startswith(said) and done.stderr.count("\n") == 1
    findings = json.loads(Path(done.stderr.removeprefix(said).split()[0]).read_text())
    assert [finding["name"] for finding in findings] == [f.name for f in examine(SOUND)]


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
    done = call("doctor")
    assert done.exit_code == 2 and message in " ".join(done.output.split())
