"""A rule held against torch's operator in some calls: value, and the gradient of every input.

In float64 the two must agree but for the order of sums; in float32 jaxnet's error against that may
be a small multiple of torch's own. One program computes all calls.
"""

import functools
import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch

import jaxnet.program.rules  # noqa: F401
import jaxnet.random
from jaxnet.certificate.bounds import RULE_FLOAT32, RULE_FLOAT64
from jaxnet.nn._kinds import fill
from jaxnet.program.registry import RULES
from jaxnet.random.mt19937 import host_doubles
from tests.helpers import assert_same_state, to_numpy
from tests.rule_cases import Call, Fixed


def find_operator(name: str) -> Any:
    namespace, operator, overload = name.split(".")
    return getattr(getattr(getattr(torch.ops, namespace), operator), overload)


class Made(NamedTuple):
    """What torch gives in a call, and the gradients."""

    outputs: list[Any]
    cotangents: list[np.ndarray | None]
    gradients: list[np.ndarray]


def _map(function: Any, value: Any) -> Any:
    """A function of every leaf of lists and tuples; a `Fixed` is a leaf."""
    if isinstance(value, list | tuple) and not isinstance(value, Fixed):
        return type(value)(_map(function, item) for item in value)
    return function(value)


def _leaves(call: Call) -> list[Any]:
    found: list[Any] = []
    _map(found.append, (*call.args, *call.keywords.values()))
    return [leaf for leaf in found if _is_input(leaf)]


def _is_input(leaf: Any) -> bool:
    return isinstance(leaf, np.ndarray) and leaf.dtype in (np.float64, np.complex128)


def _rounded(call: Call, dtype: Any) -> Call:
    """Floats rounded to float32 and then of this type."""

    def convert(leaf):
        if isinstance(leaf, Fixed):
            return Fixed(leaf.values.astype(np.float32).astype(dtype))
        if not _is_input(leaf):
            return leaf
        narrow = np.complex64 if np.iscomplexobj(leaf) else np.float32
        return leaf.astype(narrow).astype(np.result_type(narrow, dtype))

    keywords = {key: _map(convert, value) for key, value in call.keywords.items()}
    return call._replace(args=_map(convert, call.args), keywords=keywords)


