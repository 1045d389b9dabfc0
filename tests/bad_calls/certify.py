"""`torchref`: what a certificate cannot be made of."""

# What is wrong here is so on purpose.
# pyright: reportArgumentType=false, reportCallIssue=false

import torch

import jaxnet
import torchref
from tests.bad_calls import Row
from tests.bad_calls.files import key, state


def certify(**changes):
    """A call of `torchref.certify` that is right but for what is changed in it."""
    net = torch.nn.Linear(2, 1)
    good = {"net": net, "data": (torch.ones(4, 2), torch.ones(4, 1)), "loss": torch.nn.MSELoss()}
    good["optimizer"] = torch.optim.SGD(net.parameters())
    arguments = good | changes
    return torchref.certify(arguments.pop("net"), **arguments)


def _certify(argument, says, kind=ValueError, **changes):
    return Row("torchref.certify", argument, lambda _: certify(**changes), says, kind)


def _build(says, built):
    return Row("torchref.certify_script", "build",
               lambda _: torchref.certify_script(lambda: built), says, TypeError)  # fmt: skip


def _hand_over(argument, says, kind=ValueError, lines=False, **changes):
    """A state put into torch's objects, right but for what is changed in it."""

    def call(_):
        net = torch.nn.Sequential(torch.nn.Linear(2, 1))
        good = {"state": state, "net": net, "optimizer": torch.optim.SGD(net.parameters())}
        arguments = good | changes
        torchref.handover.to_torch(arguments.pop("state")(), **arguments)

    return Row("torchref.handover.to_torch", argument, call, says, kind, lines)


ROWS = [
    _certify("net", "must be torch's Module, not str", TypeError, net="net"),
    _certify("net", "must be float32, not .*float64", net=torch.nn.Linear(2, 1).double()),
    _certify("data", "same number of rows", data=(torch.ones(4, 2), torch.ones(3, 1))),
    _certify("data", r"must be \(X, y\), not Tensor", TypeError, data=torch.ones(4, 2)),
    _certify("loss", "optimizer needs loss", loss=None),
    _certify("optimizer", "must be torch's Optimizer, not str", TypeError, optimizer="sgd"),
    _certify("epochs", "integer of at least 1, not 0", epochs=0),
    _certify("batch_size", "at most the number of rows, 4, not 9", batch_size=9),
    _certify("port", "must have variables", TypeError,
             port=(lambda variables, x: x, {}, jaxnet.optim.sgd())),
    _build(r"must return \(net, loss, optimizer, data\).*, not int", 3),
    _build("not tuple of 2", (1, 2)),
    Row("torchref.Recorder", "loss", lambda _: torchref.Recorder(torch.nn.ReLU(), len, None),
        "must be a torch.nn.Module, not builtin_function", TypeError),
    _hand_over("epochs", "beside a scheduler", scheduler=3),
    _hand_over("loader_generator", "must be None", loader_generator=torch.Generator()),
    _hand_over("generator", "must come from jaxnet.random.manual_seed, not .*Array", TypeError,
               state=lambda: state()._replace(generator=key())),
    _hand_over("0.weight", "missing|not expected", lines=True, net=torch.nn.Linear(2, 1)),
    Row("jaxnet.certificate.Certificate", "path", lambda _: certify().save("it.doc"),
        "must end in .html, .json, .txt, not 'it.doc'"),
]  # fmt: skip
