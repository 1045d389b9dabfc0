"""Rows of other types than float32, read as they are needed."""

import jax
import numpy as np

import jaxnet
from tests.test_streaming import (
    PLAIN,
    RUN,
    X,
    Y,
    as_mapped,
    as_pair,
    assert_same_run,
    no_thread_stays,
    small_blocks,
)

__all__ = ["no_thread_stays", "small_blocks"]  # fixtures


def test_the_types_of_a_file_may_be_any(tmp_path):
    """Big-endian numbers, half precision, and y alone in a file."""
    options = {**RUN, "epochs": 1}
    for kind in (">f4", "f2"):
        x = X.astype(np.float16).astype(kind)
        found = jaxnet.fit(PLAIN, as_pair(tmp_path, x), **options)
        native = x.astype(x.dtype.newbyteorder("="))
        assert_same_run(found, jaxnet.fit(PLAIN, (native, Y), **options))
    pair = jax.numpy.asarray(X), as_mapped(tmp_path / "y.npy", Y)
    found = jaxnet.fit(PLAIN, pair, **options)
    assert_same_run(found, jaxnet.fit(PLAIN, (X, Y), **options))
