"""Which runs a sweep is made of: a lane for each seed at each point of the grid."""

import inspect
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnet import nn
from jaxnet._utils.validation import nearest
from jaxnet.cache import is_own, memoize
from jaxnet.random._arguments import as_probability, check_seed

Grid = Mapping[str, Iterable[Any]]
"""Values by the names of what they vary, `{"lr": [0.1, 0.01], "p": [0.5]}`."""

SEEDS = 1_000_000
"""The most seeds of a sweep: each is a run of its own, whose losses and last state are kept."""


class Lane(NamedTuple):
    """One run of a sweep."""

    number: int
    """Its place in the table, from 0: the seeds in turn at the grid's first point, and so on."""
    seed: int
    point: dict[str, Any]
    """A value for each key of the grid."""


class Program(NamedTuple):
    """What lanes share that are computed by one compiled program."""

    net: flax.linen.Module
    make_optimizer: Callable[..., optax.GradientTransformation]
    """The factory with every value that is a constant of the program."""
    traced: tuple[str, ...]
    """Keys of the grid whose values are inputs of the program, a number for each lane."""
    lanes: tuple[Lane, ...]


def list_lanes(seeds: Iterable[Any], grid: Grid | None) -> list[Lane]:
    """A lane for each seed at each point of the grid, the last key varying fastest."""
    seeds = check_seeds(seeds)
    grid = check_grid(grid)
    points = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    runs = [(seed, point) for point in points for seed in seeds]
    return [Lane(number, *run) for number, run in enumerate(runs)]


def check_seeds(seeds: Iterable[Any]) -> list[int]:
    """Seeds as a list of integers; reject none, duplicates, and what torch does not take."""
    if isinstance(seeds, str | bytes | bytearray) or not isinstance(seeds, Iterable):
        raise TypeError(f"seeds must be integers, range(64) for example, not {seeds!r}")
    try:
        found = [check_seed(seed, "seeds") for seed in itertools.islice(seeds, SEEDS + 1)]
    except TypeError as error:
        raise TypeError(f"seeds must be integers, range(64) for example: {error}") from error
    if not found:
        raise ValueError("seeds must hold at least one seed; it is empty")
    if len(found) > SEEDS:
        raise ValueError(f"seeds must hold at most {SEEDS:,} seeds; there are more")
    if len(set(found)) < len(found):
        twice = next(seed for seed, times in Counter(found).items() if times > 1)
        raise ValueError(f"seeds must differ; {twice} is there twice")
    return found


def check_grid(grid: Grid | None) -> dict[str, list[Any]]:
    """The grid with its values as lists; reject anything but a mapping, and keys without values."""
    if grid is None:
        return {}
    if not isinstance(grid, Mapping):
        raise TypeError(f"grid must be a dictionary of lists, {{'lr': [0.1]}}, not {grid!r}")
    lists = {}
    for name, values in grid.items():
        if isinstance(values, str) or not isinstance(values, Iterable):
            raise TypeError(f"grid[{name!r}] must be a list of values, not {values!r}")
        lists[name] = [v.item() if isinstance(v, np.generic) else v for v in values]
        if not lists[name]:
            raise ValueError(f"grid[{name!r}] must hold at least one value; it is empty")
        twice = [value for place, value in enumerate(lists[name]) if value in lists[name][:place]]
        if twice:
            raise ValueError(
                f"grid[{name!r}] must hold different values; {twice[0]!r} is there twice"
            )
    return lists


def group_lanes(lanes: Sequence[Lane], net: Any, optimizer: Any) -> list[Program]:
    """The lanes by program: together where they differ in nothing but seeds and traced numbers.

    Every value is tried on what takes it, so that a wrong one is rejected before the first run.
    """
    takers = find_takers(lanes[0].point, net, optimizer)
    points = {repr(lane.point): lane.point for lane in lanes}
    nets = {key: _build(point, takers, net, optimizer) for key, point in points.items()}
    traced = _find_traced(list(points.values()), takers, optimizer)
    groups: dict[str, list[Lane]] = {}
    for lane in lanes:
        fixed = {name: value for name, value in lane.point.items() if name not in traced}
        groups.setdefault(repr(fixed), []).append(lane)
    bind: Any = _bind
    bind = bind if is_own(optimizer) else bind.__wrapped__
    programs = []
    for group in groups.values():
        point = group[0].point
        taken = _pick(point, takers, "optimizer").items()
        make_optimizer = bind(optimizer, tuple((k, v) for k, v in taken if k not in traced))
        programs.append(Program(nets[repr(point)], make_optimizer, traced, tuple(group)))
    return programs


