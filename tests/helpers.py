"""The one strict parity helper: shape, dtype, value, and the gradient of every input."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import torch

import jaxnet.random
from torchref.tolerances import ELEMENTWISE, PREDICTION_MARGIN, Tolerance


def to_numpy(array) -> np.ndarray:
    """A copy: arrays are never shared across the border between frameworks."""
    if isinstance(array, torch.Tensor):
        return array.detach().cpu().numpy().copy()
    return np.array(array)


def assert_close(actual, expected, tolerance: Tolerance = ELEMENTWISE, *, where: str = "") -> None:
    """Same shape and dtype, every element within `tolerance`; nan and infinities must match."""
    actual, expected = to_numpy(actual), to_numpy(expected)
    assert actual.shape == expected.shape, f"{where}: shape {actual.shape}, torch {expected.shape}"
    assert actual.dtype == expected.dtype, f"{where}: dtype {actual.dtype}, torch {expected.dtype}"
    np.testing.assert_allclose(
        actual, expected, rtol=tolerance.rtol, atol=tolerance.atol, equal_nan=True, err_msg=where
    )


def assert_same_bits(actual, expected, *, where: str = "") -> None:
    """Same shape, dtype and bits: -0.0 differs from 0.0."""
    actual, expected = to_numpy(actual), to_numpy(expected)
    assert actual.shape == expected.shape, f"{where}: shape {actual.shape}, torch {expected.shape}"
    assert actual.dtype == expected.dtype, f"{where}: dtype {actual.dtype}, torch {expected.dtype}"
    actual, expected = (np.atleast_1d(array).view(np.uint8) for array in (actual, expected))
    differing = np.sum(actual != expected)
    assert differing == 0, f"{where}: {differing} bytes differ"


def assert_same_state(generator: jaxnet.random.Generator) -> None:
    """torch's global CPU generator is in this state, to the last byte."""
    assert_same_bits(jaxnet.random.get_state(generator), torch.get_rng_state(), where="state")


class Enough(Exception):
    """Ends one of `torchref`'s loops from its `watch`: they run as long as the lecture's."""


def list_differing(
    right_jax: np.ndarray, right_torch: np.ndarray, margins: np.ndarray, *, exact: bool
) -> list[int]:
    """Rows that one side gets right and the other wrong: none where they must be `exact`, else
    only rows whose margin to the decision, in float64, is below `PREDICTION_MARGIN`."""
    assert right_jax.shape == right_torch.shape == margins.shape
    rows = np.flatnonzero(right_jax != right_torch)
    far = rows if exact else rows[margins[rows] >= PREDICTION_MARGIN.atol]
    assert len(far) == 0, f"rows {far.tolist()} differ, at margins {margins[far].tolist()}"
    return rows.tolist()


def assert_same_function(
    function_jax: Callable,
    function_torch: Callable,
    inputs: Sequence[np.ndarray],
    *,
    constants: Sequence[np.ndarray] = (),
    tolerance: Tolerance = ELEMENTWISE,
    seed: int = 0,
) -> None:
    """Hold `function(*inputs, *constants)` of the two frameworks side by side, eager and jitted.

    Values are compared, then the gradient of every input, contracted with a random cotangent:
    `.sum()` and `.mean()` would hide errors that cancel.
    """
    leaves = [torch.tensor(value, requires_grad=True) for value in inputs]
    output_torch = function_torch(*leaves, *(torch.tensor(value) for value in constants))
    fixed = tuple(jnp.asarray(value) for value in constants)
    output_jax, pullback = jax.vjp(lambda *xs: function_jax(*xs, *fixed), *map(jnp.asarray, inputs))
    jitted = jax.jit(function_jax)(*map(jnp.asarray, inputs), *fixed)
    assert_close(output_jax, output_torch, tolerance, where="value")
    assert_close(jitted, output_torch, tolerance, where="value under jit")

    shape = tuple(output_torch.shape)
    cotangent = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    output_torch.backward(torch.tensor(cotangent))
    for i, (grad_jax, leaf) in enumerate(
        zip(pullback(jnp.asarray(cotangent)), leaves, strict=True)
    ):
        expected = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        assert_close(grad_jax, expected, tolerance, where=f"gradient of input {i}")
