"""The judge alone: what an element is held against, and what is remembered of rounding."""

import numpy as np
import pytest

from jaxnet.certificate.bounds import EPS, View
from jaxnet.certificate.comparison import Diverged, Judge


def view_of(exact, spread=None, size=None):
    exact = np.asarray(exact, np.float64)
    size = np.abs(exact) if size is None else np.asarray(size, np.float64)
    return View(exact, None if spread is None else np.asarray(spread), size)


def test_the_judge():
    judge = Judge()
    torchs = np.array([1.0, 2.0 + 2e-7])
    judge.floats("loss", "loss", np.array([1.0, 2.0 - 4e-7]), torchs, view_of([1.0, 2.0]))
    assert judge.stages["loss"].share < 1 and judge.checked["loss"] == 2
    for wrong in ([1.0, 2.0 + 4e-5], [np.nan, 2.0], [np.inf, 2.0]):
        with pytest.raises(Diverged) as caught:
            judge.floats("loss", "loss", np.array(wrong), torchs, view_of([1.0, 2.0]))
        assert caught.value.divergence.index == (int(wrong[0] == 1.0),)
    # Where torch is not finite, the port is so too, or is as good as the exact number.
    broken = np.array([np.nan, 1.0])
    judge.floats("loss", "loss", broken, broken, view_of([np.nan, 1.0]))
    judge.floats("loss", "loss", np.ones(2), broken, view_of([1.0, 1.0]))
    with pytest.raises(Diverged):
        judge.floats("loss", "loss", np.array([np.inf, 1.0]), broken, view_of([np.nan, 1.0]))
    with pytest.raises(Diverged) as caught:
        judge.exactly("masks", "1", np.array([True, False]), np.array([True, True]))
    assert caught.value.divergence.index == (1,)
    with pytest.raises(Diverged) as caught:
        judge.exactly("masks", "1", np.zeros(1), -np.zeros(1))
    with pytest.raises(Diverged) as caught:
        judge.exactly("masks", "1", np.zeros((2, 1)), np.zeros((1, 2)))
    assert caught.value.divergence.index is None


def test_an_element_is_held_against_its_own_size():
    """A small one beside a large one, a sum that is 0, and one whose terms are all 0."""
    exact = np.array([1e7, 1.0, 0.0, 0.0])
    view = view_of(exact, size=[1e7, 1.0, 1.0, 0.0])
    for at, gap in enumerate([10.0, 1e-6, 1e-6, 1e-38]):
        judge, near, far = Judge(), exact.copy(), exact.copy()
        near[at] += gap / 100 if at < 3 else 0.0
        judge.floats("outputs", "0", near, exact, view)
        far[at] += gap
        with pytest.raises(Diverged) as caught:
            judge.floats("outputs", "0", far, exact, view)
        assert caught.value.divergence.index == (at,)


def test_what_rounding_was_seen_to_do_is_allowed_and_remembered():
    exact, off = np.ones(2), np.ones(2) + 1e-5
    judge = Judge()
    judge.floats("outputs", "w", off, exact, view_of(exact, spread=[1e-5, 0.0]))
    judge.floats("outputs", "w", off, exact, view_of(exact))
    with pytest.raises(Diverged):
        judge.floats("outputs", "other", off, exact, view_of(exact))
    for _ in range(5):  # and forgotten, where it does so no more
        judge.floats("outputs", "w", exact, exact, view_of(exact, spread=[0.0, 0.0]))
    with pytest.raises(Diverged):
        judge.floats("outputs", "w", off, exact, view_of(exact))


def test_what_rounding_may_make_anything_of_is_not_compared():
    judge, exact = Judge(), np.ones(2)
    compared = judge.floats("gradients", "w", exact, exact, view_of(exact, spread=[0.1, 0.0]))
    assert compared.tolist() == [False, True]
    assert (judge.checked["gradients"], judge.given["gradients"]) == (1, 2)
    judge.floats("gradients", "b", exact + 9, exact, view_of(exact, spread=[0.1, 0.1]))
    assert judge.tensors == {("gradients", "w"): True, ("gradients", "b"): False}
    large = view_of(exact, size=[1e39, 1.0])  # of terms that float32 cannot hold
    overflowed = np.array([np.nan, 1.0])
    assert judge.floats("gradients", "c", overflowed, exact, large).tolist() == [False, True]
    assert EPS == np.finfo(np.float32).eps
