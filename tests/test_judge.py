"""The comparator alone: what an element is held against, and what is remembered of rounding."""

import numpy as np
import pytest

from jaxnet.certificate.bounds import EPS, View
from jaxnet.certificate.comparison import Comparator, Diverged


def view_of(exact, spread=None, size=None):
    exact = np.asarray(exact, np.float64)
    size = np.abs(exact) if size is None else np.asarray(size, np.float64)
    return View(exact, None if spread is None else np.asarray(spread), size)


def test_the_judge():
    comparator = Comparator()
    torchs = np.array([1.0, 2.0 + 2e-7])
    comparator.floats("loss", "loss", np.array([1.0, 2.0 - 4e-7]), torchs, view_of([1.0, 2.0]))
    assert comparator.stages["loss"].share < 1 and comparator.checked["loss"] == 2
    for wrong in ([1.0, 2.0 + 4e-5], [np.nan, 2.0], [np.inf, 2.0]):
        with pytest.raises(Diverged) as caught:
            comparator.floats("loss", "loss", np.array(wrong), torchs, view_of([1.0, 2.0]))
        assert caught.value.divergence.index == (int(wrong[0] == 1.0),)
    # Where torch is not finite, the port is so too, or is as good as the exact number.
    broken = np.array([np.nan, 1.0])
    comparator.floats("loss", "loss", broken, broken, view_of([np.nan, 1.0]))
    comparator.floats("loss", "loss", np.ones(2), broken, view_of([1.0, 1.0]))
    with pytest.raises(Diverged):
        comparator.floats("loss", "loss", np.array([np.inf, 1.0]), broken, view_of([np.nan, 1.0]))
    with pytest.raises(Diverged) as caught:
        comparator.exactly("masks", "1", np.array([True, False]), np.array([True, True]))
    assert caught.value.divergence.index == (1,)
    with pytest.raises(Diverged) as caught:
        comparator.exactly("masks", "1", np.zeros(1), -np.zeros(1))
    with pytest.raises(Diverged) as caught:
        comparator.exactly("masks", "1", np.zeros((2, 1)), np.zeros((1, 2)))
    assert caught.value.divergence.index is None


def test_an_element_is_held_against_its_own_size():
    """A small one beside a large one, a sum that is 0, and one whose terms are all 0."""
    exact = np.array([1e7, 1.0, 0.0, 0.0])
    view = view_of(exact, size=[1e7, 1.0, 1.0, 0.0])
    for at, gap in enumerate([10.0, 1e-6, 1e-6, 1e-38]):
        comparator, near, far = Comparator(), exact.copy(), exact.copy()
        near[at] += gap / 100 if at < 3 else 0.0
        comparator.floats("outputs", "0", near, exact, view)
        far[at] += gap
        with pytest.raises(Diverged) as caught:
            comparator.floats("outputs", "0", far, exact, view)
        assert caught.value.divergence.index == (at,)


def test_what_rounding_was_seen_to_do_is_allowed_and_remembered():
    exact, off = np.ones(2), np.ones(2) + 1e-5
    comparator = Comparator()
    comparator.floats("outputs", "w", off, exact, view_of(exact, spread=[1e-5, 0.0]))
    comparator.floats("outputs", "w", off, exact, view_of(exact))
    with pytest.raises(Diverged):
        comparator.floats("outputs", "other", off, exact, view_of(exact))
    for _ in range(5):  # and forgotten, where it does so no more
        comparator.floats("outputs", "w", exact, exact, view_of(exact, spread=[0.0, 0.0]))
    with pytest.raises(Diverged):
        comparator.floats("outputs", "w", off, exact, view_of(exact))


def test_what_rounding_may_make_anything_of_is_not_compared():
    comparator, exact = Comparator(), np.ones(2)
    compared = comparator.floats("gradients", "w", exact, exact, view_of(exact, spread=[0.1, 0.0]))
    assert compared.tolist() == [False, True]
    assert (comparator.checked["gradients"], comparator.given["gradients"]) == (1, 2)
    comparator.floats("gradients", "b", exact + 9, exact, view_of(exact, spread=[0.1, 0.1]))
    assert comparator.tensors == {("gradients", "w"): True, ("gradients", "b"): False}
    large = view_of(exact, size=[1e39, 1.0])  # of terms that float32 cannot hold
    overflowed = np.array([np.nan, 1.0])
    assert comparator.floats("gradients", "c", overflowed, exact, large).tolist() == [False, True]
    assert EPS == np.finfo(np.float32).eps
