"""jaxnet.optim against torch.optim: each update relative to the step, with float64 as referee."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import optax
import pytest
import torch

from jaxnet import optim
from jaxnet.certificate.bounds import EPS, STEP
from jaxnet.certificate.bounds import SAME_FORMULA_FLOAT64 as SAME_FORMULA
from tests.helpers import assert_close, assert_same_bits, each_row, to_numpy

STEPS = 24
SHAPES = {"weight": (32, 784), "bias": (32,), "scale": (1,)}
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
        *[{"momentum": 0.9, "nesterov": True}, {"weight_decay": 0.1}, {"dampening": 0.5}],
        {"maximize": True},
        {"momentum": 0.8, "nesterov": True, "weight_decay": 0.01, "maximize": True},
        {"momentum": 0.8, "dampening": 0.5, "weight_decay": 0.01, "maximize": True},
    ],
    optim.adam: [
        *[{}, {"lr": 0.1, "betas": (0.5, 0.95)}, {"betas": (0.0, 0.0)}],
        *[{"betas": (0.3, 0.0), "eps": 1e-3}, {"betas": (0.0, 0.9), "eps": 0.1, "maximize": True}],
        *[{"amsgrad": True}, {"weight_decay": 0.1}],
        {"weight_decay": 0.1, "amsgrad": True, "maximize": True, "betas": (0.8, 0.9)},
    ],
    optim.rmsprop: [
        *[{}, {"lr": 0.1, "alpha": 0.5, "eps": 1e-3}, {"alpha": 0.0}, {"alpha": 1.0}],
        *[{"momentum": 0.9}, {"centered": True}, {"weight_decay": 0.1}, {"maximize": True}],
        {"momentum": 0.5, "centered": True, "weight_decay": 0.1, "maximize": True, "alpha": 0.9},
    ],
    optim.adagrad: [
        *[{}, {"lr": 0.3, "lr_decay": 0.1}, {"initial_accumulator_value": 0.1}],
        *[{"eps": 1e-3}, {"weight_decay": 0.1}, {"maximize": True}],
        {
            "lr_decay": 2.0,
            "initial_accumulator_value": 1e-16,
            "eps": 1e-8,
            "weight_decay": 0.1,
            "maximize": True,
        },
    ],
}
ADAM = OPTIONS[optim.adam]
OPTIONS[optim.adamw] = [{"weight_decay": 0.0}, ADAM[0], ADAM[1], *ADAM[-3:]]
CASES = [(make, options) for make, many in OPTIONS.items() for options in many]


@pytest.fixture(autouse=True, scope="module")
def one_torch_thread():
    """Tensors of 25,000 elements are ten times slower in threads that wait for a core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def case_id(value) -> str:
    if isinstance(value, dict):
        return "-".join(f"{name}={setting}" for name, setting in value.items()) or "defaults"
    return getattr(value, "__name__", str(value))


cases = pytest.mark.parametrize(("make", "options"), CASES, ids=case_id)


class Run(NamedTuple):
    """What a sequence of updates left behind: each array has the step as its first axis."""

    weights: dict[str, np.ndarray]
    updates: dict[str, np.ndarray]
    states: dict[str, dict[str, np.ndarray]]


class Problem(NamedTuple):
    """Gradients and the weights at which each is taken, the step as the first axis."""

    weights: dict[str, np.ndarray]
    grads: dict[str, np.ndarray]


def decays(make, options) -> bool:
    return options.get("weight_decay", 0.01 if make is optim.adamw else 0.0) != 0.0


