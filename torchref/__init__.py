"""The lecture in torch, and the tools that hold a torch run and a jaxnet run side by side."""

from torchref import handover
from torchref.certification import Certificate, certify, certify_script
from torchref.recorder import Recorder

__all__ = ["Certificate", "Recorder", "certify", "certify_script", "handover"]
