"""float32 arithmetic rounded as torch's compiled code rounds it, in NumPy."""

import numpy as np


def fused_multiply_add(x, y, z) -> np.ndarray:
    """`x * y + z` of finite float32 numbers, rounded once, as the processor's FMA rounds it.

    A product of two float32 numbers is exact in float64; their sum with a third is rounded to odd
    there, after which rounding to float32 cannot fall on the wrong side of a tie.
    """
    product = np.asarray(x, np.float64) * np.asarray(y, np.float64)
    z = np.asarray(z, np.float64)
    total = np.asarray(product + z)
    back = total - product
    error = (product - (total - back)) + (z - back)
    inexact_even = (error != 0) & (total.view(np.uint64) & 1 == 0)
    odd = np.nextafter(total, np.copysign(np.inf, error))
    return np.where(inexact_even, odd, total).astype(np.float32)