def make_problem(make, options) -> Problem:
    """Gradients of many magnitudes; some are always 0, all are 0 at step 7 and small after step 12.

    Each element keeps its sign, and the weights have the one that makes decay and gradient add:
    no sum cancels, so that every update can be compared relative to itself. Without decay
    the weights are 0, so that torch's new weight is its update, unrounded. So they are beside
    gradients of 1e15: after those a step without gradient is lost beside a weight of 1 even in
    float64.
    """
    rng = np.random.default_rng(0)
    weights, grads = {}, {}
    for name, shape in SHAPES.items():
        magnitude = rng.choice(MAGNITUDES, size=shape) * (rng.random(shape) > 0.1 * (shape != (1,)))
        signed = magnitude * rng.choice([-1.0, 1.0], size=shape)
        fluctuation = rng.uniform(0.5, 2.0, size=(STEPS, *shape))
        fluctuation[7] = 0.0
        fluctuation[12:] *= 0.1
        grads[name] = (signed * fluctuation).astype(np.float32)
        side = np.sign(signed) * (-1.0 if options.get("maximize") else 1.0) * decays(make, options)
        size = np.where(magnitude > 1, 0, magnitude) * rng.uniform(0.5, 2.0, size=(STEPS, *shape))
        weights[name] = (side * size).astype(np.float32)
    return Problem(weights, grads)


def run_jax(optimizer: optax.GradientTransformation, problem: Problem) -> Run:
    """Every update in one compiled scan."""

    def step(opt_state, inputs):
        weights, grads = inputs
        updates, opt_state = optimizer.update(grads, opt_state, weights)
        return opt_state, (optax.apply_updates(weights, updates), updates, opt_state)

    first = jax.tree.map(lambda array: jnp.asarray(array[0]), problem.weights)
    _, (weights, updates, opt_states) = jax.jit(lambda start, xs: jax.lax.scan(step, start, xs))(
        optimizer.init(first), tuple(problem)
    )
    return Run(weights, updates, fields_by_name(opt_states))


def fields_by_name(opt_state) -> dict[str, Any]:
    """The fields of the parts' states that are trees like the parameters."""
    fields = {name: field for part in opt_state for name, field in part._asdict().items()}
    return {name: field for name, field in fields.items() if isinstance(field, dict)}


def run_torch(make, options, problem: Problem, dtype=torch.float32, foreach=None) -> Run:
    """Every update by torch; the weights are set anew before each."""
    params = {name: torch.zeros(shape, dtype=dtype) for name, shape in SHAPES.items()}
    optimizer = TORCH[make](params.values(), **options, foreach=foreach)
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


def relative_error(actual, exact, scale) -> float:
    """The largest error as a fraction of `scale`; where that is 0, there must be none."""
    error = np.abs(to_numpy(actual).astype(np.float64) - exact)
    assert np.all(error[scale == 0] == 0)
    return np.max(error[scale != 0] / scale[scale != 0], initial=0.0)


class Trial(NamedTuple):
    """One case, run by jaxnet and by torch: in float64, and in float32 in both its ways."""

    problem: Problem
    jaxnet: Run
    exact: Run
    float32: dict[str, Run]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: "-".join(map(case_id, case)))
def trial(request) -> Trial:
    make, options = request.param
    problem = make_problem(make, options)
    exact = run_torch(make, options, problem, torch.float64)
    ways = {
        f"foreach={way}": run_torch(make, options, problem, foreach=way) for way in (None, False)
    }
    return Trial(problem, run_jax(make(**options), problem), exact, ways)


def state_leaves(run: Run) -> dict[tuple[str, str], np.ndarray]:
    return {(field, k): leaf for field, tree in run.states.items() for k, leaf in tree.items()}


def test_update_agrees_with_float64_torch_relative_to_the_step(trial):
    for name in SHAPES:
        expected = trial.exact.updates[name].astype(np.float32)
        assert_close(trial.jaxnet.updates[name], expected, STEP, where=name)


def test_state_agrees_with_torchs(trial):
    leaves, exact = state_leaves(trial.jaxnet), state_leaves(trial.exact)
    assert leaves.keys() == exact.keys()
    for name, expected in exact.items():
        assert_close(leaves[name], expected.astype(np.float32), STEP, where=f"{name}, float64")
        for how, run in trial.float32.items():
            assert_close(leaves[name], state_leaves(run)[name], STEP, where=f"{name}, {how}")


def weight_and_step(trial: Trial, name: str) -> np.ndarray:
    """What the rounding of a new weight is relative to: without decay, the step alone."""
    return np.abs(trial.problem.weights[name]) + np.abs(trial.exact.updates[name])


