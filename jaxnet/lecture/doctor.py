"""What on this machine decides whether jaxnet's numbers are torch's."""

import re
from typing import Literal, NamedTuple

from jaxnet.lecture._machine import KNOWN_DRAWS, Facts, look

Verdict = Literal["ok", "differs", "unknown"]
_Judged = tuple[str, Verdict, str]
"""A value, the verdict, and the advice."""

_X86 = ("x86_64", "amd64", "i386", "i686")
# JAX's settings: the values under which numbers are torch's, and what others do outside `fit`.
_SETTINGS = {
    "jax_default_matmul_precision": ((None, "highest", "float32"), "net.apply obeys it"),
    "jax_enable_x64": ((False,), "it turns some of the arithmetic to float64"),
}
_HARMLESS = (
    *("xla_dump", "xla_force_host_platform_device_count"),
    *("xla_gpu_deterministic_ops", "xla_gpu_exclude_nondeterministic_ops"),
)
_FAST_MATH = re.compile("fast_m|ftz")
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

    >>> [*KNOWN_DRAWS]  # among the names of what `examine()` finds
    ['dropout masks', 'permutations', 'uniform', 'normal', 'normal, fewer than 16']
    """
    if not isinstance(facts, Facts | None):
        raise TypeError(f"facts must be Facts of a machine, not {type(facts).__name__}")
    facts = look() if facts is None else facts
    judged: dict[str, _Judged] = {name: (str(v), "ok", "") for name, v in facts.versions.items()}
    judged |= {name: judge(facts) for name, judge in _JUDGES.items()}
    judged |= {name: _judge_setting(name, facts) for name in _SETTINGS}
    judged |= {name: _judge_draw(name, facts) for name in KNOWN_DRAWS}
    return tuple(Finding(name, *judgment) for name, judgment in judged.items())


def _judge_torch(facts: Facts) -> _Judged:
    version = facts.versions["torch"]
    if version is None:  # equal numbers need none
        return "not installed", "ok", ""
    parsed = tuple(map(int, re.findall(r"\d+", version)[:2]))
    if parsed >= (2, 11):
        return version, "ok", ""
    advice = "Upgrade torch: jaxnet is tested with 2.11 and newer; before 2.7 masks are others."
    return version, "differs" if () < parsed < (2, 7) else "unknown", advice


def _judge_processor(facts: Facts) -> _Judged:
    machine = facts.machine
    if machine.lower() not in _X86:
        advice = "Compare with torch on x86 with AVX2: on ARM its normal_ strays by up to 2.3e-6."
        return machine or "not named", "differs", advice
    parts = {"avx2": "AVX2", "fma": "FMA", "avx512f": "AVX-512"}
    found = [shown for part, shown in parts.items() if part in facts.features]
    seen = "none of AVX2, FMA" if facts.features else "features unread"
    value = f"{machine} with {', '.join(found) or seen}"
    if {"avx2", "fma"} <= facts.features:
        return value, "ok", ""
    advice = "Use x86 with AVX2 and FMA: without, torch rounds uniform_ twice, and normal_ strays."
    return value, "differs" if facts.features else "unknown", advice


def _judge_kernels(facts: Facts) -> _Judged:
    kernels = facts.torch_kernels
    if facts.versions["torch"] is None:
        return "not installed", "ok", ""
    if kernels is None:
        advice = "See that python -c 'import torch' works here, within a minute."
        return "torch does not say", "unknown", advice
    if kernels in ("AVX2", "AVX512") or facts.machine.lower() not in _X86:
        return kernels, "ok", ""  # elsewhere the processor says what is known
    advice = "Use x86 with AVX2, without ATEN_CPU_CAPABILITY: these kernels draw other weights."
    return f"{kernels}, not AVX2's", "differs", advice


def _judge_devices(facts: Facts) -> _Judged:
    kinds = sorted(set(facts.devices))
    value = f"{len(facts.devices)} x {', '.join(kinds)}"
    if kinds == ["cpu"]:
        return value, "ok", ""
    advice = "Sums were compared with torch's on a CPU alone, and torch may multiply in TF32 here:"
    return value, "unknown", f"{advice} jaxnet lecture --device cpu is what was compared."


def _judge_setting(name: str, facts: Facts) -> _Judged:
    (allowed, does), value = _SETTINGS[name], facts.settings[name]
    verdict = "ok" if value in allowed else "differs"
    advice = "" if value in allowed else f"Unset {name}: outside fit {does}."
    return str(value or "unset"), verdict, advice


def _judge_product(facts: Facts) -> _Judged:
    value = f"error {facts.product_error:.0e}"
    if facts.product_error <= _PRODUCT_ERROR:
        return f"{value}: full float32", "ok", ""
    advice = "Look at matmul precision, TF32 and XLA_FLAGS: products here lose digits."
    return value, "differs", advice


def _judge_xla_flags(facts: Facts) -> _Judged:
    split = [flag.lstrip("-").partition("=") for flag in facts.xla_flags.split()]
    fast = {name: value for name, _, value in split if _FAST_MATH.search(name)}
    if on := [name for name, value in fast.items() if value.lower() not in ("false", "0")]:
        advice = f"Take {', '.join(on)} out of XLA_FLAGS: arithmetic is no longer IEEE's."
        return ", ".join(on), "differs", advice
    if others := [name for name, *_ in split if not name.startswith((*_HARMLESS, *fast))]:
        return ", ".join(others), "unknown", "See that none of these flags changes arithmetic."
    return "none that changes numbers", "ok", ""


def _judge_draw(name: str, facts: Facts) -> _Judged:
    if facts.draws.get(name) == KNOWN_DRAWS[name]:
        return "drawn here: torch's bits", "ok", ""
    advice = "Report this with the output of jaxnet doctor --json: the draw is not torch's."
    return "drawn here: other bits", "differs", advice


_JUDGES = {
    "torch": _judge_torch,
    "processor": _judge_processor,
    "torch's kernels": _judge_kernels,
    "JAX's devices": _judge_devices,
    "a product, measured": _judge_product,
    "XLA_FLAGS": _judge_xla_flags,
}
