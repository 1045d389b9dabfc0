"""A comparison as a certificate: what was compared, on what, and where the two first part."""

import hashlib
import platform
from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import Any

import jax
import numpy as np
import torch

import jaxnet
from jaxnet import precision
from jaxnet.certificate import STAGES, Certificate, Divergence
from jaxnet.certificate.causes import Diverged
from jaxnet.certificate.comparison import Comparator
from torchref.comparison import Comparison
from torchref.construction import Drawn
from torchref.names import leaves
from torchref.plan import FORWARD, Plan
from torchref.reference.updates import describe_decay
from torchref.steps import Named, copy_named
from torchref.timing import time_steps


def compare_all(
    comparison: Comparison, drawn: Mapping[str, Drawn], settings: dict[str, Any], time: bool
) -> Certificate:
    """Run a comparison to its end, or to the first divergence; torch's objects are put back.

    `drawn` are initial weights that jaxnet drew too, by torch's names. `time` also times a training
    step, which a `ValueError` says there is none of without loss and optimizer.
    """
    if time and comparison.plan.scope:
        raise ValueError(f"time=True times a training step, and the run is {comparison.plan.scope}")
    divergence, digests = _run(comparison, drawn)
    losses = np.array(comparison.losses)
    return Certificate(
        divergence=divergence,
        **_describe_compared(comparison),
        **_describe_whole_run(comparison),
        steps=len(losses),
        losses=losses,
        gaps=relative_gaps(comparison.seen_losses, losses),
        overflowed=comparison.overflowed,
        granted=comparison.update.decay | comparison.update.granted,
        kinks=comparison.kinks,
        settings=settings,
        digests=digests,
        machine=describe_machine(),
        timing=time_steps(comparison) if time and divergence is None else None,
    )


def _run(
    comparison: Comparison, drawn: Mapping[str, Drawn]
) -> tuple[Divergence | None, dict[str, str]]:
    """The first divergence, and the digests of all weights."""
    net, divergence = comparison.plan.net, None
    first = copy_named(net.named_parameters())
    try:
        # What torch's kernels explain comes last, so that it hides nothing that they do not.
        for name, tensor in sorted(drawn.items(), key=lambda item: len(item[1].causes)):
            comparison.comparator.exactly("initial weights", name, *tensor)
        comparison.run()
    except Diverged as diverged:
        divergence = diverged.divergence
    finally:
        last = copy_named(net.named_parameters())
        comparison.begun.restore()
    whole = comparison.whole.last
    return divergence, {
        "torch, first": digest(first),
        "torch, last": digest(last),
        "jax, first": digest(comparison.first),
        "jax, last": "not run" if whole is None else digest(whole),
    }


def _describe_compared(comparison: Comparison) -> dict[str, Any]:
    """What was compared at each stage, in their order, and what at no step."""
    comparator = comparison.comparator
    tables = {part: getattr(comparator, part) for part in ("stages", "checked", "given")}
    return {
        "missing": tuple(_list_uncompared(comparator, asked=True)),
        "uncompared": tuple(_list_uncompared(comparator, asked=False)),
        "matches": tuple(f"{path}: {how}" for path, how in comparison.matches.items()),
        "unseen": tuple(comparison.unseen),
        **{part: {n: table[n] for n in STAGES if n in table} for part, table in tables.items()},
    }


def _describe_whole_run(comparison: Comparison) -> dict[str, Any]:
    whole, steps = comparison.whole, len(comparison.losses)
    noise = {name: int(mask.sum()) for name, mask in whole.still.items()}
    parameters = comparison.plan.net.parameters()
    return {
        "run_gaps": relative_gaps(whole.losses, whole.own),
        "chaos": steps if whole.chaos is None else whole.chaos,
        "noise": (sum(noise.values()), sum(p.numel() for p in parameters)),
        "noise_by_tensor": noise,
    }


_ASKED = ("outputs", "loss", "gradients", "update")
_GROWN = "rounding grows to 1e-3 of torch's own loss in its first step: a smaller rate, or float64"


def _is_asked(stage: str, name: str) -> bool:
    """Whether a certificate without this says too little: of a whole run, the losses."""
    return stage in _ASKED or (stage, name) == ("whole run", "loss")


def _list_uncompared(comparator: Comparator, asked: bool) -> Iterator[str]:
    """What was compared at no step, and why: what the call asked for, or the rest."""
    for (stage, name), compared in comparator.tensors.items():
        if not compared and _is_asked(stage, name) == asked:
            yield f"{stage} of {name}: {comparator.why.get((stage, name)) or _GROWN}"


def digest(named: Named) -> str:
    """SHA-256 over the names and bytes of named arrays, in the order of the names."""
    seen = hashlib.sha256()
    for name in sorted(named):
        seen.update(name.encode() + np.ascontiguousarray(named[name]).tobytes())
    return seen.hexdigest()


def describe_run(plan: Plan, loss: Any, port: Any, seed: int) -> dict[str, Any]:
    """What was certified, as a certificate says it."""
    named = loss[0] if isinstance(loss, tuple) else loss
    name = getattr(named, "__name__", type(named).__name__)
    return {
        "scope": plan.scope or None,
        "decay": describe_decay(plan.optimizer),
        "net": type(plan.net).__name__,
        "layers": len(leaves(plan.net)),
        "parameters": sum(parameter.numel() for parameter in plan.net.parameters()),
        "loss": None if plan.scope == FORWARD else name,
        "optimizer": None if plan.scope else type(plan.optimizer).__name__,
        "scheduler": None if plan.scheduler is None else type(plan.scheduler).__name__,
        "scheduler_interval": None if plan.scheduler is None else plan.interval,
        "dropout": None if plan.dropout == "torch" else plan.dropout,
        "port": "jaxnet.convert" if port is None else "the caller's",
        "rows": plan.data.num_examples,
        "epochs": plan.epochs,
        "batch_size": plan.batch_size,
        "shuffle": plan.shuffle,
        "seed": seed,
    }


def describe_machine() -> dict[str, str]:
    """Versions, platform and precision of a comparison."""
    versions = {
        name: metadata.version(name) for name in ("jax", "jaxlib", "flax", "optax", "numpy")
    }
    return {
        "jaxnet": jaxnet.__version__,
        "torch": torch.__version__,
        **versions,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": torch.backends.cpu.get_cpu_capability(),
        "backend": jax.default_backend(),
        "precision": f"parity ({precision.MEANINGS['parity']})",
    }


def relative_gaps(ours: Any, torchs: Any) -> np.ndarray:
    """|a - b| / |b|, 0 where both are the same."""
    a, b = np.asarray(ours, np.float64), np.asarray(torchs, np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        return np.where(same, 0.0, np.abs(a - b) / np.maximum(np.abs(b), 1e-30))
