"""How two descriptions of a run differ, in words; the versions that it was written with."""

import json
import os
import platform
import sys
import warnings
from collections.abc import Mapping
from typing import Any

from jaxnet._utils.descriptions import KIND
from jaxnet._utils.processes import gather_texts

_SHOWN = 100  # characters of a value
_NOTHING = "nothing"
_VERSIONS = ("jax", "jaxlib", "flax", "optax", __name__.partition(".")[0])


def list_differences(saved: Any, now: Any, name: str = "") -> dict[str, tuple[str, str]]:
    """What two descriptions say otherwise: by its dotted name, as the one and the other have it.

    >>> list_differences({"optimizer": {"lr": 0.1}}, {"optimizer": {"lr": 0.2}, "seed": 1})
    {'optimizer.lr': ('0.1', '0.2'), 'seed': ('nothing', '1')}
    """
    parts, others = _list_parts(saved, now), _list_parts(now, saved)
    if parts is None or others is None or parts.get(KIND) != others.get(KIND):
        return {} if saved == now else {name: _show(saved, now)}
    found = {}
    for key in {**parts, **others}:
        pair = parts.get(key, _NOTHING), others.get(key, _NOTHING)
        found |= list_differences(*pair, f"{name}.{key}" if name else key)
    return found


def covers(name: str, other: str) -> bool:
    """Whether a name stands for another: itself, and what lies below it.

    >>> covers("optimizer", "optimizer.lr"), covers("optimizer.l", "optimizer.lr")
    (True, False)
    """
    return other == name or other.startswith((f"{name}.", f"{name} "))


def _list_parts(value: Any, other: Any) -> dict[str, Any] | None:
    """Those that are compared one by one; numbers in a list are compared together."""
    if isinstance(value, str) and isinstance(other, dict):
        return {KIND: value}  # of a kind without settings
    if isinstance(value, list) and any(isinstance(part, str | list | dict) for part in value):
        return {str(number): part for number, part in enumerate(value)}
    return value if isinstance(value, dict) else None


def _show(before: Any, after: Any) -> tuple[str, str]:
    """Two values in a few words: of longer texts the first lines that differ, and where."""
    texts = [_spell(value).splitlines() or [""] for value in (before, after)]
    shorter = min(map(len, texts))
    at = next((i for i in range(shorter) if texts[0][i] != texts[1][i]), shorter)
    lines = [text[at].strip() if at < len(text) else _NOTHING for text in texts]
    begin = 0
    if max(map(len, lines)) > _SHOWN:
        begin = max(0, len(os.path.commonprefix(lines)) - _SHOWN // 4)
    first, second = (
        f"{'... ' * bool(begin)}{line[begin:][:_SHOWN]}{' ...' * (len(line) > begin + _SHOWN)}"
        for line in lines
    )
    return first, second


def _spell(value: Any) -> str:
    if isinstance(value, dict):
        return str(value.get(KIND) or json.dumps(value))
    return value if isinstance(value, str) else str(value)


def as_plain(name: str, values: Any) -> dict[str, Any]:
    """A description of the caller's own, as JSON gives it back."""
    try:
        return json.loads(json.dumps(dict(values), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be a dictionary that JSON can hold: {error}") from error


def check_same(values: Mapping[str, Any]) -> None:
    """Reject what differs between processes, by its name; a collective."""
    first, *others = map(json.loads, gather_texts(json.dumps(values)))
    for number, other in enumerate(others, 1):
        for name, (here, there) in list_differences(first, other).items():
            raise ValueError(
                f"{name} must be the same in every process, but process {number} has {there} "
                f"and process 0 has {here}"
            )


def list_versions() -> dict[str, str]:
    """The versions that a run's last digits may depend on.

    >>> list_versions()["jax"] == sys.modules["jax"].__version__
    True
    """
    return {"python": platform.python_version()} | {
        name: sys.modules[name].__version__ for name in _VERSIONS
    }


def warn_of_versions(what: str, saved: Mapping[str, str]) -> None:
    """Say where a run was written with other versions."""
    found = list_differences(dict(saved), list_versions())
    if found:
        listed = ", ".join(
            f"{name} {there} and now {here}" for name, (there, here) in found.items()
        )
        warnings.warn(
            f"{what} was written with {listed}: numbers may differ in their last digits",
            stacklevel=4,
        )
