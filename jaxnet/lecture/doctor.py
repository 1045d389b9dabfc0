"""What on this machine decides whether jaxnet's numbers are torch's."""

import re
from typing import Literal, NamedTuple

from jaxnet.lecture._machine import CAPABILITY, KNOWN_DRAWS, TESTED_FROM, Facts, look

Verdict = Literal["ok", "differs", "unknown"]
_Judged = tuple[str, Verdict, str]
"""A value, the verdict, and the advice."""

_X86 = ("x86_64", "amd64", "i386", "i686")
_ARM = ("arm64", "aarch64")
_FULL = ("highest", "float32", "F32_F32_F32", "F64_F64_F64")
_FAST_MATH = (
    *("xla_cpu_enable_fast_math", "xla_cpu_enable_fast_min_max"),
    *("xla_gpu_enable_fast_min_max", "xla_gpu_ftz"),
)
_HARMLESS = (
    *("xla_dump", "xla_force_host_platform_device_count"),
    *("xla_gpu_deterministic_ops", "xla_gpu_exclude_nondeterministic_ops"),
)
# The measured product errs by 4e-7 in full float32, by 3e-4 in TF32, by 2e-3 in bfloat16.
_PRODUCT_ERROR = 5e-6


class Finding(NamedTuple):
    """One thing that decides numbers."""

    name: str
    value: str
    verdict: Verdict
    """"ok": what jaxnet claims holds; "differs": something that it claims equal is not, or need
    not be; "unknown": it cannot be seen from here."""
    advice: str = ""
    """What to do, in a sentence; empty where there is nothing to do."""


def examine(facts: Facts | None = None) -> tuple[Finding, ...]:
    """Examine a machine: this one, unless facts of another are given.

    torch is never imported here: its version is read from its metadata, another process asks it for
    its kernels, and what a program sets inside torch cannot be seen. It is examined as it would run
    here, on the CPU.

    >>> [finding.name for finding in examine() if finding.name in KNOWN_DRAWS]
    ['dropout masks', 'permutations', 'uniform', 'normal', 'normal, fewer than 16']
    """
    if not isinstance(facts, Facts | None):
        raise TypeError(f"facts must be Facts of a machine, not {type(facts).__name__}")
    facts = look() if facts is None else facts
    return (
        *(Finding(name, *_judge_version(name, facts)) for name in TESTED_FROM),
        *(Finding(name, *judge(facts)) for name, judge in _JUDGES.items()),
        *(Finding(name, *_judge_draw(name, facts)) for name in KNOWN_DRAWS),
    )


def _parse(version: str) -> tuple[int, ...] | None:
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, match[0].split("."))) if match else None


def _judge_version(name: str, facts: Facts) -> _Judged:
    version = facts.versions.get(name)
    if version is None:
        if name in ("torch", "torchvision"):  # equal numbers need none
            return "not installed", "ok", ""
        return "not found", "unknown", f"Install {name} with its metadata."
    parsed, bound = _parse(version), TESTED_FROM[name]
    if parsed is None or parsed < bound:
        oldest = ".".join(map(str, bound))
        return version, "unknown", f"Upgrade {name}: jaxnet is tested with {oldest} and newer."
    return version, "ok", ""


def _judge_torch_masks(facts: Facts) -> _Judged:
    version = facts.versions.get("torch")
    if version is None:
        return "mt19937, from torch 2.7 on", "ok", ""
    if (parsed := _parse(version)) is None:
        return f"torch {version}", "unknown", "Install a release of torch."
    if parsed < (2, 7) and facts.machine.lower() in _X86:
        advice = "Upgrade torch: before 2.7 its masks on x86 come from MKL, not from mt19937."
        return "MCG31, as torch < 2.7 on x86", "differs", advice
    return "mt19937, as jaxnet's", "ok", ""


def _judge_processor(facts: Facts) -> _Judged:
    machine = facts.machine
    if machine.lower() in _ARM:
        advice = "Expect torch's normal_ to stray by up to 2.3e-6 here; uniform_ and masks agree."
        return f"{machine}: other logarithms in normal_", "differs", advice
    if machine.lower() not in _X86:
        advice = "Compare with torch on x86 with AVX2: its bits on this processor are not known."
        return machine or "not named", "unknown", advice
    if facts.features is None:
        advice = "See that the processor has AVX2 and FMA: without, torch's weights differ."
        return f"{machine}, its features unread", "unknown", advice
    parts = {"avx2": "AVX2", "fma": "FMA", "avx512f": "AVX-512"}
    found = [shown for part, shown in parts.items() if part in facts.features]
    value = f"{machine} with {', '.join(found) or 'none of AVX2, FMA'}"
    if {"avx2", "fma"} <= facts.features:
        return value, "ok", ""
    advice = "Use x86 with AVX2 and FMA: here torch rounds uniform_ twice, and normal_ strays."
    return value, "differs", advice


def _judge_capability(facts: Facts) -> _Judged:
    value = facts.environment.get(CAPABILITY, "")
    if value == "default" and facts.machine.lower() in _X86:
        advice = f"Unset {CAPABILITY}: with it torch rounds uniform_ twice, and normal_ strays."
        return value, "differs", advice
    return value or "unset", "ok", ""  # torch ignores what it does not know


