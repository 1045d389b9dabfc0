"""`jaxnet.convert`: torch's objects, and files of weights."""

# What is wrong here is so on purpose.
# pyright: reportArgumentType=false, reportCallIssue=false

import errno
import functools
import os
from pathlib import Path
from unittest import mock

import numpy as np
import torch

import jaxnet
from jaxnet import convert
from tests.bad_calls import Row
from tests.bad_calls.files import LIKE, OPTIMIZER, state

C = "jaxnet.convert."


@functools.cache
def torch_net():
    return torch.nn.Linear(2, 1)


def sgd(**options):
    return torch.optim.SGD(torch_net().parameters(), lr=0.1, **options)


def other_sgd():
    return torch.optim.SGD(torch.nn.Linear(2, 1).parameters(), lr=0.1)


def opt_state():
    return OPTIMIZER.init({"weight": np.ones((1, 2), np.float32), "bias": np.ones(1, np.float32)})


def write_where_none_is_left(path):
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    with mock.patch.object(Path, "replace", side_effect=error):
        convert.save_safetensors(path, LIKE)


ROWS = [
    Row(C + "from_torch", "net", lambda _: convert.from_torch("net"),
        "must be a torch.nn.Module, not builtins.str", several_lines=True),
    Row(C + "from_torch", "layer",
        lambda _: convert.from_torch(torch.nn.Sequential(torch.nn.PReLU())),
        "layer '0' is torch.nn.modules.activation.PReLU, which has no translation",
        several_lines=True),
    Row(C + "from_torch", "dim", lambda _: convert.from_torch(torch.nn.Softmax()),
        "dim=None, which guesses the axis", several_lines=True),
    Row(C + "loss_from_torch", "loss", lambda _: convert.loss_from_torch("mse"),
        "is builtins.str, which has no translation", several_lines=True),
    Row(C + "loss_from_torch", "reduction",
        lambda _: convert.loss_from_torch(torch.nn.MSELoss(reduction="none")),
        "has reduction='none', expected 'mean' or 'sum'"),
    Row(C + "optimizer_from_torch", "optimizer",
        lambda _: convert.optimizer_from_torch("sgd", torch_net()),
        "is builtins.str, which has no translation", several_lines=True),
    Row(C + "optimizer_from_torch", "net", lambda _: convert.optimizer_from_torch(sgd(), "net"),
        "must be a torch.nn.Module, not builtins.str"),
    Row(C + "optimizer_from_torch", "optimizer",
        lambda _: convert.optimizer_from_torch(other_sgd(), torch_net()),
        "has a parameter, 0 of group 0, that net has not"),
    Row(C + "optimizer_from_torch", "scheduler",
        lambda _: convert.optimizer_from_torch(sgd(), torch_net(), scheduler=3),
        "is builtins.int, which has no translation", several_lines=True),
    Row(C + "optimizer_from_torch", "steps_per_epoch",
        lambda _: convert.optimizer_from_torch(
            opt := sgd(), torch_net(), steps_per_epoch=0,
            scheduler=torch.optim.lr_scheduler.StepLR(opt, 1)),
        "is 0, expected an integer from 1"),
    Row(C + "opt_state_from_torch", "optimizer",
        lambda _: convert.opt_state_from_torch("sgd", torch_net(), opt_state()),
        "must be a torch.optim.Optimizer, not builtins.str"),
    Row(C + "opt_state_from_torch", "net",
        lambda _: convert.opt_state_from_torch(sgd(), None, opt_state()),
        "must be a torch.nn.Module, not builtins.NoneType"),
    Row(C + "opt_state_from_torch", "like",
        lambda _: convert.opt_state_from_torch(
            sgd(), torch_net(), jaxnet.optim.adam().init({"other": np.ones(1, np.float32)})),
        "has a parameter 'other', which net has not"),
    Row(C + "opt_state_to_torch", "optimizer",
        lambda _: convert.opt_state_to_torch(opt_state(), other_sgd(), torch_net()),
        "has parameters that net has not"),
    Row(C + "opt_state_to_torch", "optimizer",
        lambda _: convert.opt_state_to_torch(opt_state(), "sgd", torch_net()),
        "must be a torch.optim.Optimizer, not builtins.str"),
    Row(C + "opt_state_to_torch", "net",
        lambda _: convert.opt_state_to_torch(opt_state(), sgd(), "net"),
        "must be a torch.nn.Module, not builtins.str"),
    Row(C + "opt_state_to_torch", "opt_state",
        lambda _: convert.opt_state_to_torch(
            jaxnet.optim.adam().init({"weight": np.ones((1, 2), np.float32)}), sgd(), torch_net()),
        "is another optimizer's: it has .*exp_avg"),
    Row(C + "train_state_from_torch", "net",
        lambda _: convert.train_state_from_torch("net", sgd(), OPTIMIZER, torch.get_rng_state()),
        "must be a torch.nn.Module, not builtins.str", several_lines=True),
    Row(C + "train_state_from_torch", "optimizer",
        lambda _: convert.train_state_from_torch(
            torch_net(), "sgd", OPTIMIZER, torch.get_rng_state()),
        "must be a torch.optim.Optimizer, not builtins.str"),
    Row(C + "train_state_from_torch", "jax_optimizer",
        lambda _: convert.train_state_from_torch(torch_net(), sgd(), "sgd", torch.get_rng_state()),
        "must be an optax optimizer, .* not 'sgd'", TypeError),
    Row(C + "train_state_from_torch", "state",
        lambda _: convert.train_state_from_torch(torch_net(), sgd(), OPTIMIZER, [1, 2]),
        "must hold uint8 numbers or be bytes, not int64", TypeError),
    Row(C + "train_state_from_torch", "step",
        lambda _: convert.train_state_from_torch(
            torch_net(), sgd(), OPTIMIZER, torch.get_rng_state(), step=-1),
        "must be an integer of at least 0, not -1"),
    *(
        Row(C + "from_state_dict", argument, lambda _, a=arguments: convert.from_state_dict(*a),
            says, kind, lines)
        for argument, arguments, says, kind, lines in (
            ("0.weight", ({}, LIKE), "missing", ValueError, True),
            ("0.bias", ({**convert.to_state_dict(LIKE), "0.bias": np.ones(1)}, LIKE),
             "not expected", ValueError, True),
            ("0.weight", ({"0.weight": np.ones((2, 2), np.float32)}, LIKE),
             r"shape \(2, 2\), expected \(1, 2\)", ValueError, True),
            ("0.weight", ({"0.weight": np.ones((1, 2))}, LIKE), "type float64, expected float32",
             ValueError, True),
            ("state_dict", (None, LIKE), "must be a mapping .*not NoneType", TypeError, False),
            ("like", ({}, 3), "must be a mapping .*not int", TypeError, False),
        )
    ),
    Row(C + "to_state_dict", "variables", lambda _: convert.to_state_dict([1]),
        "must be a mapping .*not list", TypeError),
    Row(C + "to_state_dict", "variables", lambda _: convert.to_state_dict({"params": 3}),
        "must be a mapping .*not int", TypeError),
    Row(C + "to_state_dict", "variables", lambda _: convert.to_state_dict({"params": {"w": "abc"}}),
        "must hold arrays, not 'abc'", TypeError),
    *(
        Row(C + "load_safetensors", file, lambda files, f=file: convert.load_safetensors(
            files / f, LIKE), says, kind, lines)
        for file, says, kind, lines in (
            ("cut.safetensors", "is not a whole safetensors file", ValueError, False),
            ("header.safetensors", "is not a whole safetensors file", ValueError, False),
            ("nothing.safetensors", "is not a whole safetensors file", ValueError, False),
            ("pickle.safetensors", "is not a whole safetensors .*pickles are not read", ValueError,
             False),
            ("shape.safetensors", r"0.weight: shape \(2, 2\), expected \(1, 2\)", ValueError, True),
            ("type.safetensors", "0.weight: type float64, expected float32", ValueError, True),
            ("more.safetensors", "0.bias: not expected", ValueError, True),
            ("missing.safetensors", "No such file", FileNotFoundError, False),
            ("empty", "is a folder|[Ii]s a directory", OSError, False),
        )
    ),
    Row(C + "load_safetensors", "like",
        lambda files: convert.load_safetensors(files / "whole.safetensors", None),
        "must be a mapping .*not NoneType", TypeError),
    Row(C + "load_safetensors", "path", lambda _: convert.load_safetensors(3, LIKE),
        "must be a str or os.PathLike, not 3", TypeError),
    *(
        Row(C + "load_train_state", file, lambda files, f=file: convert.load_train_state(
            files / f, state()), says, kind, lines)
        for file, says, kind, lines in (
            ("cut-state.safetensors", "is not a whole safetensors file", ValueError, False),
            ("whole.safetensors", "net.0.weight: missing", ValueError, True),
            ("less-state.safetensors", "step: missing", ValueError, True),
            ("missing.safetensors", "No such file", FileNotFoundError, False),
            ("empty", "is a folder|[Ii]s a directory", OSError, False),
        )
    ),
    Row(C + "load_train_state", "state",
        lambda files: convert.load_train_state(files / "stream.safetensors", state()),
        "this one is damaged"),
    Row(C + "load_train_state", "like",
        lambda files: convert.load_train_state(files / "state.safetensors", {}),
        "must be a TrainState, not dict", TypeError),
    Row(C + "save_safetensors", "variables",
        lambda files: convert.save_safetensors(files / "new", [1]), "must be a mapping .*not list",
        TypeError),
    Row(C + "save_safetensors", "variables",
        lambda files: convert.save_safetensors(
            files / "whole.safetensors", {"params": {"w": None}}),
        "must hold arrays, not None", TypeError),
    Row(C + "save_safetensors", "empty",
        lambda files: convert.save_safetensors(files / "empty", LIKE), "Is a directory",
        IsADirectoryError),
    Row(C + "save_safetensors", "file",
        lambda files: convert.save_safetensors(files / "file" / "new", LIKE), "Not a directory",
        NotADirectoryError),
    Row(C + "save_safetensors", "no-folder",
        lambda files: convert.save_safetensors(files / "no-folder" / "new", LIKE), "No such file",
        FileNotFoundError),
    Row(C + "save_safetensors", "path", lambda _: convert.save_safetensors(3, LIKE),
        "must be a str or os.PathLike, not 3", TypeError),
    Row(C + "save_train_state", "state",
        lambda files: convert.save_train_state(files / "new", {}), "must be a TrainState, not dict",
        TypeError),
    Row(C + "save_train_state", "state",
        lambda files: convert.save_train_state(files / "new", state()._replace(generator=None)),
        "must have torch's CPU generator .*, not", TypeError),
    Row(C + "save_train_state", "file",
        lambda files: convert.save_train_state(files / "file" / "new", state()), "Not a directory",
        NotADirectoryError),
    Row(C + "save_safetensors", "new", lambda files: write_where_none_is_left(files / "new"),
        "No space left on device", OSError),
    Row(C + "save_train_state", "state",
        lambda files: convert.save_train_state(
            files / "new", state()._replace(generator=jaxnet.random.manual_seed(0, "cuda"))),
        "torch's CPU generator .*, not a card's", TypeError),
]  # fmt: skip
