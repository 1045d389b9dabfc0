"""State under torch's names: variables, and an optimizer's moments; both ways."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxnet._utils.validation import check_mapping, nearest
from jaxnet.convert._unsupported import check_torch
from jaxnet.nn import Variables

BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
"""The last part of a buffer's name: what the collection "batch_stats" holds."""


def as_array(tensor: Any) -> np.ndarray:
    """A copy of a tensor of torch's, or of an array, on the host."""
    if hasattr(tensor, "detach"):
        tensor = tensor.detach().cpu().numpy()
    return np.array(tensor)


def from_tensors(state_dict: Mapping[str, Any]) -> Variables:
    """Variables by renaming alone: dotted names become nested ones, buffers their own collection.

    Raises ValueError where JAX's types would change a number: float64 without x64 mode, or an
    integer that int32 does not hold.
    """
    collections: dict[str, dict[tuple[str, ...], Any]] = {"params": {}}
    for name, tensor in state_dict.items():
        path = tuple(name.split("."))
        collection = "batch_stats" if path[-1] in BUFFERS else "params"
        collections.setdefault(collection, {})[path] = check_exact(name, as_array(tensor))
    return {collection: unflatten_dict(flat) for collection, flat in collections.items()}


def to_state_dict(variables: Any) -> dict[str, np.ndarray]:
    """Variables under torch's names, as NumPy copies, each layer's in torch's order.

    In torch, `net.load_state_dict({k: torch.from_numpy(v) for k, v in ....items()})`.

    >>> variables = {"params": {"0": {"bias": np.ones(1), "weight": np.ones((1, 2))}}}
    >>> list(to_state_dict(variables))
    ['0.weight', '0.bias']
    """
    check_mapping("variables", variables, "collections")
    named = {}
    for collection, tree in variables.items():
        check_mapping(f"variables: {collection!r}", tree, "arrays")
        for path, leaf in flatten_dict(tree).items():
            if not isinstance(leaf, jax.Array | np.ndarray | np.generic | int | float):
                raise TypeError(f"variables must hold arrays, not {leaf!r:.60}")
            integer = jnp.issubdtype(jnp.result_type(leaf), jnp.integer)
            named[".".join(path)] = np.array(leaf, np.int64 if integer else None)
    return dict(sorted(named.items(), key=lambda item: _torch_order(item[0])))


_ORDER = ("weight", "bias", *BUFFERS)


def _torch_order(name: str) -> Any:
    """Layers by number, and in a layer the weight first."""
    *layers, last = name.split(".")
    place = [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in layers]
    return place, _ORDER.index(last) if last in _ORDER else len(_ORDER), last


def from_state_dict(state_dict: Mapping[str, Any], like: Variables) -> Variables:
    """A `state_dict` (of torch's tensors or of arrays) as variables of the shape of `like`.

    Raises:
      ValueError: a tensor is missing, too many, or has another shape or type than in `like`; all
        such faults are listed, and nothing is loaded.

    >>> like = {"params": {"0": {"weight": jnp.zeros((1, 2))}}}
    >>> from_state_dict({"0.weight": np.array([[1.0, 2.0]], np.float32)}, like)
    {'params': {'0': {'weight': Array([[1., 2.]], dtype=float32)}}}
    """
    check_mapping("state_dict", state_dict, "tensors")
    check_mapping("like", like, "collections")
    found = {name: as_array(tensor) for name, tensor in state_dict.items()}
    check_tensors(kinds_of(found), kinds_of(to_state_dict(like)))
    return from_tensors(found)


Kinds = Mapping[str, tuple[tuple[int, ...], str]]
"""Shape and dtype by name."""


def kinds_of(arrays: Mapping[str, np.ndarray]) -> Kinds:
    """Those of arrays in memory."""
    return {name: (array.shape, array.dtype.name) for name, array in arrays.items()}


_PAIRS = 10_000  # of names, each compared: a second, about


