"""Many runs at once, one for each seed and each point of a grid, as lanes of one program."""

from jaxnet.sweep.lanes import Lane
from jaxnet.sweep.result import Sweep, answer
from jaxnet.sweep.run import Interrupted, Progress, run_sweep

__all__ = ["Interrupted", "Lane", "Progress", "Sweep", "answer", "run_sweep"]
