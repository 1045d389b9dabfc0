"""The result of comparing a torch run with its port."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnet.certificate.comparison import Divergence, Stage
from jaxnet.certificate.report import save, write_text
from jaxnet.certificate.timing import Timing


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