def test_new_weights_agree_with_float32_torch(trial):
    for how, run in trial.float32.items():
        for name in SHAPES:
            weight, expected = trial.jaxnet.weights[name], run.weights[name]
            error = relative_error(weight, expected, weight_and_step(trial, name))
            # Both err: twice the distance that each keeps from the truth.
            assert error <= 2 * STEP.rtol, f"{name}, {how}"


def test_error_is_no_worse_than_that_of_float32_torch(trial):
    def leaves(run: Run) -> dict[Any, np.ndarray]:
        return {**run.weights, **state_leaves(run)}

    scales = {name: weight_and_step(trial, name) for name in trial.exact.weights}
    for how, run in trial.float32.items():
        for name, expected in leaves(trial.exact).items():
            scale = scales.get(name, abs(expected))
            error_jax, error_torch = (
                relative_error(leaves(side)[name], expected, scale) for side in (trial.jaxnet, run)
            )
            assert error_jax <= 2 * error_torch + EPS, f"{name}, {how}"


@cases
def test_free_run_in_float64_is_torchs(make, options):
    """Random signs, and each step starts where the last one ended."""
    rng = np.random.default_rng(2)
    shape = (5, 7)
    start, grads = rng.normal(size=shape), rng.normal(size=(STEPS, *shape))
    grads[rng.random(grads.shape) < 0.2] = 0.0
    grads[:, 0] *= 1e-8
    grads[12:] *= 0.1
    param = torch.tensor(start)
    optimizer_torch = TORCH[make]([param], **options)
    with jax.enable_x64(True):
        optimizer = make(**options)
        params = jnp.asarray(start)
        opt_state = optimizer.init(params)
        update = jax.jit(optimizer.update)
        for grad in grads:
            updates, opt_state = update(jnp.asarray(grad), opt_state, params)
            params = optax.apply_updates(params, updates)
            param.grad = torch.tensor(grad)
            before = to_numpy(param)
            optimizer_torch.step()
            assert_close(updates, to_numpy(param) - before, SAME_FORMULA, where="update")
            assert_close(params, param, SAME_FORMULA, where="weights")
        for field, expected in fields_of_torch(make, optimizer_torch, param).items():
            assert_close(optax.tree.get(opt_state, field), expected, SAME_FORMULA, where=field)
        if make is not optim.sgd:
            assert optax.tree.get(opt_state, "step") == STEPS


@pytest.mark.parametrize(
    ("make", "grads"),
    [
        *[(optim.adam, [1e20, -5e20, 1e25]), (optim.adamw, [1e20, -5e20, 1e25])],
        *[(optim.rmsprop, [1e20, -1.8e20, 1e25]), (optim.adagrad, [1e19, -1.8e19, 1e25])],
    ],
    ids=case_id,
)
def test_large_gradients_overflow_no_sooner_than_in_torch(make, grads):
    grads = np.array(grads, np.float32)
    param = torch.zeros(3)
    param.grad = torch.tensor(grads)
    TORCH[make]([param]).step()
    optimizer = make()
    params = jnp.zeros(3)
    updates, _ = jax.jit(optimizer.update)(jnp.asarray(grads), optimizer.init(params), params)
    assert_close(updates, param, STEP)
    assert np.count_nonzero(updates) == 2


@pytest.mark.parametrize("make", [optim.adam, optim.rmsprop, optim.adagrad], ids=case_id)
def test_without_eps_a_zero_gradient_gives_nan_as_in_torch(make):
    param = torch.zeros(2)
    param.grad = torch.tensor([0.0, 1.0])
    TORCH[make]([param], eps=0.0).step()
    optimizer, params = make(eps=0.0), jnp.zeros(2)
    updates, _ = optimizer.update(jnp.array([0.0, 1.0]), optimizer.init(params), params)
    assert_close(updates, param, STEP)
    assert np.isnan(to_numpy(updates)[0])


COUNTS = (1, 2, 10, 1000)


def update_at(counts, optimizer: Any, names: tuple[str, str, str]) -> np.ndarray:
    """The updates of a gradient 1 at these steps, the averages of gradient and square being 1."""
    ones = jnp.ones(len(counts))
    part, *rest = optimizer.init(jnp.ones(()))
    part = part._replace(**{names[0]: jnp.array(counts) - 1}, **dict.fromkeys(names[1:], ones))
    in_axes = (0, (jax.tree.map(lambda _: 0, part), *(None for _ in rest)))
    return to_numpy(jax.jit(jax.vmap(optimizer.update, in_axes))(ones, (part, *rest))[0])


