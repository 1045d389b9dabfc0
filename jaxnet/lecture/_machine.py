"""This machine as it is found: versions, settings, and what it measures and draws."""

import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxnet import random
from jaxnet.nn import Linear

TESTED_FROM = {
    "python": (3, 11),
    "jax": (0, 10),
    "jaxlib": (0, 10),
    "flax": (0, 12),
    "optax": (0, 2, 8),
    "numpy": (2, 0),
    "torch": (2, 11),
    "torchvision": (0, 26),
}
"""The oldest version of each package that jaxnet allows; which were run, docs/claims.md says."""

# SHA-256, its first 16 digits, of what torch 2.15 gives on x86 with AVX2, each draw right after
# torch.manual_seed(1): dropout(ones(2000), 0.9) != 0, randperm(1000, dtype=int32),
# empty(1000).uniform_(0.1, 0.7), empty(1000).normal_(), empty(15).normal_().
KNOWN_DRAWS = {
    "dropout masks": "62e9f57f24147551",
    "permutations": "ff44839a3ee5841b",
    "uniform": "3351d87d14598496",
    "normal": "5107d171dce8fcf8",
    "normal, fewer than 16": "a6c109bc6bf336a6",
}

CAPABILITY = "ATEN_CPU_CAPABILITY"
"""The variable by which torch's kernels are chosen."""

TORCH_SECONDS = 60
"""How long torch may take to say which kernels it runs; importing it takes seconds."""


@dataclass(frozen=True)
class Facts:
    """A machine as it was found; `dataclasses.replace` puts another in its place."""

    versions: Mapping[str, str | None]
    """Of each package in `TESTED_FROM`, None where it is not installed."""
    environment: Mapping[str, str]
    """As in `os.environ`."""
    settings: Mapping[str, Any]
    """Of `jax.config`, by name."""
    backend: str
    """JAX's default one: "cpu", "gpu" or another."""
    devices: tuple[str, ...]
    """What kind each of JAX's devices is."""
    machine: str
    """As in `platform.machine()`."""
    features: frozenset[str] | None
    """What an x86 processor can, by its names in /proc/cpuinfo; None where nothing tells."""
    torch_kernels: str | None
    """As in `torch.backends.cpu.get_cpu_capability()`; None where torch is not there to say it."""
    keeps_subnormals: bool
    """Whether 2 * 1e-39 in a compiled program is not 0."""
    product_error: float
    """Of `Linear`, relative to the largest element."""
    draws: Mapping[str, str]
    """Digests of what jaxnet draws, as in `KNOWN_DRAWS`."""


def look() -> Facts:
    """Read and measure this machine; compiles a few small programs.

    Where torch is installed, a process of its own imports it, once for all questions.
    """
    names = (
        "jax_default_matmul_precision",
        "jax_enable_x64",
        "jax_default_prng_impl",
        "jax_threefry_partitionable",
    )
    twice = jax.jit(lambda x: 2 * x)(np.float32(1e-39))
    versions = {name: _read_version(name) for name in TESTED_FROM}
    return Facts(
        versions=versions,
        environment=dict(os.environ),
        settings={name: getattr(jax.config, name) for name in names},
        backend=jax.default_backend(),
        devices=tuple(device.device_kind for device in jax.devices()),
        machine=platform.machine(),
        features=_read_features(),
        torch_kernels=_ask_torch(os.environ.get(CAPABILITY)) if versions["torch"] else None,
        keeps_subnormals=bool(twice != 0),
        product_error=_measure_product(),
        draws=_draw(),
    )


def _read_version(name: str) -> str | None:
    if name == "python":
        return platform.python_version()
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _read_features() -> frozenset[str] | None:
    try:
        if platform.system() == "Darwin":
            names = ("machdep.cpu.features", "machdep.cpu.leaf7_features")
            text = subprocess.check_output(["sysctl", "-n", *names], text=True)
        else:
            text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
            text = next(line for line in text.splitlines() if line.startswith("flags"))
    except (OSError, subprocess.SubprocessError, StopIteration):
        return None
    return frozenset(text.lower().split())


@cache
def _ask_torch(capability: str | None) -> str | None:
    """Which kernels torch runs where its variable is this, or unset; None if it does not say."""
    chosen = {} if capability is None else {CAPABILITY: capability}
    code = "import torch; print(torch.backends.cpu.get_cpu_capability())"
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", code],  # not a torch.py in this folder
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=os.environ | chosen,
            timeout=TORCH_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    lines = done.stdout.splitlines()
    return lines[-1].strip() or None if lines else None


def _measure_product() -> float:
    x, weight = np.random.default_rng(0).normal(size=(2, 128, 128)).astype(np.float32)
    net = Linear(128, 128, bias=False)
    product = np.asarray(jax.jit(net.apply)({"params": {"weight": weight}}, x), np.float64)
    exact = x.astype(np.float64) @ weight.astype(np.float64).T
    return float(np.abs(product - exact).max() / np.abs(exact).max())


def _draw() -> dict[str, str]:
    """Digests: what works under jit is drawn in a compiled program, on JAX's default device."""
    generator = random.manual_seed(1)
    values = (
        jax.jit(lambda generator: random.dropout_mask(generator, 0.9, (2000,))[1])(generator),
        jax.jit(lambda generator: random.randperm(generator, 1000)[1])(generator),
        random.uniform(generator, (1000,), 0.1, 0.7)[1],
        random.normal(generator, (1000,))[1],
        random.normal(generator, (15,))[1],
    )
    return {name: digest(np.asarray(v)) for name, v in zip(KNOWN_DRAWS, values, strict=True)}


def describe() -> dict[str, str]:
    """What a page says of the machine beside its timings: the processor, JAX's device, versions.

    >>> sorted(describe())
    ['device', 'packages', 'processor', 'system']
    """
    device = jax.devices()[0]
    found = {name: _read_version(name) for name in TESTED_FROM if not name.startswith("torch")}
    return {
        "processor": f"{name_processor()}, {count_cores()} cores",
        "system": f"{platform.system()} {platform.machine()}",
        "device": f"{device.platform}: {device.device_kind}",
        "packages": ", ".join(f"{name} {version}" for name, version in found.items() if version),
    }


def name_processor() -> str:
    """The processor's name, as the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            lines = dict(line.split(":", 1) for line in file if ":" in line)
    except OSError:
        return platform.processor() or platform.machine()
    fields = {name.strip(): value.strip() for name, value in lines.items()}
    family = [f"{name} {fields[name]}" for name in ("cpu family", "model") if name in fields]
    return ", ".join([fields.get("model name", platform.machine()), *family])


def count_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def digest(values: np.ndarray) -> str:
    """Digest of an array's bytes, 16 hexadecimal digits.

    >>> digest(np.zeros(2, np.float32))
    'af5570f5a1810b7a'
    """
    return hashlib.sha256(values.tobytes()).hexdigest()[:16]
