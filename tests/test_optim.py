"""jaxnet.optim against torch.optim: each update relative to the step, with float64 as referee."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from jaxnet import optim
from jaxnet.certificate.bounds import EPS, STEP
from jaxnet.certificate.bounds import SAME_FORMULA_FLOAT64 as SAME_FORMULA
from tests.helpers import assert_close, each_row, to_numpy

STEPS = 24
SHAPES = {"weight": (16, 48), "bias": (48,), "scale": (1,)}
# eps is 1e-8, and Adagrad's 1e-10: the size of the roots where gradients are of that order, or of
# ten times it at RMSprop's first steps.
MAGNITUDES = (1.0, 3e-8, 1e-8, 3e-9, 1e-15, 1e15, 1e-3, 1e-7, 1e-10)

TORCH = {
    optim.sgd: torch.optim.SGD, optim.adam: torch.optim.Adam, optim.adamw: torch.optim.AdamW,
    optim.rmsprop: torch.optim.RMSprop, optim.adagrad: torch.optim.Adagrad,
}  # fmt: skip
STATE_NAMES = {
    optim.sgd: {"trace": "momentum_buffer"},
    optim.adam: {name: name for name in ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")},
    optim.rmsprop: {name: name for name in ("square_avg", "momentum_buffer", "grad_avg")},
    optim.adagrad: {"sum": "sum"},
}
STATE_NAMES[optim.adamw] = STATE_NAMES[optim.adam]

OPTIONS: dict[Any, list[dict[str, Any]]] = {
    optim.sgd: [
        *[{}, {"lr": 0.3, "momentum": 0.9}, {"momentum": 0.9, "dampening": 0.25}],
        *[{"momentum": 0.9, "nesterov": True}, {"dampening": 0.5}],
        {"momentum": 0.8, "nesterov": True, "weight_decay": 0.01, "maximize": True},
        {"momentum": 0.8, "dampening": 0.5, "weight_decay": 0.01, "maximize": True},
    ],
    optim.adam: [
        *[{}, {"lr": 0.1, "betas": (0.5, 0.95)}, {"betas": (0.0, 0.0)}],
        *[{"betas": (0.3, 0.0), "eps": 1e-3}, {"betas": (0.0, 0.9), "eps": 0.1, "maximize": True}],
        {"amsgrad": True},
        {"weight_decay": 0.1, "amsgrad": True, "maximize": True, "betas": (0.8, 0.9)},
    ],
    optim.rmsprop: [
        *[{}, {"lr": 0.1, "alpha": 0.5, "eps": 1e-3}, {"alpha": 0.0}, {"alpha": 1.0}],
        *[{"momentum": 0.9}, {"centered": True}],
        {"momentum": 0.5, "centered": True, "weight_decay": 0.1, "maximize": True, "alpha": 0.9},
    ],
    optim.adagrad: [
        *[{}, {"lr": 0.3, "lr_decay": 0.1}, {"initial_accumulator_value": 0.1}],
        {"eps": 1e-3, "maximize": True},
        {"lr_decay": 2.0, "initial_accumulator_value": 1e-16, "eps": 1e-8, "weight_decay": 0.1},
    ],
}
OPTIONS[optim.adamw] = [{"weight_decay": 0.0}, *(OPTIONS[optim.adam][i] for i in (0, 5, 6))]
CASES = [(make, options) for make, many in OPTIONS.items() for options in many]
NUMBERS = range(len(CASES))


def case_id(value) -> str:
    if isinstance(value, dict):
        return "-".join(f"{name}={setting}" for name, setting in value.items()) or "defaults"
    return getattr(value, "__name__", str(value))


each_case = each_row("number", NUMBERS, ids=lambda n: "-".join(map(case_id, CASES[n])))


class Run(NamedTuple):
    """What a sequence of updates left behind: each array has the step as its first axis."""

    weights: dict[str, np.ndarray]
    updates: dict[str, np.ndarray]
    states: dict[str, dict[str, np.ndarray]]


class Problem(NamedTuple):
    """Gradients and the weights at which each is taken, the step as the first axis."""

    weights: dict[str, np.ndarray]
    grads: dict[str, np.ndarray]


def make_problem(make, options) -> Problem:
    """Gradients of many magnitudes; some are always 0, all are 0 at step 7 and small after step 12.

    Each element keeps its sign, and the weights have the one that makes decay and gradient add:
    no sum cancels, so that every update can be compared relative to itself. Without decay
    the weights are 0, so that torch's new weight is its update, unrounded. So they are beside
    gradients of 1e15: after those a step without gradient is lost beside a weight of 1 even in
    float64.
    """
    rng = np.random.default_rng(0)
    decays = options.get("weight_decay", 0.01 if make is optim.adamw else 0.0) != 0.0
    weights, grads = {}, {}
    for name, shape in SHAPES.items():
        magnitude = rng.choice(MAGNITUDES, size=shape) * (rng.random(shape) > 0.1 * (shape != (1,)))
        signed = magnitude * rng.choice([-1.0, 1.0], size=shape)
        fluctuation = rng.uniform(0.5, 2.0, size=(STEPS, *shape))
        fluctuation[7] = 0.0
        fluctuation[12:] *= 0.1
        grads[name] = (signed * fluctuation).astype(np.float32)
        side = np.sign(signed) * (-1.0 if options.get("maximize") else 1.0) * decays
        size = np.where(magnitude > 1, 0, magnitude) * rng.uniform(0.5, 2.0, size=(STEPS, *shape))
        weights[name] = (side * size).astype(np.float32)
    return Problem(weights, grads)


def run_jax(optimizer: optax.GradientTransformation, problem: Problem) -> Run:

    def step(opt_state, inputs):
        weights, grads = inputs
        updates, opt_state = optimizer.update(grads, opt_state, weights)
        return opt_state, (optax.apply_updates(weights, updates), updates, opt_state)

    first = jax.tree.map(lambda array: jnp.asarray(array[0]), problem.weights)
    found = jax.lax.scan(step, optimizer.init(first), tuple(problem))[1]
    weights, updates, states = found
    parts: Any = weights, updates, fields_by_name(states)
    return Run(*parts)


def fields_by_name(opt_state) -> dict[str, Any]:
    """The fields of the parts' states that are trees like the parameters."""
    fields = {name: field for part in opt_state for name, field in part._asdict().items()}
    return {name: field for name, field in fields.items() if isinstance(field, dict)}


