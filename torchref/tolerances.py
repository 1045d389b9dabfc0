"""The tolerances of tests: each is named by the claim that it supports, with its reason.

The bounds of certificates stand in `jaxnet.certificate.bounds`.

`eps` is float32's machine epsilon, 2**-23 (1.19e-7). A bound is `rtol * |reference| + atol`,
element by element, unless its comment says otherwise.
"""

from typing import NamedTuple

EPS = 2.0**-23


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
REFEREE_RATIO = 1.5

# The loss of any step of a whole run of the lecture, whose rounding errors feed on each other.
# Measured: at most 3.6e-7.
TRAJECTORY = Tolerance(rtol=1e-6, atol=0.0)

# The same for a run that learns its few rows by heart: the loss of a row comes to 0.05 from
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
