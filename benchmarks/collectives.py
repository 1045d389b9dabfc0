"""What a compiled program sends between devices, read from the program itself."""

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

KINDS = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "ragged-all-to-all",
    "collective-permute",
    "collective-broadcast",
)
_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_LINE = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*)$")
_SHAPE = re.compile(r"\b([a-z][a-z0-9]*)\[([\d,]*)\]")
_CALLED = re.compile(r"(?:body|to_apply|calls|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


class Collective(NamedTuple):
    """One operation in which devices exchange numbers, and how often it runs."""

    kind: str
    """"all-reduce" or another of `KINDS`."""
    tensors: int
    """Operands: XLA combines several tensors into one operation."""
    bytes: int
    """Of the operands, on each device."""
    loops: tuple[int | None, ...]
    """How often each loop around it turns, from the outermost; None where the program is told."""


def list_collectives(text: str) -> list[Collective]:
    """The collectives of an optimized HLO module, `jit(f).lower(...).compile().as_text()`.

    >>> hlo = '''
    ... ENTRY %main (x: f32[4]) -> f32[4] {
    ...   %x = f32[4]{0} parameter(0)
    ...   ROOT %sum = f32[4]{0} all-reduce(%x), to_apply=%add
    ... }'''
    >>> list_collectives(hlo)
    [Collective(kind='all-reduce', tensors=1, bytes=16, loops=())]
    """
    computations, entry = _split(text)
    return list(_walk(computations, entry, ()))


def count_bytes(collectives: Sequence[Collective]) -> int:
    """Bytes of their operands on each device, a loop of unknown length taken once.

    >>> count_bytes([Collective("all-reduce", 1, 16, (None, 10))])
    160
    """
    return sum(collective.bytes * _count(collective) for collective in collectives)


def count_runs(collectives: Sequence[Collective]) -> int:
    """How often one of them runs, a loop of unknown length taken once.

    >>> count_runs([Collective("all-reduce", 1, 16, (None, 10))])
    10
    """
    return sum(map(_count, collectives))


def _count(collective: Collective) -> int:
    return math.prod(turns for turns in collective.loops if turns is not None)


Lines = dict[str, tuple[str, str]]
"""The lines of a computation: a name's type, and what follows it."""


def _split(text: str) -> tuple[dict[str, Lines], str]:
    computations: dict[str, Lines] = defaultdict(dict)
    entry = name = ""
    for line in text.splitlines():
        if head := _HEAD.match(line):
            name = head[2]
            entry = name if head[1] else entry
        elif found := _LINE.match(line):
            computations[name][found[1]] = _cut_type(found[2])
    if not entry:
        raise ValueError("the text must be an HLO module, with an ENTRY computation")
    return computations, entry


def _cut_type(rest: str) -> tuple[str, str]:
    """A type, which may be a tuple of them in brackets, and the operation after it."""
    end = _close(rest) + 1 if rest.startswith("(") else rest.index(" ")
    return rest[:end], rest[end:].strip()


def _close(text: str) -> int:
    """Where the bracket closes that a text begins with."""
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return place
    raise ValueError(f"a bracket is not closed: {text:.60}")


def _walk(
    computations: dict[str, Lines], name: str, loops: tuple[int | None, ...]
) -> Iterator[Collective]:
    lines = computations.get(name, {})
    for _, operation in lines.values():
        opcode = operation.partition("(")[0]
        kind = opcode.removesuffix("-start")  # what `-done` ends was counted where it started
        if kind in KINDS:
            sizes = [_count_size(lines[operand][0]) for operand in _list_operands(operation)]
            yield Collective(kind, len(sizes), sum(sizes), loops)
            continue
        around = loops
        if opcode == "while":
            trips = _TRIPS.search(operation)
            around = (*loops, int(trips[1]) if trips else None)
        called = _CALLED.findall(operation)
        for branches in _BRANCHES.findall(operation):
            called += [branch.strip().lstrip("%") for branch in branches.split(",")]
        for inner in called:
            yield from _walk(computations, inner, around)


def _list_operands(operation: str) -> list[str]:
    inside = operation[operation.index("(") :]
    inside = inside[1 : _close(inside)]
    return re.findall(r"%([\w.\-]+)", inside)


def _count_size(type_: str) -> int:
    """Bytes of a type, such as "(f32[32]{0}, pred[4]{0})"."""
    total = 0
    for kind, shape in _SHAPE.findall(type_):
        count = 1
        for size in filter(None, shape.split(",")):
            count *= int(size)
        total += count * _count_bits(kind) // 8
    return total


def _count_bits(kind: str) -> int:
    if kind in ("token", "opaque"):
        return 0
    digits = re.match(r"[a-z]+(\d+)", kind)
    return 8 if digits is None else int(digits[1])
