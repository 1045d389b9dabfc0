"""Checks that several rooms make of what they are given."""

from typing import Any

import jax
import jax.core
import numpy as np

from jaxnet.state import History, TrainState


def check_rows(x: Any, y: Any) -> None:
    """Refuse data whose two arrays do not pair up row by row."""
    if np.ndim(x) == 0 or np.ndim(y) == 0 or len(x) != len(y) or len(x) == 0:
        raise ValueError(
            "data must be (x, y) with the same number of rows, at least one; "
            f"their shapes are {np.shape(x)} and {np.shape(y)}"
        )


def check_devices(**trees: Any) -> None:
    """Refuse arrays that were put on different devices, in one sentence."""
    places: dict[frozenset, str] = {}
    for name, tree in trees.items():
        for leaf in committed_arrays(tree):
            places.setdefault(frozenset(leaf.devices()), name)
    if len(places) > 1:
        (first, name), (second, other) = list(places.items())[:2]
        raise ValueError(
            f"{name} is on {_names(first)} but {other} is on {_names(second)}: move one of them, "
            f"with jax.device_put({other}, jax.devices()[...]) for example"
        )


def committed_arrays(tree: Any) -> list[jax.Array]:
    """The arrays that were put somewhere; the others go where these are. Tracers have no place."""
    return [
        leaf
        for leaf in jax.tree.leaves(tree)
        if isinstance(leaf, jax.Array) and not isinstance(leaf, jax.core.Tracer) and leaf.committed
    ]


def check_count(name: str, value: Any) -> int:
    """A count as an int; refuse what is none, or below 1."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name} must be an integer of at least 1, not {value!r}")
    return int(value)


def check_reports(report_every: Any, report_loader: bool, metrics: Any) -> None:
    """Refuse what only reports would use where there are none."""
    if report_every is not None:
        check_count("report_every", report_every)
    if metrics and report_every is None:
        raise ValueError("metrics need report_every: they are measured at reports")
    if report_loader and report_every is None:
        raise ValueError("report_loader=True needs report_every and batch_size")


def check_source(optimizer: Any, seed: Any, state: Any) -> None:
    """Refuse a run that starts from two places or none, or from another optimizer's state."""
    if (seed is None) == (state is None):
        raise ValueError("fit needs either seed (a new run) or state (one that goes on), not both")
    if state is None:
        return
    if not isinstance(state, TrainState):
        raise TypeError(f"state must be a TrainState, not {type(state).__name__}")
    expected = jax.eval_shape(optimizer.init, state.params)
    if jax.tree.structure(expected) != jax.tree.structure(state.opt_state):
        raise ValueError(
            "state must come from this optimizer: its opt_state has the parts "
            f"{jax.tree.structure(state.opt_state)}, not {jax.tree.structure(expected)}"
        )


def split_run(state: Any) -> tuple[Any, History]:
    """A state, and the history of its run: an empty one where `state` was given without."""
    if isinstance(state, TrainState) or not isinstance(state, tuple):
        return state, History(np.zeros(0, np.float32), (), 0.0, 0.0, "")
    if len(state) != 2 or not isinstance(state[1], History):
        raise TypeError(
            "state must be a TrainState, or a pair (state, history) as fit returns it, not "
            f"({', '.join(type(part).__name__ for part in state)})"
        )
    return state


def check_past(past: History, steps: int, epochs: int) -> int:
    """The epochs that a run has done; refuse a history of other batches or of a longer run."""
    done, rest = divmod(len(past.losses), steps)
    if rest:
        raise ValueError(
            f"state has a history of {len(past.losses)} steps, which are no whole epochs: with "
            f"these data and this batch_size an epoch has {steps}"
        )
    if done > epochs:
        raise ValueError(
            f"epochs must be at least the {done} that the history in state has, not {epochs}: "
            "they are counted from the run's beginning"
        )
    return done


def _names(devices: frozenset) -> str:
    return ", ".join(sorted(str(device) for device in devices))
