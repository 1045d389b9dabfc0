"""Every mask of the lecture's long runs, and every order of its rows where they are shuffled."""

import pytest

from tests.test_draws import compare_every_step, compare_shuffled, listen_jax, listen_torch

__all__ = ["listen_jax", "listen_torch"]  # fixtures


@pytest.mark.parametrize("name, epochs", [("dropout", 500), ("minibatch", 2)])
def test_every_step_of_the_whole_run(name, epochs, listen_torch, listen_jax):
    """The rows and the masks of every step are torch's, to the last one."""
    steps = compare_every_step(name, epochs, listen_torch, listen_jax)
    assert steps == {"dropout": 500, "minibatch": 1584}[name]


@pytest.mark.parametrize("ahead", [253, 7, 1])
@pytest.mark.parametrize("own", [False, True])
def test_every_step_of_shuffled_epochs(own, ahead, listen_torch, listen_jax, monkeypatch):
    """All of the lecture's rows, two epochs."""
    compare_shuffled(12_665, own, ahead, listen_torch, listen_jax, monkeypatch)
