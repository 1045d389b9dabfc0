"""The reference: a page for each public package, made of what its `__all__` lists."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from mkdocs.structure.files import File

_ROOTS = ("jaxnet", "torchref")


def list_packages() -> dict[str, list[str]]:
    """Every package that lists what is public, by its name, and the modules among that.

    A module that several list, as `jaxnet.metrics`, stands where it is found first.
    """
    found: dict[str, list[str]] = {}
    seen: set[int] = set()
    for package in _walk():
        found[package.__name__] = below = []
        for name in package.__all__:
            value = getattr(package, name)
            if isinstance(value, ModuleType) and not hasattr(value, "__path__"):
                below += [] if id(value) in seen else [f"{package.__name__}.{name}"]
                seen.add(id(value))
    return found


def _walk() -> Iterator[Any]:
    for name in _ROOTS:
        root = importlib.import_module(name)
        parts = pkgutil.walk_packages(root.__path__, f"{name}.")
        inside = [part.name for part in parts if part.ispkg and "._" not in part.name]
        for module in (root, *map(importlib.import_module, inside)):
            if hasattr(module, "__all__"):
                yield module


def on_config(config: Any) -> Any:
    """The pages' names in the table of contents."""
    pages = [{name: f"reference/{name}.md"} for name in list_packages()]
    for entry in config.nav:
        if "Reference" in entry:
            entry["Reference"] = pages
    return config


def on_files(files: Any, *, config: Any) -> Any:
    """The pages themselves."""
    for name, modules in list_packages().items():
        text = write_root(name, modules) if name == "jaxnet" else write_page(name, modules)
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def write_page(name: str, modules: list[str]) -> str:
    """A package's page: what it lists, and below that the modules among it."""
    below = (f"::: {module}\n    options:\n      heading_level: 2\n" for module in modules)
    return "\n".join([f"::: {name}\n", *below])


def write_root(name: str, modules: list[str]) -> str:
    """The first page: what stands at the top, a line each, and where it is described."""
    root = importlib.import_module(name)
    lines = ["", "| name | what it is |", "|---|---|"]
    for member in root.__all__:
        said = inspect.getdoc(getattr(root, member)) or ""
        first = " ".join(said.split("\n\n")[0].split()).replace("|", r"\|")
        lines.append(f"| [`{name}.{member}`][] | {first} |")
    alone = [f"::: {module}\n    options:\n      heading_level: 2\n" for module in modules]
    options = "    options:\n      members: false\n"
    return "\n".join([f"::: {name}\n{options}", *lines, "", *alone])
