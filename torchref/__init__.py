"""The lecture in torch, and the tools that hold a torch run and a jaxnet run side by side."""

from torchref.certification import Certificate, certify
from torchref.recorder import Recorder

__all__ = ["Certificate", "Recorder", "certify"]