def exact_update_at(counts, beta1: float, beta2: float) -> np.ndarray:
    correction1, correction2 = (1.0 - beta ** np.float64(counts) for beta in (beta1, beta2))
    return -1.0 / correction1 / (np.sqrt(1.0 / correction2) + 1e-8)


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.9999), (0.0, 0.99), (0.9, 0.0)])
def test_bias_correction(betas):
    updates = update_at(COUNTS, optim.adam(lr=1.0, betas=betas), ("step", "exp_avg", "exp_avg_sq"))
    np.testing.assert_allclose(updates, exact_update_at(COUNTS, *betas), rtol=4 * EPS)


def test_bias_correction_of_optax_is_coarser():
    updates = update_at(COUNTS, optax.adam(1.0), ("count", "mu", "nu"))
    error = abs(updates / exact_update_at(COUNTS, 0.9, 0.999) - 1)
    assert np.all((error[:3] > 8 * EPS) & (error[:3] < 1.5e-5))


@pytest.mark.parametrize(
    ("make", "options"),
    [
        *[(optim.sgd, {}), (optim.sgd, {"momentum": 0.9, "dampening": 0.5, "weight_decay": 0.1})],
        *[(optim.adam, {"amsgrad": True}), (optim.adamw, {})],
        *[(optim.rmsprop, {"momentum": 0.9, "centered": True}), (optim.adagrad, {"lr_decay": 0.1})],
    ],
    ids=case_id,
)
def test_vmap_over_lr_and_eager_steps_give_the_scanned_run(make, options):
    rates = [0.001, 0.3]
    rng = np.random.default_rng(4)
    weights, grads = rng.uniform(0.5, 2.0, size=(2, 8, 3)).astype(np.float32)

    def updates_of(lr):
        return run_jax(make(lr=lr, **options), Problem({"w": weights}, {"w": grads})).updates["w"]

    swept = jax.vmap(updates_of)(jnp.asarray(rates))
    scanned = [updates_of(rate) for rate in rates]
    for rate, updates, expected in zip(rates, swept, scanned, strict=True):
        assert_close(updates, expected, STEP, where=f"vmap, lr {rate}")
    assert_close(updates_of(jnp.float32(rates[0])), scanned[0], STEP, where="array")

    optimizer = make(lr=rates[0], **options)
    opt_state = optimizer.init({"w": jnp.asarray(weights[0])})
    for weight, grad, expected in zip(weights, grads, scanned[0], strict=True):
        grad, weight = {"w": jnp.asarray(grad)}, {"w": jnp.asarray(weight)}
        updates, opt_state = optimizer.update(grad, opt_state, weight)
        assert_close(updates["w"], expected, STEP, where="eager")


def test_plain_sgd_is_one_multiplication_and_no_state():
    optimizer = optim.sgd(lr=0.1)
    grads = jnp.ones(3)
    opt_state = optimizer.init(grads)
    assert jax.tree.leaves(opt_state) == []
    program = jax.make_jaxpr(optimizer.update)(grads, opt_state)
    assert [equation.primitive.name for equation in program.eqns] == ["mul"]


@pytest.mark.parametrize(
    ("make", "options", "leaves"),
    [
        *[(optim.sgd, {"momentum": 0.9}, 1), (optim.sgd, {"momentum": 0.9, "dampening": 0.1}, 2)],
        *[(optim.sgd, {"dampening": 0.1, "weight_decay": 0.1}, 0), (optim.adam, {}, 3)],
        *[(optim.adam, {"amsgrad": True}, 4), (optim.adamw, {}, 3), (optim.rmsprop, {}, 2)],
        (optim.rmsprop, {"momentum": 0.9, "centered": True}, 4),
        (optim.adagrad, {"lr_decay": 0.1}, 2),
    ],
    ids=case_id,
)
def test_state_carries_no_more_than_it_needs(make, options, leaves):
    assert len(jax.tree.leaves(make(**options).init(jnp.ones(3)))) == leaves