def check_tensors(found: Kinds, expected: Kinds, source: str = "state_dict") -> None:
    """Reject tensors that are not exactly those expected, with every fault in one ValueError."""
    missing = [name for name in expected if name not in found]
    extra = [name for name in found if name not in expected]
    faults = [f"{name}: missing" for name in missing]
    near = missing if len(missing) * len(extra) <= _PAIRS else ()
    faults += [f"{name}: not expected{nearest(name, near)}" for name in extra]
    for name in (name for name in expected if name in found):
        for what, is_, should in zip(("shape", "type"), found[name], expected[name], strict=True):
            if is_ != should:
                faults.append(f"{name}: {what} {is_}, expected {should}")
    if faults:
        raise ValueError(f"{source} does not fit, nothing was loaded:\n" + "\n".join(faults))


def check_exact(name: str, array: np.ndarray) -> Any:
    """The array as JAX has it; a ValueError where its types would change a number."""
    converted = jax.device_put(array)  # compiles nothing for a new shape
    if not np.array_equal(np.asarray(converted), array, equal_nan=array.dtype.kind == "f"):
        raise ValueError(
            f"{name} is {array.dtype} and would be rounded to {converted.dtype}: convert it in "
            "torch, or set jax_enable_x64"
        )
    if array.dtype == np.float64 and converted.dtype != np.float64:
        raise ValueError(f"{name} is float64, which needs jax_enable_x64")
    return converted


class Slot(NamedTuple):
    """A leaf of an optimizer's state: torch's name for it, its group, its parameter."""

    field: str
    group: str
    """The label in an `optax.partition`, "" without one."""
    parameter: str
    """The parameter's dotted name, "" for what the group has in common."""

    @property
    def name(self) -> str:
        """As files name it: `exp_avg.0.weight`, `step`, `step.group1`."""
        if self.parameter:
            return f"{self.field}.{self.parameter}"
        return f"{self.field}.group{self.group}" if self.group else self.field


_STATE = {
    "SGD": {"momentum_buffer"},
    "Adam": {"exp_avg", "exp_avg_sq", "max_exp_avg_sq"},
    "AdamW": {"exp_avg", "exp_avg_sq", "max_exp_avg_sq"},
    "RMSprop": {"square_avg", "momentum_buffer", "grad_avg"},
    "Adagrad": {"sum"},
}

_FIELDS = {"trace": "momentum_buffer"}  # optax's names for what torch names


def opt_state_slots(opt_state: Any) -> list[tuple[Slot, Any]]:
    """Every leaf of an optimizer's state, in the order of `jax.tree.leaves`, and what it is."""
    leaves = jax.tree_util.tree_flatten_with_path(opt_state)[0]
    return [(_slot(path), leaf) for path, leaf in leaves]


def _slot(path: tuple[Any, ...]) -> Slot:
    attributes = [i for i, key in enumerate(path) if isinstance(key, jax.tree_util.GetAttrKey)]
    groups = [str(path[i + 1].key) for i in attributes if path[i].name == "inner_states"]
    rest = path[attributes[-1] + 1 :] if attributes else path
    field = path[attributes[-1]].name if attributes else "state"
    parameter = ".".join(str(getattr(key, "key", getattr(key, "idx", key))) for key in rest)
    return Slot(_FIELDS.get(field, field), groups[-1] if groups else "", parameter)