def _spread(name: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """One number where the operator takes a list of them, as a list."""
    arguments = find_operator(name)._schema.arguments
    return tuple(
        [value] if isinstance(argument.type, torch.ListType) and type(value) is int else value
        for value, argument in zip(args, arguments, strict=False)
    )


def call_torch(name: str, call: Call) -> Made:
    inputs = []

    def convert(leaf):
        if isinstance(leaf, Fixed):
            return torch.tensor(leaf.values)
        if isinstance(leaf, np.ndarray):
            floating = np.issubdtype(leaf.dtype, np.inexact)
            inputs.append(tensor := torch.tensor(leaf, requires_grad=floating))
            return tensor
        known = isinstance(leaf, str) and isinstance(getattr(torch, leaf, None), torch.dtype)
        return getattr(torch, leaf) if known else leaf

    args = _map(convert, _spread(name, call.args))
    keywords = {key: _map(convert, value) for key, value in call.keywords.items()}
    torch.manual_seed(5)
    outputs = find_operator(name)(*args, **keywords)
    outputs = [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)
    outputs = [output.resolve_conj() for output in outputs]
    inputs = [tensor for tensor in inputs if tensor.requires_grad]
    slopes = [output.requires_grad and output.numel() > 0 for output in outputs]
    cotangents = [
        _cotangent(output, i) if slope else None
        for i, (output, slope) in enumerate(zip(outputs, slopes, strict=True))
    ]
    gradients = [np.zeros(tensor.shape, to_numpy(tensor).dtype) for tensor in inputs]
    if inputs and any(slopes):
        found = torch.autograd.grad(
            [output for output, slope in zip(outputs, slopes, strict=True) if slope],
            inputs,
            [torch.tensor(cotangent) for cotangent in cotangents if cotangent is not None],
            allow_unused=True,
        )
        gradients = [
            still if grad is None else grad.resolve_conj().numpy(force=True).copy()
            for still, grad in zip(gradients, found, strict=True)
        ]
    return Made([to_numpy(output) for output in outputs], cotangents, gradients)


def _cotangent(output: torch.Tensor, seed: int) -> np.ndarray:
    real, imaginary = np.random.default_rng(seed).normal(size=(2, *output.shape))
    return (real + 1j * imaginary if output.is_complex() else real).astype(to_numpy(output).dtype)


class Draws:
    """Draws from jaxnet's own stream as a rule asks for them."""

    def __init__(self) -> None:
        self.generator = jaxnet.random.manual_seed(5)

    def __call__(self, kind, parameter, shape, like_input=False):
        del like_input  # every tensor of these tables lies in memory row by row
        with jax.ensure_compile_time_eval():
            if kind == "multinomial":  # compiled code has no float64 here
                self.generator, values = host_doubles(self.generator, math.prod(shape))
            else:
                self.generator, values = fill(
                    self.generator, kind, parameter, shape, "float32", True
                )
        return values.reshape(shape)


def call_jax(name: str, call: Call, inputs: list[Any], outputs: list[Any], draws: Draws) -> Any:
    """What a rule gives for these values of a call's inputs, in the dtypes that torch gave."""
    rest = iter(inputs)

    def convert(leaf):
        if isinstance(leaf, Fixed):
            return jnp.asarray(leaf.values)
        if isinstance(leaf, np.ndarray):
            return next(rest) if np.issubdtype(leaf.dtype, np.inexact) else jnp.asarray(leaf)
        return leaf

    args = _map(convert, _spread(name, call.args))
    keywords = {key: _map(convert, value) for key, value in call.keywords.items()}
    own = RULES[name]
    if own.draws:
        keywords["draw"] = draws
    shapes = [jax.ShapeDtypeStruct(y.shape, _canonical(y.dtype)) for y in outputs]
    if own.wants_result:
        keywords["result"] = shapes[0]
    found = own.function(*args, **keywords)
    several = isinstance(found, list | tuple)
    assert several or len(outputs) == 1, f"torch gives {len(outputs)} arrays, the rule one"
    found = list(found) if several else [found]
    assert len(found) == len(outputs), f"torch gives {len(outputs)} arrays, the rule {len(found)}"
    for y, shape in zip(found, shapes, strict=True):
        assert jnp.shape(y) == shape.shape, f"shape {jnp.shape(y)}, torch {shape.shape}"
    return [jnp.asarray(y).astype(s.dtype) for y, s in zip(found, shapes, strict=True)]


def _canonical(dtype: Any) -> Any:
    return jax.dtypes.canonicalize_dtype(dtype)


def differentiate_all(calls: list[tuple[str, Call]], made: list[Made]) -> list[Any]:
    """Outputs and gradients of every call, of one program; where a rule raises, what it raised."""
    arrays, failed = [], {}
    for (_, call), torchs in zip(calls, made, strict=True):
        arrays.append((list(_floats(call)), [c for c in torchs.cotangents if c is not None]))

    def differentiate(number, inputs, cotangents):
        name, call = calls[number]
        torchs, draws = made[number], Draws()
        slopes = [cotangent is not None for cotangent in torchs.cotangents]

        def compute(inputs):
            outputs = call_jax(name, call, inputs, torchs.outputs, draws)
            return list(itertools.compress(outputs, slopes)), outputs

        _, pullback, outputs = jax.vjp(compute, inputs, has_aux=True)
        if draws.generator is not None and RULES[name].draws:
            call_torch(name, call)
            assert_same_state(draws.generator)
        # torch's gradient of a complex number is the conjugate of JAX's.
        return outputs, jax.tree.map(jnp.conj, pullback([jnp.conj(c) for c in cotangents])[0])

    # Most of the time goes into compiling, and none into running.
    @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def run(arrays):
        results = []
        for number, (inputs, cotangents) in enumerate(arrays):
            try:
                results.append(differentiate(number, inputs, cotangents))
            except Exception as error:
                failed[number] = error
                results.append(None)
        return results

    results = run(arrays)
    return [failed.get(number, result) for number, result in enumerate(results)]


def _floats(call: Call) -> Iterator[np.ndarray]:
    found: list[Any] = []
    _map(found.append, (*call.args, *call.keywords.values()))
    for leaf in found:
        if isinstance(leaf, np.ndarray) and np.issubdtype(leaf.dtype, np.inexact):
            yield leaf


def measure(found: np.ndarray, exact: np.ndarray, bound: np.ndarray | float, where: str) -> str:
    if found.shape != exact.shape:
        return f"{where}: shape {found.shape}, torch {exact.shape}"
    if not np.issubdtype(exact.dtype, np.inexact):
        wrong = found != exact
    else:
        wide = np.complex128 if np.iscomplexobj(exact) else np.float64
        found, exact = found.astype(wide), exact.astype(wide)
        with np.errstate(invalid="ignore"):
            near = np.abs(found - exact) <= bound
        wrong = ~(near | (found == exact) | (np.isnan(found) & np.isnan(exact)))
    if not wrong.any():
        return ""
    return f"{where}: {found[wrong].ravel()[:4]}, torch {exact[wrong].ravel()[:4]}"


def _size(array: np.ndarray) -> float:
    array = np.abs(np.where(np.isfinite(array), array, 0.0))
    return float(array.max(initial=1.0))


def compare(calls: list[tuple[str, Call]], dtype: Any) -> Iterator[str]:
    """The faults of rules in calls made in one precision."""
    rounded = [(name, _rounded(call, dtype)) for name, call in calls]
    made = []
    for name, call in rounded:
        try:
            made.append(call_torch(name, call))
        except Exception as error:
            raise AssertionError(f"torch does not take {name}{call}") from error
    exact = made
    if dtype == np.float32:
        exact = [call_torch(name, _rounded(call, np.float64)) for name, call in calls]
    results = differentiate_all(rounded, made)
    for (name, call), theirs, right, own in zip(rounded, made, exact, results, strict=True):
        label = f"{name}{call.args}{call.keywords}"[:300]
        if isinstance(own, Exception):
            yield f"{label}: {type(own).__name__}: {own}"[:900]
            continue
        pairs = [
            *zip(own[0], theirs.outputs, right.outputs, strict=True),
            *zip(own[1], theirs.gradients, right.gradients, strict=True),
        ]
        for i, (found, torchs, reference) in enumerate(pairs if call.values else []):
            where = f"output {i}" if i < len(own[0]) else f"gradient {i - len(own[0])}"
            reference = torchs if RULES[name].draws else reference
            fault = measure(np.asarray(found), *_expected(torchs, reference, dtype), where)
            if fault:
                yield f"{label}: {fault}"


def _expected(torchs: np.ndarray, reference: np.ndarray, dtype: Any) -> tuple[np.ndarray, Any]:
    """What must be found, and how far from it."""
    if dtype == np.float32 and torchs.dtype in (np.float64, np.complex128):
        # Asked for by the call itself; JAX has none in this precision.
        torchs = torchs.astype(np.float32 if torchs.dtype == np.float64 else np.complex64)
    if torchs.dtype in (np.float64, np.complex128):
        return torchs, RULE_FLOAT64.rtol * _size(torchs)
    if not np.issubdtype(torchs.dtype, np.inexact) or torchs.shape != reference.shape:
        return torchs, 0.0
    reference = reference.astype(np.result_type(reference, np.float64))
    limits = np.finfo(torchs.dtype)
    with np.errstate(invalid="ignore"):
        known = np.abs(reference) <= limits.max  # by numbers of this type too
        off = np.abs(np.where(known, reference - torchs, 0.0)).max(initial=0.0)
    eps = limits.eps
    return torchs, RULE_FLOAT32.rtol * (off + eps * _size(torchs))