def _judge_kernels(facts: Facts) -> _Judged:
    kernels = facts.torch_kernels
    if facts.versions.get("torch") is None:
        return "not installed", "ok", ""
    if kernels is None:
        advice = "See that python -c 'import torch' works here, within a minute."
        return "torch does not say", "unknown", advice
    if kernels in ("AVX2", "AVX512") or facts.machine.lower() not in _X86:
        return kernels, "ok", ""  # elsewhere the processor says what is known
    advice = "Use x86 with AVX2, without ATEN_CPU_CAPABILITY: these kernels draw other weights."
    return f"{kernels}, not AVX2's", "differs", advice


def _judge_backend(facts: Facts) -> _Judged:
    count, kinds = len(facts.devices), ", ".join(sorted(set(facts.devices)))
    value = f"{facts.backend}, {count} device{'s' * (count != 1)} ({kinds})"
    if facts.backend == "cpu":
        return value, "ok", ""
    advice = "Sums were compared with torch's on a CPU alone: jaxnet lecture --device cpu is that."
    return value, "unknown", advice


def _judge_matmul(facts: Facts) -> _Judged:
    chosen = facts.settings.get("jax_default_matmul_precision")
    if chosen is None:
        return "full float32, jaxnet's choice", "ok", ""
    if chosen in _FULL:
        return f"{chosen}: full float32", "ok", ""
    advice = "Unset jax_default_matmul_precision: net.apply obeys it, though fit does not."
    return str(chosen), "differs", advice


def _judge_tf32(facts: Facts) -> _Judged:
    nvidia = facts.environment.get("NVIDIA_TF32_OVERRIDE")
    torch = facts.versions.get("torch") is not None
    if facts.backend != "gpu":
        return "none without a GPU", "ok", ""
    if nvidia == "0":
        return "off: NVIDIA_TF32_OVERRIDE=0", "ok", ""
    if torch and facts.environment.get("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE") == "1":
        advice = "Unset TORCH_ALLOW_TF32_CUBLAS_OVERRIDE: with it torch multiplies in TF32."
        return "on in torch", "differs", advice
    if nvidia is not None:
        advice = "Unset NVIDIA_TF32_OVERRIDE, or set it to 0, which turns TF32 off everywhere."
        return f"NVIDIA_TF32_OVERRIDE={nvidia}", "unknown", advice
    if torch:
        advice = "Look at torch.backends.cuda.matmul.allow_tf32: it shows in a torch program alone."
        return "off in jaxnet, unseen in torch", "unknown", advice
    return "off in jaxnet", "ok", ""


def _judge_product(facts: Facts) -> _Judged:
    value = f"error {facts.product_error:.0e}"
    if facts.product_error <= _PRODUCT_ERROR:
        return f"{value}: full float32", "ok", ""
    advice = "Look at matmul precision, TF32 and XLA_FLAGS: products here lose digits."
    return value, "differs", advice


def _judge_x64(facts: Facts) -> _Judged:
    if not facts.settings.get("jax_enable_x64"):
        return "off", "ok", ""
    advice = "Unset jax_enable_x64: outside fit it turns some of the arithmetic to float64."
    return "on", "differs", advice


def _judge_keys(facts: Facts) -> _Judged:
    kind = str(facts.settings.get("jax_default_prng_impl"))
    partitionable = bool(facts.settings.get("jax_threefry_partitionable"))
    value = kind + ", partitionable" * partitionable
    if kind == "threefry2x32" and partitionable:
        return value, "ok", ""
    advice = "Restore JAX's defaults: a jax.random.key gives other numbers here; torch's stay."
    return value, "differs", advice


def _judge_xla_flags(facts: Facts) -> _Judged:
    flags = facts.environment.get("XLA_FLAGS", "").split()
    split = [flag.lstrip("-").partition("=") for flag in flags]
    off = ("false", "0")
    if fast := [name for name, _, on in split if name in _FAST_MATH and on.lower() not in off]:
        advice = f"Take {', '.join(fast)} out of XLA_FLAGS: arithmetic is no longer IEEE's."
        return ", ".join(fast), "differs", advice
    if others := [name for name, *_ in split if not name.startswith((*_HARMLESS, *_FAST_MATH))]:
        return ", ".join(others), "unknown", "See that none of these flags changes arithmetic."
    return "none that changes numbers", "ok", ""


def _judge_subnormals(facts: Facts) -> _Judged:
    # No claim reaches below 1.2e-38, where XLA's CPU backend always flushes: ok either way.
    value = "kept, as in torch" if facts.keeps_subnormals else "taken for 0, kept in torch"
    return value, "ok", ""


def _judge_draw(name: str, facts: Facts) -> _Judged:
    if facts.draws.get(name) == KNOWN_DRAWS[name]:
        return "drawn here: torch's bits", "ok", ""
    advice = "Report this with the output of jaxnet doctor --json: the draw is not torch's."
    return "drawn here: other bits", "differs", advice


_JUDGES = {
    "torch's masks": _judge_torch_masks,
    "processor": _judge_processor,
    CAPABILITY: _judge_capability,
    "torch's kernels": _judge_kernels,
    "JAX's backend": _judge_backend,
    "matmul precision": _judge_matmul,
    "TF32": _judge_tf32,
    "a product, measured": _judge_product,
    "jax_enable_x64": _judge_x64,
    "JAX's own keys": _judge_keys,
    "XLA_FLAGS": _judge_xla_flags,
    "below 1.2e-38": _judge_subnormals,
}
