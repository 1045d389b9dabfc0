"""What a training step takes on both sides of a certificate."""

from collections.abc import Mapping
from typing import NamedTuple


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
