"""A torch net's graph as plain data, what runs it, and the rules of its operations.

`jaxnet.convert.from_torch` makes such programs; nothing here knows torch. A program is a list of
nodes, each an operation of torch's ("aten.conv2d.default") with the module, the call and the line
that it comes from. `rule` registers what an operation computes.
"""

from jaxnet.program import rules  # noqa: F401, which fills the registry
from jaxnet.program.data import Input, Node, Output, Port, Program, Ref, Spec, Symbol, Tensor
from jaxnet.program.draws import Given, Keyed, Listing
from jaxnet.program.net import TorchNet
from jaxnet.program.registry import RULES, Rule, rule
from jaxnet.program.run import run

__all__ = [
    "RULES",
    "Given",
    "Input",
    "Keyed",
    "Listing",
    "Node",
    "Output",
    "Port",
    "Program",
    "Ref",
    "Rule",
    "Spec",
    "Symbol",
    "Tensor",
    "TorchNet",
    "rule",
    "run",
]
