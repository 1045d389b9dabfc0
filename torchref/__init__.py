"""The lecture in torch, and the tools that hold a torch run and a jaxnet run side by side."""

from importlib import import_module

# As `typing` has it. Nothing is imported before it is asked for: `__main__` comes first.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from torchref import handover
    from torchref.certification import Certificate, certify, certify_script
    from torchref.recorder import Recorder

__all__ = ["Certificate", "Recorder", "certify", "certify_script", "handover"]


def __getattr__(name: str) -> object:
    """A public name, imported now."""
    if name not in __all__:
        raise AttributeError(f"module 'torchref' has no attribute {name!r}")
    if name == "handover":
        return import_module("torchref.handover")
    module = "torchref.recorder" if name == "Recorder" else "torchref.certification"
    return getattr(import_module(module), name)
