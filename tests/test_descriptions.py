"""What a run is, in words: each changed setting is named with both values, and nothing else is."""

import argparse
import dataclasses
import functools
import json
import logging
import types
from collections.abc import Callable
from typing import Any

import beartype
import flax.linen
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import optax
import pytest

import jaxnet
from jaxnet import optim
from jaxnet._utils.descriptions import describe
from jaxnet._utils.differences import list_differences
from jaxnet.callbacks import Callback, Stop
from tests.helpers import each_row
from tests.tiny import X, Y

WEIGHT = {"now": 1.0}
SETTINGS = argparse.Namespace(rate=0.1, folder="here")


def identify(step: Any, **options: Any) -> dict[str, Any]:
    """What a checkpoint of such a run would hold of it; nothing is trained."""
    found: list[dict[str, Any]] = []

    class Look(Callback):
        def on_start(self, run):
            found.append(run.describe())
            raise Stop

    run = functools.partial(jaxnet.train.run, epochs=1, seed=1, callbacks=[Look()], **options)
    run(step, jnp.ones(()), (X, Y))
    return json.loads(json.dumps(found[0]))


def scale_by(factor: Any) -> optax.GradientTransformation:
    """An optimizer of the user's own."""

    def update(updates, state, params=None):
        return jax.tree.map(lambda update: -factor * update, updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def read_by(call: Any) -> Any:
    """The same, which calls what it closes over."""
    return scale_by(1.0)._replace(update=lambda updates, state, params=None: call(updates, state))


def schedule(rate: float) -> optax.GradientTransformation:
    decay = optax.exponential_decay(rate, 10, 0.5)
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(decay))


@dataclasses.dataclass(frozen=True)
class Field:
    rate: float

    def __call__(self, updates, state):
        return updates, self


class Attribute:
    def __init__(self, rate):
        self.rate = rate

    def scale(self, updates, state):
        return updates, self.rate


class Slot:
    """Without a dictionary of attributes."""

    __slots__ = ("rate",)

    def __init__(self, rate):
        self.rate = rate


RATES: dict[str, tuple[Callable[[float], Any], str, str, str]] = {
    "sgd": (optim.sgd, "lr", "0.1", "0.2"),
    "adam": (optim.adam, "lr", "0.1", "0.2"),
    "a traced rate": (lambda r: optim.adam(jnp.float32(r)), "lr", "float32 0.1", "float32 0.2"),
    "step_lr": (lambda r: optim.sgd(optim.step_lr(r, 3)), "lr.lr", "0.1", "0.2"),
    "lambda_lr": (
        lambda r: optim.sgd(optim.lambda_lr(1.0, lambda epoch: r, epochs=2)),
        "lr.factors",
        "float64 [0.1 0.1]",
        "float64 [0.2 0.2]",
    ),
    "optax.sgd": (optax.sgd, "1.step_size", "-0.1", "-0.2"),
    "chain": (schedule, "1.1.step_size_fn.learning_rate.init_value", "0.1", "0.2"),
    "jaxnet's in a chain": (
        lambda r: optax.chain(optax.clip(1.0), optim.sgd(r)),
        "1.lr",
        "0.1",
        "0.2",
    ),
    "injected": (
        lambda r: optax.inject_hyperparams(optax.adam)(learning_rate=r),
        "numeric_hps.learning_rate",
        "0.1",
        "0.2",
    ),
    "several steps": (
        lambda r: optax.MultiSteps(optax.sgd(r), 2).gradient_transformation(),
        "self._opt.1.step_size",
        "-0.1",
        "-0.2",
    ),
    "partition": (
        lambda r: optax.partition({"a": optax.sgd(r)}, lambda params: "a"),
        "transforms.a.1.step_size",
        "-0.1",
        "-0.2",
    ),
    "a number": (scale_by, "factor", "0.1", "0.2"),
    "an array": (lambda r: scale_by(np.float32(r)), "factor", "float32 0.1", "float32 0.2"),
    "few": (lambda r: scale_by(np.full(1, r)), "factor", "float64 [0.1]", "float64 [0.2]"),
    "a dataclass": (lambda r: read_by(Field(r)), "call.rate", "0.1", "0.2"),
    "a method": (lambda r: read_by(Attribute(r).scale), "call.self.rate", "0.1", "0.2"),
    "a slot": (lambda r: read_by(Slot(r)), "call.rate", "0.1", "0.2"),
    "a partial": (
        lambda r: read_by(functools.partial(jnp.multiply, r)), "call.0", "0.1", "0.2"),
    "a namespace": (lambda r: read_by(types.SimpleNamespace(r=r)), "call.r", "0.1", "0.2"),
}  # fmt: skip
"""Optimizers of a rate, the name of their rate, and what is shown of 0.1 and 0.2."""


@each_row("name", RATES)
def test_another_rate_is_named_with_both_numbers(name):
    make, where, first, second = RATES[name]
    saved, same, other = (describe(make(rate)) for rate in (0.1, 0.1, 0.2))
    assert list_differences(saved, same) == {}
    assert list_differences(saved, other) == {where: (first, second)}


def step(weight, batch, draws):
    """A step that reads what is around it."""
    rate = SETTINGS.rate * WEIGHT["now"]  # a comment
    return halve(weight) - rate, weight


def halve(weight):
    return weight / 2