def opt_state_from_torch(optimizer: Any, net: Any, like: Any, *, count: int = 0) -> Any:
    """The state of one of torch's optimizers as that of its translation.

    Args:
      optimizer: torch's, with whatever state it has by now.
      net: the net whose parameters it has.
      like: `optimizer_from_torch(optimizer, net).init(params)`, which gives the form.
      count: the steps that a schedule counts from, which torch keeps in the scheduler.

    Raises:
      ValueError: the parameters of a group have done different numbers of steps, or torch's state
        lacks something that a step needs.

    >>> import torch, jaxnet
    >>> net = torch.nn.Linear(1, 1)
    >>> optimizer = torch.optim.Adam(net.parameters())
    >>> like = jaxnet.convert.optimizer_from_torch(optimizer, net).init({"bias": jnp.ones(1)})
    >>> opt_state_from_torch(optimizer, net, like) == like
    True
    """
    check_torch("optimizer", optimizer, "torch.optim", "torch.optim.Optimizer")
    check_torch("net", net, "torch.nn", "torch.nn.Module")
    states = {
        name: {key: value for key, value in optimizer.state.get(p, {}).items() if value is not None}
        for name, p in net.named_parameters()
    }
    slots = opt_state_slots(like)
    members: dict[str, list[str]] = {}
    for slot, _ in slots:
        if slot.parameter:
            if slot.parameter not in states:
                said = f"{slot.parameter!r}, which net has not{nearest(slot.parameter, states)}"
                raise ValueError(f"like has a parameter {said}")
            members.setdefault(slot.group, []).append(slot.parameter)
    filled = []
    for slot, leaf in slots:
        if slot.field == "count":
            value = count
        elif slot.parameter:
            value = states[slot.parameter].get(slot.field) if states[slot.parameter] else leaf
        else:
            value = _common(slot, [states[name] for name in members.get(slot.group, [])])
        if value is None:
            raise ValueError(f"optimizer has no {slot.field!r} for {slot.parameter!r}")
        filled.append(jnp.asarray(as_array(value), leaf.dtype).reshape(leaf.shape))
    return jax.tree.unflatten(jax.tree.structure(like), filled)


def _common(slot: Slot, states: list[dict[str, Any]]) -> Any:
    """What a group has in common, from its parameters' states."""
    if slot.field == "started":
        return any("momentum_buffer" in state for state in states)
    values = {float(state.get(slot.field, 0)) for state in states}
    if len(values) > 1:
        raise ValueError(
            f"the parameters of group {slot.group or 0} have done {sorted(values)} steps: "
            "optimizer has one count for each group here"
        )
    return values.pop() if values else 0


def opt_state_to_torch(opt_state: Any, optimizer: Any, net: Any) -> dict[str, Any]:
    """The state as `optimizer.state_dict()` has it, with NumPy arrays for tensors.

    torch's own options of the groups stay: this is for the optimizer that was translated.
    `torchref.handover.to_torch` loads it.

    Raises:
      ValueError: the optimizer is another net's, or of another class than the state's.
    """
    check_torch("optimizer", optimizer, "torch.optim", "torch.optim.Optimizer")
    check_torch("net", net, "torch.nn", "torch.nn.Module")
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    if any(id(p) not in names for group in optimizer.param_groups for p in group["params"]):
        raise ValueError("optimizer has parameters that net has not")
    saved = optimizer.state_dict()
    slots = opt_state_slots(opt_state)
    known = _STATE.get(type(optimizer).__name__, set()) | {"count", "started", "step"}
    if strange := {slot.field for slot, _ in slots} - known:
        raise ValueError(
            f"opt_state is another optimizer's: it has {sorted(strange)}, which torch's "
            f"{type(optimizer).__name__} has not"
        )
    started = {slot.group: bool(leaf) for slot, leaf in slots if slot.field == "started"}
    state: dict[int, dict[str, Any]] = {}
    pairs = zip(optimizer.param_groups, saved["param_groups"], strict=True)
    for number, (group, indices) in enumerate(pairs):
        for parameter, index in zip(group["params"], indices["params"], strict=True):
            own = {
                slot.field: np.array(leaf, np.float32 if slot.field == "step" else None)
                for slot, leaf in slots
                if slot.parameter == names[id(parameter)]
                or (slot.field == "step" and slot.group in ("", str(number)))
            }
            # A buffer that torch has not made yet: the first gradient enters it undamped.
            if own and started.get(str(number), started.get("", True)):
                state[index] = own
    return {"state": state, "param_groups": saved["param_groups"]}
