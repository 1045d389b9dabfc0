"""This machine as it is found: versions, settings, and what it measures and draws."""

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
from jaxnet._utils.digests import digest_array
from jaxnet.nn import Linear

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "torch")

# `digest_array`, its first 16 digits, of what torch 2.15 gives on x86 with AVX2, each draw right
# after torch.manual_seed(1): dropout(ones(2000), 0.9) != 0, randperm(1000, dtype=int32),
# empty(1000).uniform_(0.1, 0.7), empty(1000).normal_(), empty(15).normal_().
KNOWN_DRAWS = {
    "dropout masks": "932e9e627b21d22c",
    "permutations": "12ad4193b8955550",
    "uniform": "b5be7905a6b9361b",
    "normal": "8f0229e2ef35d108",
    "normal, fewer than 16": "fa4a73d614bec6e8",
}


@dataclass(frozen=True)
class Facts:
    """A machine as it was found; `dataclasses.replace` puts another in its place."""

    versions: Mapping[str, str | None]
    """Of each of `PACKAGES`, None where it is not installed."""
    settings: Mapping[str, Any]
    xla_flags: str
    devices: tuple[str, ...]
    """What kind each of JAX's devices is."""
    machine: str
    """As in `platform.machine()`."""
    features: frozenset[str]
    """What an x86 processor can, by its names in /proc/cpuinfo; none where nothing tells."""
    torch_kernels: str | None
    """As in `torch.backends.cpu.get_cpu_capability()`; None where torch does not say it."""
    product_error: float
    """Of `Linear`, relative to the largest element."""
    draws: Mapping[str, str]


def look() -> Facts:
    """Read and measure this machine; compiles a few small programs.

    Where torch is installed, a process of its own imports it.
    """
    versions = {name: _read_version(name) for name in PACKAGES}
    names = ("jax_default_matmul_precision", "jax_enable_x64")
    return Facts(
        versions=versions,
        settings={name: getattr(jax.config, name) for name in names},
        xla_flags=os.environ.get("XLA_FLAGS", ""),
        devices=tuple(device.device_kind for device in jax.devices()),
        machine=platform.machine(),
        features=frozenset(_read_processor().get("flags", "").split()),
        torch_kernels=_ask_torch() if versions["torch"] else None,
        product_error=_measure_product(),
        draws=_draw(),
    )


def _read_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _read_processor() -> dict[str, str]:
    """The fields of /proc/cpuinfo; none where it is not there."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return {}
    fields = (line.split(":", 1) for line in text.splitlines() if ":" in line)
    return {name.strip(): value.strip() for name, value in fields}


@cache
def _ask_torch() -> str | None:
    """Which kernels torch runs here; None if it does not say within a minute."""
    code = "import torch; print(torch.backends.cpu.get_cpu_capability())"
    command = [sys.executable, "-P", "-c", code]  # not a torch.py in this folder
    try:
        said = subprocess.check_output(
            command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True, timeout=60
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return (said.split() or [None])[-1]  # after whatever its import prints


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
    return {name: digest_array(v)[:16] for name, v in zip(KNOWN_DRAWS, values, strict=True)}


def describe() -> dict[str, str]:
    """What a page says of the machine beside its timings: the processor, JAX's device, versions.

    >>> sorted(describe())
    ['device', 'packages', 'processor', 'system']
    """
    device = jax.devices()[0]
    found = {name: _read_version(name) for name in PACKAGES if name != "torch"}
    return {
        "processor": f"{name_processor()}, {count_cores()} cores",
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "device": f"{device.platform}: {device.device_kind}",
        "packages": ", ".join(f"{name} {version}" for name, version in found.items()),
    }


def name_processor() -> str:
    """The processor's name, as the system tells it."""
    fields = _read_processor()
    family = [f"{name} {fields[name]}" for name in ("cpu family", "model") if name in fields]
    return ", ".join([fields.get("model name", platform.machine()), *family])


def count_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
