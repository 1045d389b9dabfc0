"""Every tolerance, with its reason: a certificate's bounds first, those of tests after them.

A certificate: every number of a torch run has an exact value, in float64, and a size: the sum of
the absolute values of the terms that make it, which is what rounding works on. An error is measured
in `EPS` times that size. What it may be is learned from the run itself: `DRAWN` times the largest
error that rounding was seen to make of the tensor, by torch and in some draws of the reference, and
`FLOORS` beside that.

Tests: each `Tolerance` is named by the claim that it supports. A bound is `rtol * |reference| +
atol`, element by element, unless its comment says otherwise.

`EPS` is float32's machine epsilon, 2**-23 (1.19e-7).
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
"""The same for the run with the differences that a port was granted, which it should follow; and
for the further runs that are made where a port's own run left its bounds."""

DECIDED = 1e-2
"""An element is kept fixed in whole runs where rounding decides more than this share of its steps:
a full step of Adam's may depend on the sign of what rounding leaves of a gradient that is 0."""

RUN_LOSS = 1e-6
RUN_WEIGHTS = 1e-4

FEW, LONE = 1e-2, 1e-3
"""So many of a tensor's last weights may be off by so much of how far training moved them: a ReLU
that chooses otherwise in one row changes the steps of weights that depend on this row alone."""

GROWN = 1e-3
"""The share of a loss that rounding grows to; from that step on, losses are not compared."""

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


class Tolerance(NamedTuple):
    """Two numbers agree when `|actual - expected| <= atol + rtol * |expected|`."""

    rtol: float
    atol: float


# One elementwise function of float32 numbers: libm's and XLA's exp, log and log1p each err by a
# few ulp, and a loss chains two or three of them.
ELEMENTWISE = Tolerance(rtol=16 * EPS, atol=4 * EPS)

# The same where the result is far below 1: no absolute part, or a 0 would pass for 1e-9.
ELEMENTWISE_RELATIVE = Tolerance(rtol=ELEMENTWISE.rtol, atol=0.0)

# A float64 run of the same formula on both sides: some 50 ulp of float64.
FLOAT64 = Tolerance(rtol=1e-14, atol=0.0)


def half_precision(eps: float) -> Tolerance:
    """float16 and bfloat16, of this `eps`: a loss rounds its few intermediate results to them."""
    return Tolerance(rtol=4 * eps, atol=4 * eps)


# A sum over n terms accumulated in another order: the expected gap grows like sqrt(n) ulp of the
# largest partial sum. The largest sums compared in one step have 12,665 terms (about 113 ulp);
# terms cancel, so the bound is absolute beside relative.
REDUCTION = Tolerance(rtol=64 * EPS, atol=8 * EPS)

# jaxnet's error against a float64 run, as a multiple of torch's own in float32, over a whole run of
# the lecture: largest and root mean square. Measured: at most 1.2.
FLOAT64_RATIO = 1.5

# The loss of any step of a whole run of the lecture, whose rounding errors feed on each other.
# Measured: at most 3.6e-7.
TRAJECTORY = Tolerance(rtol=1e-6, atol=0.0)

# The same for a run that memorizes its few rows: the loss of a row comes to 0.05 from
# outputs near 3, whose roundings do not shrink with it. Measured: 4.9e-8 in a loss of 0.047.
SMALL_LOSSES = Tolerance(rtol=1e-6, atol=1e-7)

# The same with both sides in float64. Measured: 8e-15.
TRAJECTORY_FLOAT64 = Tolerance(rtol=1e-12, atol=0.0)

# How far from a decision (a probability from 1/2, a logit from 0, two logits from each other) a row
# may lie in float64 for float32's rounding to decide it, after a whole run. Measured among rows
# near a decision: 2.5e-7 in a probability, 7.5e-7 in a logit, 4.4e-6 in a difference of two.
PREDICTION_MARGIN = Tolerance(rtol=0.0, atol=1e-5)

# The weights at the end of a run, relative to how far training moved the tensor's weights: under
# Adam a gradient within rounding of zero still moves its weight, so this is no tighter.
# Measured: 5.6e-7 with SGD, 2.6e-5 with Adam.
FINAL_WEIGHTS = Tolerance(rtol=1e-4, atol=0.0)

# One optimizer's update against torch's from the same gradients, relative to the step itself with
# no absolute part (an Adam step of a gradient of 1e-15 is 1e-10): some ten float32 operations, and
# the coefficients 0.999 and 0.001, which float32 rounds, in torch too. Measured: 6.5 ulp.
STEP = Tolerance(rtol=12 * EPS, atol=0.0)

# An optimizer's formula in float64, where only the roundings of the weights are left, relative to
# which the steps are small.
SAME_FORMULA_FLOAT64 = Tolerance(rtol=1e-10, atol=1e-14)

# What a change of the code must change some number by, relative to the largest of its tensor, for
# a certificate to be bound to see it. Measured among the mutants that survive: at most 5e-7.
VISIBLE = 1e-4

# A ported net's outputs, gradients and buffers beside torch's own, relative to the largest number
# of the tensor (of gradients, of all of them): some hundred float32 operations, summed in other
# orders. Measured: at most 6e-7.
PORTED = 64 * EPS

# The same of gradients and buffers of nets of many layers, whose roundings feed on each other: a
# ReLU of torch's own takes the other side after a step of an ulp. Measured: at most 1.4e-5.
PORTED_DEEP = 1e-3

# The same with both sides in float64. Measured: at most 3e-9.
PORTED_FLOAT64 = 1e-8

# A rule of a torch graph in float64, as a share of its largest element, at least 1: sums of some
# hundred terms in another order, and functions that err by a few ulp.
RULE_FLOAT64 = Tolerance(rtol=1e-13, atol=0.0)

# A rule in float32, as a multiple of what torch's own float32 is off the float64 reference, and of
# an ulp of the largest element.
RULE_FLOAT32 = Tolerance(rtol=8.0, atol=0.0)