def run_torch(make, options, problem: Problem, dtype=torch.float32) -> Run:
    """Every update by torch; the weights are set anew before each."""
    params = {name: torch.zeros(shape, dtype=dtype) for name, shape in SHAPES.items()}
    optimizer = TORCH[make](params.values(), **options)
    weights, updates, states = {}, {}, {}
    for i in range(STEPS):
        for name, param in params.items():
            param.copy_(torch.tensor(problem.weights[name][i]))
            param.grad = torch.tensor(problem.grads[name][i], dtype=dtype)
        optimizer.step()
        for name, param in params.items():
            weights.setdefault(name, []).append(to_numpy(param))
            updates.setdefault(name, []).append(to_numpy(param) - problem.weights[name][i])
            for field, value in fields_of_torch(make, optimizer, param).items():
                states.setdefault(field, {}).setdefault(name, []).append(to_numpy(value))
    lists = (weights, updates, states)
    return Run(*jax.tree.map(np.stack, lists, is_leaf=lambda node: isinstance(node, list)))


def fields_of_torch(make, optimizer: torch.optim.Optimizer, param: torch.Tensor) -> dict[str, Any]:
    """What torch keeps for a parameter, by jaxnet's names. SGD without momentum keeps nothing."""
    found = {ours: optimizer.state[param].get(name) for ours, name in STATE_NAMES[make].items()}
    return {ours: value for ours, value in found.items() if value is not None}


class Trial(NamedTuple):
    """One case, run by jaxnet and by torch, in float64 and in float32."""

    problem: Problem
    jaxnet: Run
    exact: Run
    float32: Run

    def weight_and_step(self, name: str) -> np.ndarray:
        """What the rounding of a new weight is relative to: without decay, the step alone."""
        return np.abs(self.problem.weights[name]) + np.abs(self.exact.updates[name])


