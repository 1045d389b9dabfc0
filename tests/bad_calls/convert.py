"""`jaxnet.convert`: torch's objects, and files of weights."""

# What is wrong here is so on purpose.
# pyright: reportArgumentType=false, reportCallIssue=false

import errno
import functools
import os
from unittest import mock

import numpy as np
import torch

import jaxnet
from jaxnet import convert
from tests.bad_calls import Row, of_files
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


def adam_state(name, shape):
    return jaxnet.optim.adam().init({name: np.ones(shape, np.float32)})


def write_where_none_is_left(path):
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    with mock.patch.object(os, "replace", side_effect=error):
        convert.save_safetensors(path, LIKE)


def _refuse(name, argument, says, call, kind=ValueError, lines=False):
    """`call` takes the function that refuses."""
    return Row(C + name, argument, lambda _: call(getattr(convert, name)), says, kind, lines)


def _save(what, argument, says, file, value, kind=TypeError):
    def call(files):
        saved = value() if callable(value) else value
        getattr(convert, f"save_{what}")(files / file, saved)

    return Row(f"{C}save_{what}", argument, call, says, kind)


NO_NET = "must be a torch.nn.Module, not builtins.str"
NO_OPTIMIZER = "must be a torch.optim.Optimizer, not builtins.str"
ROWS = [
    _refuse("from_torch", "net", NO_NET, lambda f: f("net"), lines=True),
    _refuse("from_torch", "batch_sizes", "batch_sizes must be an integer of at least 1, not 0",
            lambda f: f(torch.nn.ReLU(), batch_sizes=(0,))),
    _refuse("from_torch", "batch_sizes", "batch_sizes must be several integers, not 3",
            lambda f: f(torch.nn.ReLU(), batch_sizes=3), kind=TypeError),
    _refuse("from_torch", "layer",
            "layer '0' is torch.nn.modules.activation.PReLU, which has no translation",
            lambda f: f(torch.nn.Sequential(torch.nn.PReLU())), lines=True),
    _refuse("from_torch", "dim", "dim=None, which guesses the axis",
            lambda f: f(torch.nn.Softmax()), lines=True),
    _refuse("loss_from_torch", "loss", "is builtins.str, which has no translation",
            lambda f: f("mse"), lines=True),
    _refuse("loss_from_torch", "reduction", "has reduction='none', expected 'mean' or 'sum'",
            lambda f: f(torch.nn.MSELoss(reduction="none"))),
    _refuse("optimizer_from_torch", "optimizer", "is builtins.str, which has no translation",
            lambda f: f("sgd", torch_net()), lines=True),
    _refuse("optimizer_from_torch", "net", NO_NET, lambda f: f(sgd(), "net")),
    _refuse("optimizer_from_torch", "optimizer", "has a parameter, 0 of group 0, that net has not",
            lambda f: f(other_sgd(), torch_net())),
    _refuse("optimizer_from_torch", "scheduler", "is builtins.int, which has no translation",
            lambda f: f(sgd(), torch_net(), scheduler=3), lines=True),
    _refuse("optimizer_from_torch", "steps_per_epoch", "is 0, expected an integer from 1",
            lambda f: f(opt := sgd(), torch_net(), steps_per_epoch=0,
                        scheduler=torch.optim.lr_scheduler.StepLR(opt, 1))),
    _refuse("opt_state_from_torch", "optimizer", NO_OPTIMIZER,
            lambda f: f("sgd", torch_net(), opt_state())),
    _refuse("opt_state_from_torch", "net", "must be a torch.nn.Module, not builtins.NoneType",
            lambda f: f(sgd(), None, opt_state())),
    _refuse("opt_state_from_torch", "like",
            "a parameter 'wieght', which net has not; did you mean 'weight'",
            lambda f: f(sgd(), torch_net(), adam_state("wieght", 1))),
    _refuse("opt_state_to_torch", "optimizer", "has parameters that net has not",
            lambda f: f(opt_state(), other_sgd(), torch_net())),
    _refuse("opt_state_to_torch", "optimizer", NO_OPTIMIZER,
            lambda f: f(opt_state(), "sgd", torch_net())),
    _refuse("opt_state_to_torch", "net", NO_NET, lambda f: f(opt_state(), sgd(), "net")),
    _refuse("opt_state_to_torch", "opt_state", "is another optimizer's: it has .*exp_avg",
            lambda f: f(adam_state("weight", (1, 2)), sgd(), torch_net())),
    _refuse("train_state_from_torch", "net", NO_NET,
            lambda f: f("net", sgd(), OPTIMIZER, torch.get_rng_state()), lines=True),
    _refuse("train_state_from_torch", "optimizer", NO_OPTIMIZER,
            lambda f: f(torch_net(), "sgd", OPTIMIZER, torch.get_rng_state())),
    _refuse("train_state_from_torch", "jax_optimizer", "must be an optax optimizer, .* not 'sgd'",
            lambda f: f(torch_net(), sgd(), "sgd", torch.get_rng_state()), TypeError),
    _refuse("train_state_from_torch", "state", "must hold uint8 numbers or be bytes, not int64",
            lambda f: f(torch_net(), sgd(), OPTIMIZER, [1, 2]), TypeError),
    *(
        _refuse("train_state_from_torch", "step", f"an integer from 0 to 2147483647, not {v}",
                lambda f, v=v: f(torch_net(), sgd(), OPTIMIZER, torch.get_rng_state(), step=v))
        for v in (-1, 2**31)
    ),
    *(
        Row(C + "from_state_dict", argument, lambda _, a=arguments: convert.from_state_dict(*a),
            says, kind, lines)
        for argument, arguments, says, kind, lines in (
            ("0.weight", ({}, LIKE), "missing", ValueError, True),
            ("0.wieght", ({"0.wieght": np.ones((1, 2), np.float32)}, LIKE),
             "0.wieght: not expected; did you mean '0.weight'", ValueError, True),
            ("0.weight", ({"0.weight": np.ones((1, 2))}, LIKE), "type float64, expected float32",
             ValueError, True),
            ("state_dict", (None, LIKE), "must be a mapping .*not NoneType", TypeError, False),
            ("like", ({}, 3), "must be a mapping .*not int", TypeError, False),
        )
    ),
    Row(C + "to_state_dict", "variables", lambda _: convert.to_state_dict({"params": 3}),
        "must be a mapping .*not int", TypeError),
    Row(C + "to_state_dict", "variables", lambda _: convert.to_state_dict({"params": {"w": "abc"}}),
        "must hold arrays, not 'abc'", TypeError),
    *of_files(
        C + "load_safetensors", lambda path: convert.load_safetensors(path, LIKE),
        ("cut.safetensors", "is not a whole safetensors file"),
        ("pickle.safetensors", "is not a whole safetensors .*pickles are not read"),
        ("shape.safetensors", r"0.weight: shape \(2, 2\), expected \(1, 2\)", ValueError, True),
        ("missing.safetensors", "No such file", FileNotFoundError),
        ("empty", "is a folder|[Ii]s a directory", OSError),
    ),
    Row(C + "load_safetensors", "like",
        lambda files: convert.load_safetensors(files / "whole.safetensors", None),
        "must be a mapping .*not NoneType", TypeError),
    Row(C + "load_safetensors", "path", lambda _: convert.load_safetensors(3, LIKE),
        "must be a str or os.PathLike, not 3", TypeError),
    *of_files(
        C + "load_train_state", lambda path: convert.load_train_state(path, state()),
        ("cut-state.safetensors", "is not a whole safetensors file"),
        ("whole.safetensors", "net.0.weight: missing", ValueError, True),
        ("missing.safetensors", "No such file", FileNotFoundError),
        ("empty", "is a folder|[Ii]s a directory", OSError),
    ),
    Row(C + "load_train_state", "state",
        lambda files: convert.load_train_state(files / "stream.safetensors", state()),
        "this one is damaged"),
    Row(C + "load_train_state", "like",
        lambda files: convert.load_train_state(files / "state.safetensors", {}),
        "must be a TrainState, not dict", TypeError),
    _save("safetensors", "variables", "must be a mapping .*not list", "new", [1]),
    _save("safetensors", "variables", "must hold arrays, not None", "whole.safetensors",
          {"params": {"w": None}}),
    _save("safetensors", "empty", "Is a directory", "empty", LIKE, IsADirectoryError),
    _save("safetensors", "file", "Not a directory", "file/new", LIKE, NotADirectoryError),
    _save("safetensors", "no-folder", "No such file", "no-folder/new", LIKE, FileNotFoundError),
    Row(C + "save_safetensors", "path", lambda _: convert.save_safetensors(3, LIKE),
        "must be a str or os.PathLike, not 3", TypeError),
    _save("train_state", "state", "must be a TrainState, not dict", "new", {}),
    _save("train_state", "state", "must have torch's CPU generator .*, not", "new",
          lambda: state()._replace(generator=None)),
    _save("train_state", "file", "Not a directory", "file/new", state, NotADirectoryError),
    _save("train_state", "state", "torch's CPU generator .*, not a card's", "new",
          lambda: state()._replace(generator=jaxnet.random.manual_seed(0, "cuda"))),
    Row(C + "save_safetensors", "new", lambda files: write_where_none_is_left(files / "new"),
        "No space left on device", OSError),
]  # fmt: skip