@each_row(("make", "options"), CASES, ids=case_id)
def test_state_can_be_donated(make, options):
    """As a training step that updates in place does: no two leaves may share a buffer."""
    leaves = jax.tree.leaves(make(**options).init(jnp.ones(3)))
    assert len({leaf.unsafe_buffer_pointer() for leaf in leaves}) == len(leaves)


@each_row(
    ("make", "options", "dtype"),
    [(*case, dtype) for case in CASES for dtype in (jnp.float32, jnp.bfloat16)],
    ids=case_id,
)
def test_state_and_updates_keep_dtype_and_structure(make, options, dtype):
    params = {"outer": ({"w": jnp.ones((2, 3), dtype)}, jnp.ones((), dtype)), "empty": {}}
    optimizer = make(**options)
    start = optimizer.init(params)
    # Shapes alone: the dtypes are decided when the update is traced.
    updates, opt_state = jax.eval_shape(optimizer.update, params, start, params)
    assert kinds(opt_state) == kinds(start)
    assert kinds(updates) == kinds(params)
    for field in fields_by_name(start).values():
        assert kinds(field) == kinds(params)


def kinds(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)


def updates_of_bias(optimizer: optax.GradientTransformation, problem: Problem) -> np.ndarray:
    weights, grads = ({"bias": tree["bias"]} for tree in problem)
    return to_numpy(run_jax(optimizer, Problem(weights, grads)).updates["bias"])


@pytest.mark.parametrize(
    "options", [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}], ids=case_id
)
def test_sgd_is_optaxs_where_optax_has_it(options):
    problem = make_problem(optim.sgd, options)
    updates = updates_of_bias(optim.sgd(0.1, **options), problem)
    assert_same_bits(updates, updates_of_bias(optax.sgd(0.1, **options), problem))


@pytest.mark.parametrize(
    ("optimizer", "optimizer_optax"),
    [
        (optim.adam(1e-3), optax.adam(1e-3)),
        (optim.adamw(1e-3), optax.adamw(1e-3, weight_decay=1e-2)),
    ],
    ids=["adam", "adamw"],
)
def test_adam_is_optaxs_but_for_the_bias_correction(optimizer, optimizer_optax):
    problem = make_problem(optim.adamw, {})
    updates = updates_of_bias(optimizer, problem)
    error = relative_error(updates_of_bias(optimizer_optax, problem), updates, np.abs(updates))
    assert 20 * EPS < error < 2e-5


def test_amsgrad_of_optax_takes_the_maximum_elsewhere():
    problem = make_problem(optim.adam, {})
    updates = updates_of_bias(optim.adam(amsgrad=True), problem)
    updates_optax = updates_of_bias(optax.amsgrad(1e-3), problem)
    assert relative_error(updates_optax[:1], updates[:1], np.abs(updates[:1])) < 2e-5
    assert relative_error(updates_optax, updates, np.abs(updates)) > 0.05


@pytest.mark.parametrize(
    "options",
    [{}, {"momentum": 0.9}, {"centered": True}, {"momentum": 0.9, "centered": True}],
    ids=case_id,
)
def test_rmsprop_is_optaxs_with_eps_outside_the_root(options):
    problem = make_problem(optim.rmsprop, options)
    updates = updates_of_bias(optim.rmsprop(**options), problem)
    outside = optax.rmsprop(1e-2, decay=0.99, eps_in_sqrt=False, **options)
    assert_close(updates_of_bias(outside, problem), updates, STEP)
    inside = updates_of_bias(optax.rmsprop(1e-2, decay=0.99, **options), problem)
    assert relative_error(inside, updates, np.abs(updates)) > 0.5


def test_adagrad_of_optax_has_eps_inside_the_root():
    problem = make_problem(optim.adagrad, {})
    updates = updates_of_bias(optim.adagrad(), problem)
    optimizer_optax = optax.adagrad(1e-2, initial_accumulator_value=0.0, eps=1e-10)
    updates_optax = updates_of_bias(optimizer_optax, problem)
    assert relative_error(updates_optax, updates, np.abs(updates)) > 0.5


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


