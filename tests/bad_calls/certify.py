"""`torchref`: what a certificate cannot be made of."""

# What is wrong here is so on purpose.
# pyright: reportArgumentType=false, reportCallIssue=false

import torch

import jaxnet
import torchref
from tests.bad_calls import Row
from tests.bad_calls.files import key, state

ONES = torch.ones(4, 2)
PLATEAU = torch.optim.lr_scheduler.ReduceLROnPlateau(torch.optim.SGD([torch.ones(1)]))


def certify(**changes):
    net = torch.nn.Linear(2, 1)
    good = {"net": net, "data": (torch.ones(4, 2), torch.ones(4, 1)), "loss": torch.nn.MSELoss()}
    good["optimizer"] = torch.optim.SGD(net.parameters())
    arguments = good | changes
    return torchref.certify(arguments.pop("net"), **arguments)


def _certify(argument, says, kind=ValueError, **changes):
    return Row("torchref.certify", argument, lambda _: certify(**changes), says, kind)


class _Nothing(torch.nn.Module):
    def forward(self, x):
        return 3


def _changed(value, change):
    change(value)
    return value


def _stepped():
    net = torch.nn.Linear(2, 1)
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    return optimizer


def _build(says, built):
    return Row("torchref.certify_script", "build",
               lambda _: torchref.certify_script(lambda: built), says, TypeError)  # fmt: skip


def _hand_over(argument, says, kind=ValueError, lines=False, **changes):

    def call(_):
        net = torch.nn.Sequential(torch.nn.Linear(2, 1))
        good = {"state": state, "net": net, "optimizer": torch.optim.SGD(net.parameters())}
        arguments = good | changes
        torchref.handover.to_torch(arguments.pop("state")(), **arguments)

    return Row("torchref.handover.to_torch", argument, call, says, kind, lines)


ROWS = [
    _certify("net", "must be torch's Module, not str", TypeError, net="net"),
    _certify("net", "must be float32, not .*float64", net=torch.nn.Linear(2, 1).double()),
    _certify("net", "must have dense gradients: .* has sparse=True",
             net=torch.nn.Sequential(torch.nn.Embedding(5, 2, sparse=True))),
    _certify("net", "must return tensors, not int", TypeError, net=_Nothing(),
             port=(lambda variables, x: x, {"params": {}}, jaxnet.optim.sgd())),
    _certify("data", "same number of rows", data=(ONES, torch.ones(3, 1))),
    _certify("data", r"must be \(X, y\), not Tensor", TypeError, data=ONES),
    _certify("data", r"same number of rows.*and \(3,\)", data=((ONES, torch.ones(3)), ONES)),
    _certify("y[0]", r"y\[0\] must hold real numbers", TypeError, data=(ONES, (["a"],))),
    _certify("loss", r"outputs and y, float32\[4, 1\] and float32\[4\].*: Using a target size",
             loss=torch.nn.BCELoss(), data=(ONES, torch.ones(4))),
    _certify("loss", r"one number, not float32\[4, 1\]",
             loss=(torch.nn.MSELoss(reduction="none"), len)),
    _certify("dropout", 'must be "torch" or "off", not True', dropout=True),
    _certify("dropout", "without port, jaxnet draws", dropout="off"),
    _certify("optimizer", "LBFGS needs a closure", optimizer=torch.optim.LBFGS([torch.ones(1)])),
    _certify("scheduler_interval", "must be .epoch. or .step., not 3", scheduler_interval=3),
    _certify("scheduler", "ReduceLROnPlateau needs a validation loss", scheduler=PLATEAU),
    _certify("optimizer", "must be torch's Optimizer, not str", TypeError, optimizer="sgd"),
    _certify("epochs", "integer of at least 1, not 0", epochs=0),
    _certify("epochs", "at most 2147483647 here, not 2147483648", epochs=2**31),
    _certify("seed", "must be an integer, not 1.5", TypeError, seed=1.5),
    _certify("seed", r"between -2\*\*63 and 2\*\*64 - 1, not 18446744073709551616", seed=2**64),
    Row("torchref.certify_script", "seed",
        lambda _: torchref.certify_script(lambda: 3, seed=True), "not True", TypeError),
    _certify("batch_size", "at most the number of rows, 4, not 9", batch_size=9),
    _certify("port", "must be .*linen module.*, not int", TypeError, port=3),
    _certify("known", "must be among batchnorm-variance, .*, not 'bias'", known=["bias"],
             port=(lambda variables, x: x, {}, jaxnet.optim.sgd())),
    _certify("optimizer", "must be fresh beside a port", optimizer=_stepped(), net=torch.nn.ReLU(),
             port=(lambda variables, x: x, {"params": {}}, jaxnet.optim.sgd())),
    _certify("optimizer", "has step hooks, which have no translation",
             optimizer=_changed(_stepped(), lambda o: o.register_step_pre_hook(print))),
    _certify("net", r"must be on the CPU, .*\['meta'\]", net=torch.nn.Linear(2, 1, device="meta")),
    _certify("net", "must have no hook on a parameter",
             net=_changed(torch.nn.Linear(2, 1), lambda net: net.weight.register_hook(print))),
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
