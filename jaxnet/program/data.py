"""A torch net's graph as plain data: nodes, where each comes from, and the tensors they use."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jaxnet._utils.digests import digest_array

Size = int | str | None
"""Of an axis: a number, an expression such as "64*s77" of sizes of the inputs' axes, or None where
torch did not know it."""


@dataclass(frozen=True)
class Ref:
    """The value of an input or of a node, by its name."""

    name: str


@dataclass(frozen=True)
class Spec:
    """Shape and dtype of an array, as torch had them."""

    shape: tuple[Size, ...]
    dtype: str

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class Input:
    """A value that nodes use and none computes."""

    name: str
    kind: str
    """"tensor" (a parameter or a buffer) or "constant", which `target` names, or "user"."""
    target: str | None = None
    spec: Spec | None = None
    value: Any = None
    """Of an argument that is no tensor: what it was, and must be again."""


@dataclass(frozen=True)
class Node:
    """One operation, and where in torch's program it stands."""

    name: str
    op: str
    """"aten.conv2d.default", or "sym.mul" for what is computed of sizes and tuples."""
    args: tuple[Any, ...] = ()
    kwargs: tuple[tuple[str, Any], ...] = ()
    result: Any = None
    """A `Spec`, a tuple of them (None where it has no tensor), or None for a number."""
    orders: tuple[Any, ...] = ()
    """For each draw of it the axes, outermost in memory first, and None where they lie as usual;
    or pairs `(sizes, axes)` where they depend on the sizes of the inputs."""
    module: str = ""
    """torch's name of the innermost module, "layer1.0.conv1"."""
    kind: str = ""
    """Its class."""
    call: int = 0
    """Which call of it, from 0 on."""
    where: str = ""
    """The line, "torchvision/models/resnet.py:92"."""
    code: str = ""
    """What stands there."""

    @property
    def place(self) -> str:
        """Where it stands, for messages."""
        module = f"module {self.module!r}" if self.module else "the net"
        kind = f" ({self.kind})" if self.kind else ""
        line = f", {self.where}" if self.where else ""
        return f"{module}{kind}{line}{': ' if self.code else ''}{self.code}"


@dataclass(frozen=True)
class Output:
    """What a program gives: to the caller, or to a buffer that `target` names."""

    value: Any
    target: str | None = None


@dataclass(frozen=True)
class Symbol:
    """A size of the inputs that may vary, and how far."""

    name: str
    most: int | None = None


def _quiet(default: Any = ()) -> Any:
    return field(default=default, compare=False)


@dataclass(frozen=True)
class Program:
    """A graph in training or in evaluation mode; equal to another by its digest."""

    inputs: tuple[Input, ...] = _quiet()
    nodes: tuple[Node, ...] = _quiet()
    outputs: tuple[Output, ...] = _quiet()
    in_tree: Any = _quiet(None)
    """How the call's `(args, kwargs)` are nested, "*" for each leaf."""
    out_tree: Any = _quiet(None)
    symbols: tuple[Symbol, ...] = _quiet()
    layers: tuple[tuple[str, str], ...] = _quiet()
    """Names of what modules gave, and which value each is."""
    constants: Mapping[str, np.ndarray] = field(default_factory=dict, compare=False)
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        whole = hashlib.sha256()
        for part in (self.inputs, self.nodes, self.outputs, self.in_tree, self.out_tree):
            whole.update(repr(part).encode())
        whole.update(repr((self.symbols, self.layers)).encode())
        for name, array in sorted(self.constants.items()):
            whole.update(f"{name} {digest_array(array)}".encode())
        object.__setattr__(self, "digest", whole.hexdigest())

    def __repr__(self) -> str:
        return f"Program({len(self.nodes)} operations, {self.digest[:8]})"

    @property
    def users(self) -> tuple[Input, ...]:
        """The arguments of the call, in order."""
        return tuple(each for each in self.inputs if each.kind == "user")


@dataclass(frozen=True)
class Tensor:
    """A parameter or a buffer: torch's name, and what Flax knows of it."""

    name: str
    collection: str
    """"params", "batch_stats" for what a BatchNorm counts, "buffers" for the others."""
    spec: Spec
    frozen: bool = False
    """Whether torch's `requires_grad` is False: it gets no gradient."""


@dataclass(frozen=True)
class Port:
    """A net: its two programs, and the tensors that they share."""

    train: Program
    evaluate: Program
    tensors: tuple[Tensor, ...] = field(repr=False)
    aliases: tuple[tuple[str, str], ...] = ()
    """Further names of shared tensors, and the first name of each."""
    checked: bool = False
    """Whether two steps of the graph were held against the net in torch."""
    start: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """The tensors as the net had them: what `init` gives."""
    others: tuple[tuple[Program, Program], ...] = field(default=(), repr=False)
    """The two for inputs of other sizes, where those of one export may not vary."""

    def list_programs(self, train: bool) -> tuple[Program, ...]:
        """Those of a mode, for inputs of different sizes."""
        own = (self.train, self.evaluate), *self.others
        return tuple(pair[not train] for pair in own)


def list_refs(value: Any) -> Iterator[str]:
    """The names of the values that an argument is made of.

    >>> list(list_refs((Ref("x"), [1, Ref("y")])))
    ['x', 'y']
    """
    if isinstance(value, Ref):
        yield value.name
    elif isinstance(value, tuple | list):
        for part in value:
            yield from list_refs(part)
