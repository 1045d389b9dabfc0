"""Every test runs with rank promotion refused, warnings as errors and annotations checked."""

import jax
import pytest


@pytest.fixture(autouse=True, scope="session")
def refuse_rank_promotion():
    """Shapes that match only by silently added axes are errors in the tests."""
    jax.config.update("jax_numpy_rank_promotion", "raise")
