"""safetensors files: variables, and whole states of a run, written and read without torch."""

import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from jaxnet._utils.files import as_path, write_whole
from jaxnet._utils.validation import check_mapping
from jaxnet.convert.state import (
    Kinds,
    check_tensors,
    from_state_dict,
    kinds_of,
    opt_state_slots,
    to_state_dict,
)
from jaxnet.nn import Variables
from jaxnet.random import Generator, get_state, set_state
from jaxnet.train.state import TrainState, check_state


def save_safetensors(path: str | os.PathLike, variables: Variables) -> None:
    """Write variables under torch's names: `safetensors.torch.load_file` reads a state_dict.

    The file appears whole or not at all.

    >>> import tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "net.safetensors")
    >>> variables = {"params": {"0": {"weight": jnp.ones((1, 2))}}}
    >>> save_safetensors(path, variables)
    >>> load_safetensors(path, like=variables)
    {'params': {'0': {'weight': Array([[1., 1.]], dtype=float32)}}}
    """
    _write(path, to_state_dict(variables))


def load_safetensors(path: str | os.PathLike, like: Variables) -> Variables:
    """Read what `safetensors.torch.save_file(net.state_dict(), path)` wrote, or `save_safetensors`.

    Args:
      path: the file. A pickle (`.pt`, `.bin`) is never read.
      like: variables of the net, whatever their values: `jaxnet.init` gives some.

    Raises:
      ValueError: the file is no safetensors file, or a tensor is missing, too many, or of another
        shape or type; all such faults are listed, and nothing is loaded.
      FileNotFoundError: there is no such file.
    """
    check_mapping("like", like, "collections")
    return from_state_dict(_read(path, kinds_of(to_state_dict(like))), like)


def save_train_state(path: str | os.PathLike, state: TrainState) -> None:
    """Write a whole run's state: `net.` tensors, `optimizer.` ones, the generators, the step.

    Raises:
      TypeError: the state's generator is not torch's CPU stream, whose bytes the file holds.
    """
    check_state(state)
    _write(path, _name_state(state))


def load_train_state(path: str | os.PathLike, like: TrainState) -> TrainState:
    """Read what `save_train_state` wrote into a state of the form of `like`, which stays as it is.

    Raises:
      ValueError, FileNotFoundError: as `load_safetensors`.
      TypeError: as `save_train_state`, for `like`.
    """
    check_state(like, "like")
    found = _read(path, kinds_of(_name_state(like)))
    variables = from_state_dict(
        {name.removeprefix("net."): a for name, a in found.items() if name.startswith("net.")},
        {"params": like.params, **like.model_state},
    )
    leaves = [
        jnp.asarray(found[f"optimizer.{slot.name}"], jnp.result_type(leaf))
        for slot, leaf in opt_state_slots(like.opt_state)
    ]
    own = set_state(found["loader_generator"]) if "loader_generator" in found else None
    return TrainState(
        params=variables.pop("params"),
        model_state=variables,
        opt_state=jax.tree.unflatten(jax.tree.structure(like.opt_state), leaves),
        generator=jax.tree.map(jnp.asarray, set_state(found["generator"])),
        step=jnp.asarray(found["step"], jnp.int32),
        loader_generator=jax.tree.map(jnp.asarray, own),
    )


def _name_state(state: TrainState) -> dict[str, np.ndarray]:
    variables = to_state_dict({"params": state.params, **state.model_state})
    named = {f"net.{name}": array for name, array in variables.items()}
    for slot, leaf in opt_state_slots(state.opt_state):
        named[f"optimizer.{slot.name}"] = np.array(leaf)
    named["generator"] = _stream(state.generator)
    if state.loader_generator is not None:
        named["loader_generator"] = _stream(state.loader_generator)
    return named | {"step": np.array(state.step)}


def _stream(generator: Any) -> np.ndarray:
    if not isinstance(generator, Generator) or generator.cuda is not None:
        raise TypeError(
            "state must have torch's CPU generator to be handed over, not "
            + ("a card's" if isinstance(generator, Generator) else "a jax.random.key")
        )
    return get_state(generator)


def _write(path: str | os.PathLike, tensors: Mapping[str, np.ndarray]) -> None:
    contiguous = {name: np.ascontiguousarray(a).reshape(a.shape) for name, a in tensors.items()}
    # The metadata is what torch's own writers put there, and some of its readers want.
    write_whole(path, safetensors.numpy.save(contiguous, metadata={"format": "pt"}))


def _read(path: str | os.PathLike, expected: Kinds) -> dict[str, np.ndarray]:
    """The tensors of a file that holds exactly those expected; their values are read last."""
    path = as_path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; expected a safetensors file")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            kinds = {name: _kind(file.get_slice(name)) for name in file.keys()}  # noqa: SIM118
            check_tensors(kinds, expected, str(path))
            return {name: file.get_tensor(name) for name in kinds}
    except safetensors.SafetensorError as error:
        raise ValueError(
            f"{path} is not a whole safetensors file ({error}); pickles are not read: in torch, "
            "safetensors.torch.save_file(net.state_dict(), path) writes one"
        ) from error


def _kind(tensor: Any) -> tuple[tuple[int, ...], str]:
    """Shape and type of a tensor in a file: its "F32" is NumPy's "float32"."""
    name = tensor.get_dtype()
    known, kinds = {"BOOL": "bool", "BF16": "bfloat16"}, {"F": "float", "I": "int", "U": "uint"}
    return tuple(tensor.get_shape()), known.get(name) or kinds.get(name[0], "?") + name[1:]
