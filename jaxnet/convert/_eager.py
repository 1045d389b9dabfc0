"""A torch net's own forward, seen from outside: what it draws, and what its modules give."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from jaxnet.convert._unsupported import Unsupported


class Drawn(NamedTuple):
    """A tensor that torch filled with random numbers."""

    module: str
    shape: tuple[int, ...]
    order: tuple[int, ...]
    """Its axes, outermost in memory first."""
    values: Any
    state: Any
    """torch's stream afterwards."""


class Seen:
    """What was seen of a forward: draws in their order, and modules' outputs by name."""

    def __init__(self) -> None:
        self.draws: list[Drawn] = []
        self.outputs: dict[str, Any] = {}
        """Fingerprints of what modules gave."""


def find_order(tensor: Any) -> tuple[int, ...]:
    """A tensor's axes, outermost in memory first; those of size 1 come before."""
    sizes, strides = tensor.shape, tensor.stride()
    axes = sorted((a for a in range(len(sizes)) if sizes[a] != 1), key=lambda a: -strides[a])
    return (*(a for a in range(len(sizes)) if sizes[a] == 1), *axes)


def fingerprint(tensor: Any) -> tuple[Any, ...]:
    """What tells one tensor's values from another's."""
    import torch

    values = tensor.detach().contiguous().reshape(-1)
    values = values.view(torch.uint8) if values.numel() else values
    return str(tensor.dtype), tuple(tensor.shape), hash(values.cpu().numpy().tobytes())


@contextmanager
def watching(net: Any, outputs: bool = True) -> Iterator[Seen]:
    """In here the net's forward is watched.

    Raises:
      Unsupported: it draws from a generator of its own.
    """
    seen, calls = Seen(), _Calls(net)
    handles = []
    for module in net.modules():
        handles.append(module.register_forward_pre_hook(lambda m, _: calls.begin(m)))
        handles.append(module.register_forward_hook(_make_end(calls, seen, outputs)))
    try:
        with _listen(seen, calls):
            yield seen
    finally:
        for handle in handles:
            handle.remove()


def _make_end(calls: "_Calls", seen: Seen, outputs: bool) -> Any:
    def end(module: Any, _: Any, output: Any) -> None:
        name = calls.end()
        if name and outputs:
            parts = dict(_name_parts(output, ""))
            first = next(iter(parts), "")
            for key, part in parts.items():
                seen.outputs[name if key == first else f"{name}[{key}]"] = fingerprint(part)

    return end


def _name_parts(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    import torch

    if isinstance(value, torch.Tensor):
        yield path, value
    elif isinstance(value, Mapping | tuple | list):
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, part in items:
            yield from _name_parts(part, f"{path}.{key}".lstrip("."))


class _Calls:
    """The calls of a net's modules, by name; one that runs again has "name#1"."""

    def __init__(self, net: Any) -> None:
        self._names: dict[int, list[str]] = {}
        for name, module in net.named_modules(remove_duplicate=False):
            self._names.setdefault(id(module), []).append(name)
        self._counts: dict[int, int] = {}
        self.running: list[str] = []

    def begin(self, module: Any) -> None:
        own = self._names.get(id(module), [""])
        index = self._counts[id(module)] = self._counts.get(id(module), -1) + 1
        again = f"{own[-1]}#{index - len(own) + 1}"
        self.running.append(own[index] if index < len(own) else again)

    def end(self) -> str:
        return self.running.pop()


def _listen(seen: Seen, calls: _Calls) -> Any:
    """In here every draw from torch's stream is noted."""
    import torch

    def hear(function: Any, kwargs: Mapping[str, Any], drawn: Any) -> None:
        module = (calls.running or [""])[-1]
        if kwargs.get("generator") is not None:
            place = f"module {module!r}" if module else "the net"
            said = f"{place} draws from a torch.Generator of its own, by {function}: torch's "
            raise Unsupported([said + "global stream alone has a translation"])
        if drawn is not None:
            about = module, tuple(drawn.shape), find_order(drawn)
            seen.draws.append(Drawn(*about, drawn.detach().clone(), torch.get_rng_state()))

    return _hear_draws(hear)


def replaying(draws: Sequence[Drawn]) -> Any:
    """What is drawn in here is what was drawn there, wherever in memory it lies, in that order.

    A graph lays out some tensors otherwise than its net, and torch fills them as they lie.
    """
    import torch

    left = iter(draws)

    def put(function: Any, kwargs: Mapping[str, Any], own: Any) -> None:
        if own is None:
            return
        drawn = next(left, None)
        if drawn is None or own.numel() != drawn.values.numel():
            raise Unsupported(["the graph draws other random numbers than the net"])
        own.detach().copy_(drawn.values.reshape(own.shape))
        torch.set_rng_state(drawn.state)

    return _hear_draws(put)


def _hear_draws(hear: Callable[[Any, Mapping[str, Any], Any], None]) -> Any:
    """A mode of torch's that tells, after each operation that may draw, what it drew, or None."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    class Mode(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            kwargs = kwargs or {}
            if torch.Tag.nondeterministic_seeded not in function.tags:
                return function(*args, **kwargs)
            before = torch.get_rng_state()
            result = function(*args, **kwargs)
            # A fused attention is marked as random, and draws nothing where its dropout is 0.
            same = torch.equal(before, torch.get_rng_state())
            drawn = result[1] if isinstance(result, tuple) else result
            hear(function, kwargs, None if same else drawn)
            return result

    return Mode()
