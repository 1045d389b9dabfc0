"""How far a port's number may lie from the exact one: the certificate's bounds, and their reasons.

Every number of a torch run has an exact value, in float64, and a size: the sum of the absolute
values of the terms that make it, which is what rounding works on. An error is measured in `EPS`
times that size. What it may be is learnt from the run itself: `DRAWN` times the largest error that
rounding was seen to make of the tensor, by torch and in some draws of the reference, and `FLOORS`
beside that.
"""

from typing import Any, NamedTuple

EPS = 2.0**-23

DRAWN = 8.0
"""The largest of a few draws and of torch's own errors is short of the largest that there may be,
and the port sums in another order than torch. Measured among random nets: at most 3."""

FLOORS = {"outputs": 4.0, "update": 32.0}
"""In `EPS` times the size. An update's is that of some ten operations, whose averages have taken in
the roundings of earlier steps: sqrt(1000) of them, where a moment lasts for a thousand steps, and
the root of the steps so far beside that, for a moment that only fades. The others' is that of one
operation."""

SUM = 0.1
"""What each of n terms of a sum is rounded by in a draw, as a share of `EPS` times sqrt(n) times
its size: partial sums grow with the number of terms. Of float32's own sums, up to a
million terms: see `tests/test_reference.py`."""

LEFT = 2.0**-13
"""The share of its terms below which a number may be what rounding left of them."""

NEAR = 4.0
"""A number is within rounding of a kink where it lies this many times as far from it as a draw was
seen to move a number of the tensor, relative to its size."""

MOST = 64
"""Kinks within rounding that are tried, a backward pass each."""

LIMIT = 1e-3
"""An element is compared where its bound is at most this share of its size."""

GROSS = 1e4
"""How many times what rounding was seen to do an element may be off that is not compared."""

MEMORY = 0.5
"""How much of what rounding did to a tensor is expected of it again, at least."""

SMALLEST = 2.0**-126 / EPS
"""A size below which float32's numbers lose digits, and XLA takes them for 0."""

RUN = 32.0
"""A whole run may lie this many times as far from torch's as torch's own run, begun from weights
and rows that were moved by an ulp; beside `RUN_LOSS` of a loss, and `RUN_WEIGHTS` of how far a
tensor's weights were moved by training."""

GRANTED = 8.0
"""The same for the run with the differences that a port was granted: it should follow that one."""

DECIDED = 1e-2
"""An element is held still in whole runs where rounding decides more than this share of its steps:
a whole step of Adam's may hang on the sign of what rounding leaves of a gradient that is 0."""

RUN_LOSS = 1e-6
RUN_WEIGHTS = 1e-4

FEW, LONE = 1e-2, 1e-3
"""So many of a tensor's last weights may be off by so much of how far training moved them: a ReLU
that stands otherwise in one row changes the steps of weights that hang on this row alone."""

CHAOS = 1e-3
"""The share of a loss by which those runs differ, from which on rounding decides the whole run."""

TOLD = 0.1
"""A loss of a whole run counts as compared where its bound is at most this share of it, and its
last weights where theirs is at most this share of how far training moved their tensor."""

OTHER_NORMALS = 32 * EPS
"""Standard normal numbers of torch's kernels without AVX2 may lie so far from those with it, which
are jaxnet's: other logarithms, sines and cosines. Measured on x86: 20 EPS among 8 million."""


Numbers = Any
"""A NumPy array, or the scalar that NumPy makes of one without axes."""


class View(NamedTuple):
    """A tensor as the reference has it."""

    exact: Numbers
    spread: Numbers | None
    """The largest distance of a draw; None where none was drawn."""
    size: Numbers
    """The sum of the absolute values of its terms."""