def find_takers(names: Iterable[str], net: Any, optimizer: Any) -> dict[str, str]:
    """Who takes each key of a grid: "optimizer", "net" (a function that makes it) or "dropout"."""
    if not callable(optimizer) and not isinstance(optimizer, optax.GradientTransformation):
        raise TypeError(f"optimizer must be a function such as jaxnet.optim.sgd, not {optimizer!r}")
    if not callable(net):
        raise TypeError(f"net must be a module or a function that makes one, not {net!r}")
    known: dict[str, str] = {}
    if not isinstance(net, flax.linen.Module):  # what that makes is searched for a Dropout later
        known = {"p": "dropout"} | dict.fromkeys(_list_keywords(net), "net")
    elif replace_p(net, 0.5)[1]:
        known = {"p": "dropout"}
    if not isinstance(optimizer, optax.GradientTransformation):
        known |= dict.fromkeys(_list_keywords(optimizer), "optimizer")
    for name in names:
        if name not in known:
            listed = ", ".join(sorted(known)) or "none"
            meant = nearest(name, known) or f"; those that are: {listed}"
            raise ValueError(
                f"grid has {name!r}, which is no argument of optimizer or net, nor p of a Dropout "
                f"in net{meant}"
            )
    return {name: known[name] for name in names}


def _list_keywords(function: Callable) -> list[str]:
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [n for n, p in inspect.signature(function).parameters.items() if p.kind in kinds]


def _build(
    point: dict[str, Any], takers: dict[str, str], net: Any, optimizer: Any
) -> flax.linen.Module:
    """A point's net, its optimizer tried; an error names the point."""
    try:
        made = net
        if not isinstance(net, flax.linen.Module):
            made = net(**_pick(point, takers, "net"))
            if not isinstance(made, flax.linen.Module):
                raise TypeError(f"net must make a Flax module, not {type(made).__name__}")
        if drop := _pick(point, takers, "dropout"):
            made, count = replace_p(made, as_probability(drop["p"]))
            if not count:
                raise ValueError("net has no Dropout that takes p")
        if not isinstance(optimizer, optax.GradientTransformation):
            optimizer(**_pick(point, takers, "optimizer"))
    except (TypeError, ValueError) as error:
        said = ", ".join(f"{name}={value!r}" for name, value in point.items())
        raise type(error)(f"grid at {said}: {error}" if point else str(error)) from error
    return made


@memoize
def _bind(optimizer: Any, fixed: tuple[tuple[str, Any], ...]) -> Callable:
    """The factory with these values."""

    def make_optimizer(**numbers: Any) -> optax.GradientTransformation:
        if isinstance(optimizer, optax.GradientTransformation):
            return optimizer
        return optimizer(**dict(fixed), **numbers)

    return make_optimizer


def _pick(point: dict[str, Any], takers: dict[str, str], taker: str) -> dict[str, Any]:
    return {name: value for name, value in point.items() if takers[name] == taker}


def _find_traced(
    points: list[dict[str, Any]], takers: dict[str, str], optimizer: Any
) -> tuple[str, ...]:
    """Keys whose values may be traced numbers: those that the optimizer never looks into."""
    return tuple(
        name
        for name, taker in takers.items()
        if taker == "optimizer"
        and all(isinstance(point[name], int | float) for point in points)
        and not any(isinstance(point[name], bool) for point in points)
        and any(isinstance(point[name], float) for point in points)
        and all(_can_be_traced(name, point, takers, optimizer) for point in points)
    )


def _can_be_traced(
    name: str, point: dict[str, Any], takers: dict[str, str], optimizer: Callable
) -> bool:
    """Whether the factory and what it makes take a tracer there."""
    others = {k: v for k, v in _pick(point, takers, "optimizer").items() if k != name}
    weights = jax.ShapeDtypeStruct((2,), jnp.float32)

    def step(number, params):
        made = optimizer(**others, **{name: number})
        return made.update(params, made.init(params), params)[0]

    try:
        jax.eval_shape(step, jnp.float32(point[name]), weights)
    except Exception:  # factories check numbers in ways of their own
        return False
    return True


def replace_p(net: Any, p: float) -> tuple[Any, int]:
    """The net with p for every Dropout among its layers, at any depth, and how many there are."""
    if isinstance(net, nn.Dropout):
        return net.clone(p=p), 1
    if isinstance(net, list | tuple):
        found = [replace_p(value, p) for value in net]
        count = sum(number for _, number in found)
        return (type(net)(value for value, _ in found) if count else net), count
    if not isinstance(net, flax.linen.Module):
        return net, 0
    changed, count = {}, 0
    for field in net.__dataclass_fields__:
        if field not in ("parent", "name"):
            changed[field], number = replace_p(getattr(net, field, None), p)
            count += number
            if not number:
                del changed[field]
    return (net.clone(**changed) if count else net), count