NAN = float("nan")
REFUSED: list[tuple[Any, dict[str, Any], str]] = [
    (optim.sgd, {"lr": -1.0}, "lr is -1.0, expected a number of at least 0"),
    (optim.sgd, {"momentum": -0.5}, "momentum is -0.5, expected"),
    (optim.sgd, {"weight_decay": -0.5}, "weight_decay is -0.5, expected"),
    (optim.sgd, {"nesterov": True}, "nesterov is True with momentum 0.0"),
    (optim.sgd, {"nesterov": True, "momentum": 0.9, "dampening": 0.1}, "and dampening 0.1, exp"),
]
for adam_like in (optim.adam, optim.adamw):
    REFUSED += [
        (adam_like, {"lr": -1.0}, "lr is -1.0, expected a number of at least 0"),
        (adam_like, {"lr": NAN}, "lr is nan, expected"),
        (adam_like, {"eps": -1e-8}, "eps is -1e-08, expected"),
        (adam_like, {"eps": NAN}, "eps is nan, expected"),
        (adam_like, {"weight_decay": -1.0}, "weight_decay is -1.0, expected"),
        (adam_like, {"betas": (1.0, 0.9)}, r"betas\[0\] is 1.0, expected a number in \[0, 1\)"),
        (adam_like, {"betas": (0.9, -0.1)}, r"betas\[1\] is -0.1, expected"),
        (adam_like, {"betas": (0.9, NAN)}, r"betas\[1\] is nan, expected"),
    ]
REFUSED += [
    (make, {name: bad}, f"{name} is {bad}, expected a number of at least 0")
    for make, names in {
        optim.rmsprop: ("lr", "alpha", "eps", "weight_decay", "momentum"),
        optim.adagrad: ("lr", "lr_decay", "weight_decay", "initial_accumulator_value", "eps"),
    }.items()
    for name in names
    for bad in (-1.0, NAN)
]


@each_row(("make", "options", "message"), REFUSED, ids=case_id)
def test_refused_as_in_torch(make, options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)
    with pytest.raises(ValueError):
        TORCH[make]([torch.zeros(1)], **options)


@pytest.fixture
def no_annotation_checks():
    """What a user without beartype sees."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


@pytest.mark.parametrize("make", TORCH, ids=case_id)
def test_refused_lr(make, no_annotation_checks):
    with pytest.raises(ValueError, match=r"lr has shape \(2,\), expected a scalar"):
        make(lr=jnp.ones(2))
    with pytest.raises(ValueError, match=r"lr has shape \(2,\), expected a scalar"):
        jax.vmap(lambda lr: make(lr=lr).init(jnp.ones(2)))(jnp.ones((3, 2)))
    with pytest.raises(ValueError, match="lr is -1.0, expected"):
        make(lr=jnp.array(-1.0))
    with pytest.raises(ValueError, match="lr is nan, expected"):
        make(lr=NAN)


def test_lr_that_is_not_known_yet_is_not_checked():
    grads = jnp.ones(2)
    schedule = optim.sgd(lr=lambda count: -1.0)
    assert_same_bits(schedule.update(grads, schedule.init(grads))[0], grads)
    traced = jax.jit(lambda lr: optim.sgd(lr=lr).update(grads, optim.sgd().init(grads))[0])
    assert_same_bits(traced(-1.0), grads)


def test_known_lr_is_checked_inside_jit():
    grads, lr, below = jnp.ones(2), jnp.array(2.0), jnp.array(-1.0)
    closed = jax.jit(lambda: optim.sgd(lr=lr).update(grads, optim.sgd().init(grads))[0])
    assert_same_bits(closed(), -2.0 * grads)
    with pytest.raises(ValueError, match="lr is -1.0, expected"):
        jax.jit(lambda: optim.sgd(lr=below).init(grads))()


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.complex64])
@pytest.mark.parametrize("make", [optim.adam, optim.rmsprop, optim.adagrad], ids=case_id)
def test_parameters_that_are_not_floating_point_are_refused(make, dtype, no_annotation_checks):
    with pytest.raises(TypeError, match=f"params have dtype {jnp.dtype(dtype)}, expected"):
        make().init(jnp.ones(2, dtype))
