"""jaxnet.optim at the edges of float32, beside optax's, under transformations; what is rejected."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from jaxnet import optim
from jaxnet.certificate.bounds import EPS, STEP
from tests.helpers import assert_close, assert_same_bits, each_row, to_numpy
from tests.test_optim import (
    CASES,
    SHAPES,
    TORCH,
    Problem,
    case_id,
    each_case,
    fields_by_name,
    make_problem,
    make_trials,
    relative_error,
    run_jax,
    state_leaves,
)


@each_row(
    "make, options, grads, kind, count",
    [
        # Large gradients overflow no sooner than in torch.
        *((make, {}, [1e20, -5e20, 1e25], "finite", 2) for make in (optim.adam, optim.adamw)),
        (optim.rmsprop, {}, [1e20, -1.8e20, 1e25], "finite", 2),
        (optim.adagrad, {}, [1e19, -1.8e19, 1e25], "finite", 2),
        # Without eps a gradient of 0 gives nan.
        *(
            (m, {"eps": 0.0}, [0, 1, 1], "nan", 1)
            for m in (optim.adam, optim.rmsprop, optim.adagrad)
        ),
    ],
    ids=case_id,
)
def test_first_updates_at_the_edges_of_float32(make, options, grads, kind, count):
    grads, param = np.array(grads, np.float32), torch.zeros(3)
    param.grad = torch.tensor(grads)
    TORCH[make]([param], **options).step()
    optimizer, params = make(**options), jnp.zeros(3)
    updates, _ = optimizer.update(jnp.asarray(grads), optimizer.init(params), params)
    assert_close(updates, param, STEP)
    found = np.isnan(updates) if kind == "nan" else np.asarray(updates) != 0
    assert np.count_nonzero(found) == count


def test_variance_below_zero_gives_nan_as_in_torch():
    """grad_avg is all of the gradient and square_avg a little less than its square."""
    optimizer, params = optim.rmsprop(alpha=0.5, centered=True), jnp.zeros(1)
    opt_state: Any = optimizer.init(params)
    averages = {"square_avg": np.full(1, 0.99, np.float32), "grad_avg": np.ones(1, np.float32)}
    opt_state = (opt_state[0]._replace(**jax.tree.map(jnp.asarray, averages)), *opt_state[1:])
    updates, _ = optimizer.update(jnp.ones(1), opt_state, params)
    param = torch.zeros(1)
    param.grad = torch.ones(1)
    optimizer_torch = torch.optim.RMSprop([param], alpha=0.5, centered=True)
    averages_torch = jax.tree.map(torch.tensor, averages)
    optimizer_torch.state[param] = {"step": torch.tensor(1.0), **averages_torch}
    optimizer_torch.step()
    assert np.isnan(to_numpy(updates)).all() and np.isnan(to_numpy(param)).all()


def test_bias_correction_is_exact_at_any_step_and_optaxs_is_coarser():
    """Of a gradient 1, the averages of gradient and square being 1."""
    counts, ones = np.array([1, 2, 10, 1000]), jnp.ones(4)

    def updates_at(optimizer: Any, step: str, *averages: str):
        part, *rest = optimizer.init(jnp.ones(()))
        part = part._replace(**{step: jnp.asarray(counts) - 1}, **dict.fromkeys(averages, ones))
        in_axes = (0, (jax.tree.map(lambda _: 0, part), *(None for _ in rest)))
        return jax.vmap(optimizer.update, in_axes)(ones, (part, *rest))[0]

    def exact(beta1: float, beta2: float) -> np.ndarray:
        corrections = (1.0 - beta ** np.float64(counts) for beta in (beta1, beta2))
        return np.divide(-1.0 / next(corrections), np.sqrt(1.0 / next(corrections)) + 1e-8)

    many = [(0.9, 0.999), (0.5, 0.9999), (0.0, 0.99), (0.9, 0.0)]
    names = ("step", "exp_avg", "exp_avg_sq")
    found, coarse = jax.jit(
        lambda: (
            [updates_at(optim.adam(lr=1.0, betas=betas), *names) for betas in many],
            updates_at(optax.adam(1.0), "count", "mu", "nu"),
        )
    )()
    for updates, betas in zip(found, many, strict=True):
        np.testing.assert_allclose(updates, exact(*betas), rtol=4 * EPS)
    error = abs(to_numpy(coarse) / exact(0.9, 0.999) - 1)
    assert np.all((error[:3] > 8 * EPS) & (error[:3] < 1.5e-5))


OUTSIDE = {"decay": 0.99, "eps_in_sqrt": False}
BESIDE_OPTAX = [
    (optim.sgd(0.1), optax.sgd(0.1), 0, 0),
    (optim.sgd(0.1, 0.9, nesterov=True), optax.sgd(0.1, 0.9, True), 0, 0),
    # But for the bias correction.
    (optim.adam(), optax.adam(1e-3), 20 * EPS, 2e-5),
    (optim.adamw(), optax.adamw(1e-3, weight_decay=1e-2), 20 * EPS, 2e-5),
    # It takes the maximum of corrected moments.
    (optim.adam(amsgrad=True), optax.amsgrad(1e-3), 0.05, np.inf),
    (optim.rmsprop(centered=True), optax.rmsprop(1e-2, centered=True, **OUTSIDE), 0, STEP.rtol),
    (optim.rmsprop(), optax.rmsprop(1e-2, decay=0.99), 0.5, np.inf),
    (optim.adagrad(), optax.adagrad(1e-2, initial_accumulator_value=0.0, eps=1e-10), 0.5, np.inf),
]
"""What may be taken from optax, and what may not: bounds of the largest relative difference."""


def test_beside_optaxs():
    problem = Problem(*({"weight": part["weight"]} for part in make_problem(optim.adamw, {})))
    runs = jax.jit(
        lambda problem: [[run_jax(o, problem).updates for o in pair[:2]] for pair in BESIDE_OPTAX]
    )(problem)
    for number, (own, theirs) in enumerate(runs):
        own, theirs = to_numpy(own["weight"]), to_numpy(theirs["weight"])
        low, high = BESIDE_OPTAX[number][2:]
        assert low <= relative_error(theirs, own, np.abs(own)) <= high, number


@each_row(
    "make, options",
    [
        (optim.sgd, {"momentum": 0.9, "dampening": 0.5, "weight_decay": 0.1}),
        (optim.adam, {"amsgrad": True}),
        (optim.rmsprop, {"momentum": 0.9, "centered": True}),
        (optim.adagrad, {"lr_decay": 0.1}),
    ],
    ids=case_id,
)
def test_rates_may_be_arrays_and_lanes(make, options):
    rates = [0.001, 0.3]
    weights, grads = np.random.default_rng(4).uniform(0.5, 2.0, size=(2, 8, 3)).astype(np.float32)

    def updates_of(lr):
        return run_jax(make(lr=lr, **options), Problem({"w": weights}, {"w": grads})).updates["w"]

    @jax.jit
    def run(lrs):
        return jax.vmap(updates_of)(lrs), [updates_of(rate) for rate in rates], updates_of(lrs[0])

    swept, plain, traced = run(jnp.asarray(rates))
    assert_close(swept, jnp.stack(plain), STEP)
    assert_close(traced, plain[0], STEP)


def test_plain_sgd_is_one_multiplication_and_no_state():
    optimizer = optim.sgd(lr=0.1)
    grads = jnp.ones(3)
    opt_state = optimizer.init(grads)
    assert jax.tree.leaves(opt_state) == []
    program = jax.make_jaxpr(optimizer.update)(grads, opt_state)
    assert [equation.primitive.name for equation in program.eqns] == ["mul"]


def kinds(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)


@each_case
def test_state_is_small_can_be_donated_and_keeps_dtype_and_structure(number):
    """A leaf for what torch has a tensor for, and a count; no two leaves share a buffer."""
    make, options = CASES[number]
    optimizer, fields = make(**options), state_leaves(make_trials()[number].exact)
    leaves = jax.tree.leaves(optimizer.init({name: jnp.ones(2) for name in SHAPES}))
    assert len(leaves) <= len(fields) + 1
    assert len({leaf.unsafe_buffer_pointer() for leaf in leaves}) == len(leaves)
    for dtype in (jnp.float32, jnp.bfloat16):
        params = {"outer": ({"w": jnp.ones((2, 3), dtype)}, jnp.ones((), dtype)), "empty": {}}
        start = optimizer.init(params)
        # Shapes alone: the dtypes are decided when the update is traced.
        updates, opt_state = jax.eval_shape(optimizer.update, params, start, params)
        assert kinds(opt_state) == kinds(start) and kinds(updates) == kinds(params)
        for field in fields_by_name(start).values():
            assert kinds(field) == kinds(params)


# What is rejected; the messages are those of tests/bad_calls.

NAN = float("nan")
NOT_BELOW_ZERO: dict[Any, tuple[str, ...]] = {
    optim.sgd: ("lr", "momentum", "weight_decay"),
    optim.adam: ("lr", "eps", "weight_decay"),
    optim.adamw: ("lr", "eps", "weight_decay"),
    optim.rmsprop: ("lr", "alpha", "eps", "weight_decay", "momentum"),
    optim.adagrad: ("lr", "lr_decay", "weight_decay", "initial_accumulator_value", "eps"),
}
REJECTED = [
    *((make, {name: -1.0}) for make, names in NOT_BELOW_ZERO.items() for name in names),
    *((optim.adam, {"betas": betas}) for betas in ((1.0, 0.9), (0.9, -0.1), (0.9, NAN))),
    *((optim.sgd, {"nesterov": True, **more}) for more in ({}, {"momentum": 0.9, "dampening": 1})),
]


@each_row("make, options", REJECTED, ids=case_id)
def test_what_torch_rejects_is_rejected(make, options):
    for build in (make, functools.partial(TORCH[make], [torch.zeros(1)])):
        with pytest.raises(ValueError):
            build(**options)


def test_a_rate_is_checked_where_its_value_is_known():
    """Inside jit too; not that of a schedule, nor a traced one."""
    grads, lr, below = jnp.ones(2), jnp.array(2.0), jnp.array(-1.0)
    schedule = optim.sgd(lr=lambda count: -1.0)
    assert_same_bits(schedule.update(grads, schedule.init(grads))[0], grads)
    traced = jax.jit(lambda lr: optim.sgd(lr=lr).update(grads, optim.sgd().init(grads))[0])
    assert_same_bits(traced(-1.0), grads)
    closed = jax.jit(lambda: optim.sgd(lr=lr).update(grads, optim.sgd().init(grads))[0])
    assert_same_bits(closed(), -2.0 * grads)
    with pytest.raises(ValueError, match="lr is -1.0, expected"):
        jax.jit(lambda: optim.sgd(lr=below).init(grads))()


@each_row(
    "make",
    [
        optim.sgd,
        lambda number: optim.sgd(0.1, momentum=number),
        lambda number: optim.sgd(0.1, weight_decay=number),
        lambda number: optim.adam(eps=number),
        lambda number: optim.rmsprop(eps=number),
        lambda number: optim.adagrad(lr_decay=number, initial_accumulator_value=number),
        lambda number: optim.sgd(optim.step_lr(number, 2)),
        lambda number: optim.sgd(optim.cosine_annealing_lr(number, 2, eta_min=number)),
        lambda number: optim.sgd(optim.lambda_lr(number, lambda epoch: 1, epochs=2)),
    ],
)
def test_an_integer_of_any_size_is_a_number(make):
    """JAX takes for numbers those of int32 alone."""
    steps = []
    for value in (2**70, 2.0**70):
        optimizer = make(value)
        state = optimizer.init(ONE)
        _, state = optimizer.update(ONE, state, ONE)
        steps.append(optimizer.update(ONE, state, ONE)[0])
    assert_same_bits(*steps)


ONE = np.ones(1, np.float32)