@functools.lru_cache
def make_trials() -> list[Trial]:
    problems = [make_problem(*case) for case in CASES]
    optimizers = [make(**options) for make, options in CASES]
    own = jax.jit(lambda problems: list(map(run_jax, optimizers, problems)))(problems)
    return [
        Trial(
            problem,
            jax.tree.map(np.asarray, run),
            run_torch(*case, problem, torch.float64),
            run_torch(*case, problem),
        )
        for case, problem, run in zip(CASES, problems, own, strict=True)
    ]


def relative_error(actual, exact, scale) -> float:
    """The largest error as a fraction of `scale`; where that is 0, there must be none."""
    error = np.abs(to_numpy(actual).astype(np.float64) - exact)
    assert np.all(error[scale == 0] == 0)
    return np.max(error[scale != 0] / scale[scale != 0], initial=0.0)


def state_leaves(run: Run) -> dict[tuple[str, str], np.ndarray]:
    return {(field, k): leaf for field, tree in run.states.items() for k, leaf in tree.items()}


@each_case
def test_update_agrees_with_float64_torch_relative_to_the_step(number):
    trial = make_trials()[number]
    for name, expected in trial.exact.updates.items():
        assert_close(trial.jaxnet.updates[name], expected.astype(np.float32), STEP, where=name)


@each_case
def test_state_and_new_weights_agree_with_torchs(number):
    trial = make_trials()[number]
    leaves, exact = state_leaves(trial.jaxnet), state_leaves(trial.exact)
    assert leaves.keys() == exact.keys()
    for name, expected in exact.items():
        assert_close(leaves[name], expected.astype(np.float32), STEP, where=f"{name}")
    for name, expected in state_leaves(trial.float32).items():
        assert_close(leaves[name], expected, STEP, where=f"{name}, float32")
    for name, expected in trial.float32.weights.items():
        weight, scale = trial.jaxnet.weights[name], trial.weight_and_step(name)
        # Both err: twice the distance that each keeps from the truth.
        assert relative_error(weight, expected, scale) <= 2 * STEP.rtol, name


@each_case
def test_error_is_no_worse_than_that_of_float32_torch(number):
    trial = make_trials()[number]

    def leaves(run: Run) -> dict[Any, np.ndarray]:
        return {**run.weights, **state_leaves(run)}

    scales = {name: trial.weight_and_step(name) for name in trial.exact.weights}
    for name, expected in leaves(trial.exact).items():
        error_jax, error_torch = (
            relative_error(leaves(side)[name], expected, scales.get(name, abs(expected)))
            for side in (trial.jaxnet, trial.float32)
        )
        assert error_jax <= 2 * error_torch + EPS, name


def test_free_runs_in_float64_are_torchs():
    """Random signs, and each step starts where the last one ended."""
    few = [(make, many[i]) for make, many in OPTIONS.items() for i in (0, -1)]
    rng = np.random.default_rng(2)
    start, grads = rng.normal(size=(5, 7)), rng.normal(size=(STEPS, 5, 7))
    grads[rng.random(grads.shape) < 0.2] = 0.0
    grads[:, 0] *= 1e-8
    grads[12:] *= 0.1

    def run(optimizer, start, grads):
        def step(carry, grad):
            params, opt_state = carry
            updates, opt_state = optimizer.update(grad, opt_state, params)
            params = optax.apply_updates(params, updates)
            return (params, opt_state), (updates, params)

        (_, opt_state), found = jax.lax.scan(step, (start, optimizer.init(start)), grads)
        return *found, opt_state

    with jax.enable_x64(True):
        optimizers = [make(**options) for make, options in few]
        runs = jax.jit(lambda *values: [run(o, *values) for o in optimizers])(start, grads)
    for (make, options), (updates, weights, opt_state) in zip(few, runs, strict=True):
        where = f"{make.__name__} {options}"
        param = torch.tensor(start)
        optimizer_torch = TORCH[make]([param], **options)
        for step, grad in enumerate(grads):
            param.grad, before = torch.tensor(grad), to_numpy(param)
            optimizer_torch.step()
            assert_close(updates[step], to_numpy(param) - before, SAME_FORMULA, where=where)
            assert_close(weights[step], param, SAME_FORMULA, where=where)
        for field, expected in fields_of_torch(make, optimizer_torch, param).items():
            assert_close(optax.tree.get(opt_state, field), expected, SAME_FORMULA, where=field)
        if make is not optim.sgd:
            assert optax.tree.get(opt_state, "step") == STEPS
