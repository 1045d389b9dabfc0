"""The rules: what each operator of a torch graph computes, looked up by the operator's name."""

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


class Rule(NamedTuple):
    """What an operator computes, and what its function asks for beside the operator's arguments."""

    function: Callable[..., Any]
    """Takes what torch's operator takes, under its names: arrays for tensors, "float32" for a
    dtype. Arguments that say where and how memory lies are left out."""
    draws: bool
    """Whether it takes `draw(kind, parameter, shape, like_input=False)`, which gives what torch
    draws at random."""
    wants_result: bool
    """Whether it takes `result`, shape and dtype of what torch gives (`jax.ShapeDtypeStruct`)."""

    @property
    def source(self) -> str:
        """The module that it stands in, `jaxnet.program.rules.norms`."""
        return getattr(
            self.function, "func", self.function
        ).__module__  # a partial's own is functools


RULES: dict[str, Rule] = {}
"""Every rule, by names such as "aten.softmax.int"; `rule` adds to it."""


def rule(*names: str, replace: bool = False) -> Callable[[Function], Function]:
    """Register a function as what torch's operators of these names compute.

    The function takes what the operator takes, in torch's order and under torch's names, arrays
    for tensors, and gives an array, or a tuple where torch gives several. dtypes are names, such
    as "float32", or None. `device`, `layout`, `pin_memory`, `memory_format`, `non_blocking` and
    `generator` are left out. It must go through jit, and have torch's gradient as well as its
    value. What it gives is cast to the dtype that torch gave, and must have the same shape.

    It is given more where it names a keyword:

    - `draw(kind, parameter, shape, like_input=False)` draws as torch does, in the order of the
      calls: "keep" (parameter: the probability that an element is True), "uniform", "normal",
      "exponential" (the rate), "randint" (low, high), "randperm" (n), "multinomial".
      `like_input` says that torch fills elements in the order in which the operator's first
      tensor has them in memory.
    - `result` is the shape and dtype of what torch gives, a `jax.ShapeDtypeStruct`.

    Raises:
      ValueError: a name is not of the form "namespace.operator.overload", or has a rule already
        and `replace` is False. A rule that is replaced stays so for the whole process.
      TypeError: what is registered is no function.

    >>> @rule("doctest.twice.default")
    ... def twice(x):
    ...     return 2 * x
    >>> RULES["doctest.twice.default"].function(3.0), RULES.pop("doctest.twice.default").draws
    (6.0, False)

    torch's counterpart is `torch.library.register_fake`, which says what an operator of one's own
    gives where nothing is computed.
    """
    for name in names:
        if not isinstance(name, str) or not re.fullmatch(r"\w+\.\w+\.\w+", name):
            raise ValueError(
                f"name must be one of torch's operators such as 'aten.relu.default', not {name!r}"
            )
        if name in RULES and not replace:
            raise ValueError(
                f"name {name!r} has a rule already, of {RULES[name].source}: pass replace=True to "
                "put another in its place"
            )

    def register(function: Function) -> Function:
        if not callable(function):
            raise TypeError(f"a rule must be a function, not {function!r}")
        parameters = inspect.signature(function).parameters
        for name in names:
            RULES[name] = Rule(function, "draw" in parameters, "result" in parameters)
        return function

    return register


def is_random(op: str) -> bool:
    """Whether an operation draws at random."""
    return op in RULES and RULES[op].draws


def aten(names: str) -> Callable[[Function], Function]:
    """`rule` for torch's own operators, "relu softmax.int"; without an overload, of the default.

    >>> aten("doctest doctest.Scalar")(abs) is RULES.pop("aten.doctest.Scalar").function
    True
    >>> RULES.pop("aten.doctest.default").draws
    False
    """
    full = (name if "." in name else f"{name}.default" for name in names.split())
    return rule(*(f"aten.{name}" for name in full))


def tabulate(table: Mapping[str, Callable[..., Any]]) -> None:
    """Register each function of a table under the names before it, as `aten` takes them."""
    for names, function in table.items():
        aten(names)(function)