def test_a_step_is_its_source_and_what_it_reads(monkeypatch):
    """Globals, functions it calls and their globals; of a namespace what it takes of it."""
    begun = identify(step)
    assert "comment" not in begun["step"]["source code"] and '"""' not in str(begun)
    assert begun["step"]["halve"][""] == "tests.test_descriptions.halve"
    monkeypatch.setattr(SETTINGS, "folder", "there")
    assert identify(step) == begun
    for target, name, value, expected in [
        (SETTINGS, "rate", 0.3, {"step.SETTINGS.rate": ("0.1", "0.3")}),
        (WEIGHT, "now", 2.0, {"step.WEIGHT.now": ("1.0", "2.0")}),
    ]:
        with monkeypatch.context() as patch:
            (patch.setitem if isinstance(target, dict) else patch.setattr)(target, name, value)
            assert list_differences(begun, identify(step)) == expected
    monkeypatch.setitem(globals(), "halve", lambda weight: weight / 3)
    ((name, (_, now)),) = list_differences(begun, identify(step)).items()
    assert name == "step.halve" and now.endswith("reads.<lambda>")


def test_about_stands_for_a_step():
    one, other = (identify(s, about={"rate": 0.1}) for s in (step, lambda w, *_: (w, w)))
    assert one == other and one["step"] == {"rate": 0.1}
    found = list_differences(one, identify(step, about={"rate": 0.2}))
    assert found == {"step.rate": ("0.1", "0.2")}
    for about in ({"rate": object()}, {"rate": float("nan")}):
        with pytest.raises(TypeError, match="about must be a dictionary that JSON can hold"):
            identify(step, about=about)


class Wide(flax.linen.Module):
    """A net of the user's own."""

    width: int = 3

    @flax.linen.compact
    def __call__(self, x):
        return flax.linen.Dense(self.width)(x) * WEIGHT["now"]


def test_a_net_of_ones_own_is_its_fields_its_source_and_its_globals(monkeypatch):
    begun = describe(Wide())
    assert list_differences(begun, describe(Wide(4))) == {"width": ("3", "4")}
    monkeypatch.setitem(WEIGHT, "now", 2.0)
    assert list_differences(begun, describe(Wide())) == {"WEIGHT.now": ("1.0", "2.0")}
    assert "Dense(self.width)" in begun["source code"] and "of the user's own" not in str(begun)


def loop(seen=()):
    return loop, seen


def checked(rate: float) -> Callable:
    """A function that the decorator of a library has wrapped."""

    @jaxtyping.jaxtyped(typechecker=beartype.beartype)
    def scale(weight: float) -> float:
        return weight * rate

    return scale


SAME: dict[str, Callable[[], Any]] = {
    "a lambda": lambda: lambda x: {1: x, "b": x in {"a", "b", "c"}},
    "a function that calls itself": lambda: loop,
    "compiled": lambda: jax.jit(lambda x: jax.vmap(halve)(x)),
    "a set": lambda: {"c", "a", "b"},
    "a logger": lambda: logging.getLogger("tests"),
    "a class": lambda: Attribute,
    "checked": lambda: checked(0.1),
    "derived": lambda: jax.checkpoint(jax.grad(jax.vmap(halve))),
    "large": lambda: scale_by(np.arange(100)),
    "without source": lambda: eval("lambda x: x * 2 in {1, 'a', 'b'}"),
    "key": lambda: jax.random.key(3),
    **{name: lambda make=make: make(0.1) for name, (make, *_) in RATES.items()},
}


def spell() -> str:
    """Descriptions as texts, the same in every process."""
    return json.dumps({name: describe(make()) for name, make in SAME.items()})


def test_no_description_has_an_address_or_a_path():
    text = spell()
    assert spell() == text and "0x" not in text and __file__ not in text and "/tmp" not in text


@each_row(
    "one, other, name",
    [
        (lambda x: x * 2, lambda x: x * 3, "source code"),
        (eval("lambda x: x * 2"), eval("lambda x: x * 3"), "source code"),
        (functools.partial(halve), lambda w: w / 2, ""),
        ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}, "a.1.b"),
        ({"a": [1, 2]}, {"a": [1, 3]}, "a"),
        ({"a": float("nan")}, {"a": 1.0}, "a"),
        (np.arange(100), np.arange(100) + 1, ""),
        (jax.random.key(1), jax.random.key(2), ""),
        (jax.vmap(halve), jax.vmap(halve, in_axes=1), "fun.in_axes"),
        (jax.grad(jnp.sin), jax.grad(jnp.cos), ""),
        (checked(0.1), checked(0.2), "rate"),
        (optim.sgd(0.1), optim.sgd(optim.step_lr(0.1, 2)), "lr"),
        ("x = 1\n" + "+ 1" * 99 + "0.1" + "+ 1" * 99, "x = 1\n" + "+ 1" * 99 + "0.2", ""),
    ],
)
def test_what_differs_is_told_apart(one, other, name):
    ((found, shown),) = list_differences(describe(one), describe(other)).items()
    assert found == name and shown[0] != shown[1] and max(map(len, shown)) < 110
    assert list_differences(describe(one), describe(one)) == {}


def test_slots_are_read_as_attributes_are():
    class One:
        __slots__ = "rate"

    class Two(One):
        __slots__ = ("__hidden", "empty")

        def __init__(self, rate, hidden):
            self.rate, self.__hidden = rate, hidden

    found = describe(Two(0.5, 3))
    assert (found["rate"], found["_Two__hidden"]) == (0.5, 3) and "empty" not in found
