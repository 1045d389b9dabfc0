"""The result of comparing a torch run with its port."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnet.certificate.causes import Divergence
from jaxnet.certificate.comparison import Stage
from jaxnet.certificate.report import save, write_text


class Timing(NamedTuple):
    """Milliseconds of a training step: medians of rounds in which the contestants take turns.

    A step is forward, loss, backward and the optimizer's update of the run's first batch, with what
    it draws at random.

    >>> timing = Timing({"torch": 3.0, "port": 1.5}, {"port": 2.0}, {"port": 2.0}, 16, 7)
    >>> print(*timing.lines(), sep="\\n")
    A training step of 16 rows, the median of 7 interleaved rounds:
      torch              3 ms
      port             1.5 ms, 2.00 times as fast as torch, after 2 s to compile
    """

    milliseconds: Mapping[str, float]
    """By contestant: "torch", as it was given; "torch.compile"; "port", jitted."""
    speedup: Mapping[str, float]
    """Over torch as it was given: the median of the rounds' own ratios."""
    compile_seconds: Mapping[str, float]
    """What the first step took more than the others."""
    rows: int
    """Of the batch."""
    rounds: int
    machine: str = ""
    """Processor, cores, torch's threads."""
    notes: tuple[str, ...] = ()
    """Why a contestant is missing, and what else kept the machine busy."""

    def lines(self) -> list[str]:
        """As a certificate shows it."""
        said = f"A training step of {self.rows:,} rows, the median of {self.rounds} interleaved"
        lines = [f"{said} rounds:"]
        for name, value in self.milliseconds.items():
            line = f"  {name:<14}{value:>6.3g} ms"
            if name in self.speedup:
                speedup = self.speedup[name]
                line += f", {speedup:.{2 if speedup < 10 else 0}f} times as fast as torch"
            if name in self.compile_seconds:
                line += f", after {self.compile_seconds[name]:.2g} s to compile"
            lines.append(line)
        return lines + [f"  {note}" for note in (self.machine, *self.notes) if note]


class Certificate(NamedTuple):
    """The result of comparing a torch run with its port."""

    divergence: Divergence | None
    """The first place where the runs diverge; None where they do not."""
    missing: tuple[str, ...]
    """What the call asked for that was compared at no step, each with the reason."""
    uncompared: tuple[str, ...]
    """What else was compared at no step, each with the reason."""
    stages: dict[str, Stage]
    """The worst tensor of each stage, in the order in which an error travels."""
    checked: dict[str, int]
    """Numbers compared at each stage."""
    given: dict[str, int]
    """Numbers that there were to compare."""
    steps: int
    """Steps compared, each at every stage."""
    losses: np.ndarray
    """torch's loss at each step."""
    gaps: np.ndarray
    """Each step's relative gap between the losses from equal weights."""
    run_gaps: np.ndarray
    """The same between the two whole runs, each from its own weights; empty if not run."""
    overflowed: int
    """The first step in which torch's loss is not finite; 0 if there is none."""
    chaos: int
    """The step up to which the losses of the whole runs are compared: the last, or the one before
    rounding grows to 1e-3 of torch's own loss."""
    noise: tuple[int, int]
    """Elements whose steps rounding decides, which both whole runs hold where they begin; and all
    elements."""
    noise_by_tensor: dict[str, int]
    """Those elements by parameter."""
    granted: dict[str, float]
    """Known differences, of float32 arithmetic and those of formula that the user grants, by name,
    with the largest share of a step."""
    kinks: int
    """How often the port was on another side of a kink than torch, within rounding."""
    settings: dict[str, Any]
    """Seed, epochs, batch size, classes of net, loss and optimizer."""
    digests: dict[str, str]
    """SHA-256 of the first and the last weights, torch's and the port's."""
    machine: dict[str, str]
    """Versions, platform, precision."""
    matches: tuple[str, ...] = ()
    """By leaf of a user's port, which of torch's tensors it holds, and how that was decided."""
    unseen: tuple[str, ...] = ()
    """torch's layers whose outputs such a port does not compute apart: they are not compared."""
    timing: Timing | None = None
    """What a training step takes on both sides, where that was asked for and they do not part."""

    @property
    def verdict(self) -> str:
        """AGREE, DIVERGE, or UNDECIDED: something that was asked for could not be compared."""
        if self.divergence is not None:
            return "DIVERGE"
        return "UNDECIDED" if self.missing else "AGREE"

    @property
    def agrees(self) -> bool:
        """Whether the verdict is AGREE."""
        return self.verdict == "AGREE"

    def __str__(self) -> str:
        return write_text(self)

    def to_json(self) -> dict[str, Any]:
        """The certificate as JSON has it: infinities and nan are strings."""
        return _plain(
            {
                "verdict": self.verdict,
                "agrees": self.agrees,
                **self._asdict(),
                "divergence": self.divergence and asdict(self.divergence),
                "stages": {name: stage._asdict() for name, stage in self.stages.items()},
                "timing": self.timing and self.timing._asdict(),
            }
        )

    def save(self, path: str | Path) -> Path:
        """Write the certificate as `.html`, `.json` or `.txt`; the file appears whole or not.

        Raises:
          ValueError: the name ends in something else.
        """
        return save(self, Path(path))


def _plain(value: Any) -> Any:
    """Only what JSON knows: arrays are lists, infinities and nan strings."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    return value
