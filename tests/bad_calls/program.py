"""`jaxnet.program`: ported nets, and files of them."""

# What is wrong here is so on purpose.
# pyright: reportArgumentType=false

import numpy as np

from jaxnet import convert
from jaxnet.nn.draws import Draw
from jaxnet.program import (
    Given,
    Input,
    Node,
    Output,
    Port,
    Program,
    Ref,
    Spec,
    Symbol,
    Tensor,
    TorchNet,
    rule,
    run,
)
from tests.bad_calls import Row, of_values

P, C = "jaxnet.program.", "jaxnet.convert."

PROGRAM = Program(
    inputs=(Input("x", "user", None, Spec(("s0", 2), "float32")),),
    nodes=(Node("relu", "aten.relu.default", (Ref("x"),), (), Spec(("s0", 2), "float32")),),
    outputs=(Output(Ref("relu")),),
    in_tree=(("*",), {}),
    out_tree="*",
    symbols=(Symbol("s0", 5),),
    layers=(("act", "relu"),),
)
WEIGHT = Tensor("weight", "params", Spec((2,), "float32"))
PORT = Port(PROGRAM, PROGRAM, (WEIGHT,), start={"weight": np.ones(2, np.float32)})
NET = TorchNet(PORT)
VARIABLES = {"params": {"weight": np.ones(2, np.float32)}}
X = np.ones((3, 2), np.float32)


def apply(*arguments, **options):
    return NET.apply(VARIABLES, *arguments, **options)


def give(draws):
    return Given(draws)(Draw(("drop",), "keep", 0.5, (2,), "float32"))


ROWS = [
    Row(P + "TorchNet", "x", lambda _: apply(X[:, :1]), r"float32\[s0, 2\], not float32\[3, 1\]"),
    Row(P + "TorchNet", "x", lambda _: apply(X.astype(int)), r"must be float32\[s0, 2\], not int",
        TypeError),
    Row(P + "TorchNet", "inputs", lambda _: apply(np.ones((6, 2), np.float32)),
        "an axis of 6, but this net takes at most 5"),
    Row(P + "TorchNet", "call", lambda _: apply(X, X), "must have 1 inputs by position, .* not 2"),
    Row(P + "TorchNet", "call", lambda _: apply(X, mask=X), "not 'mask'"),
    Row(P + "TorchNet", "capture", lambda _: apply(X, capture=["atc"]), "did you mean 'act'"),
    Row(P + "TorchNet", "draws", lambda _: apply(X, draws={"a": X}), "which this net does not"),
    Row(P + "TorchNet", "variables", lambda _: NET.apply({}, X), "must have 'weight' in 'params'"),
    Row(P + "run", "x", lambda _: run(PROGRAM, {}, [X[:, :1]]), r"must be float32\[s0, 2\]"),
    *of_values(
        P + "Given", "draws", give,
        ({"dorp": np.ones(2, bool)}, "did you mean 'dorp'"),
        ({"drop": np.ones(3, bool)}, r"shape \(2,\), not \(3,\)"),
        ({"drop": np.ones(2)}, "a boolean mask, not float"),
    ),
    Row(P + "rule", "name", lambda _: rule("relu"), "such as 'aten.relu.default', not 'relu'"),
    Row(P + "rule", "name", lambda _: rule("aten.relu.default"), "has a rule already"),
    Row(C + "save", "net", lambda files: convert.save(files / "new", 3, {}),
        "must be a TorchNet, .* not int", TypeError),
    Row(C + "save", "variables", lambda files: convert.save(files / "new", NET, {}),
        "must have 'weight' in 'params'"),
    Row(C + "save", "variables", lambda files: convert.save(files / "new", NET, 3),
        "must be a mapping .*not int", TypeError),
    Row(C + "save", "path", lambda _: convert.save(3, NET, VARIABLES),
        "must be a str or os.PathLike, not 3", TypeError),
    Row(C + "save", "no-folder", lambda files: convert.save(files / "no-folder/a", NET, VARIABLES),
        "No such file", FileNotFoundError),
    Row(C + "load", "missing.safetensors", lambda files: convert.load(files / "missing"),
        "No such file", FileNotFoundError),
    Row(C + "load", "path", lambda _: convert.load(3), "must be a str or os.PathLike, not 3",
        TypeError),
]  # fmt: skip
