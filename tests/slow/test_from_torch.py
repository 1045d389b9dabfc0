"""Every one of the nets beside torch: both precisions, and batches of other sizes."""

import pytest
import torch

import torchref
from tests.ported import assert_same_evaluation, assert_same_step, contract
from tests.program_nets import CASES
from tests.test_from_torch import Counted, X


@pytest.mark.parametrize("name", CASES)
def test_a_step_in_float32(name):
    assert_same_step(name)


@pytest.mark.parametrize("name", CASES)
def test_a_step_in_float64(name):
    assert_same_step(name, wide=True)


@pytest.mark.parametrize("batch", (1, 7))
@pytest.mark.parametrize("name", CASES)
def test_one_export_serves_batches_of_other_sizes(name, batch):
    assert_same_step(name, batch=batch)


@pytest.mark.parametrize("name", [name for name in CASES if name not in ("vae", "drops")])
def test_in_evaluation_mode(name):
    assert_same_evaluation(name)


class TimeFirst(torch.nn.Module):
    """A net whose rows are its axis 1, for a loader that cuts axis 0."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x.transpose(0, 1))


@pytest.mark.parametrize("name", CASES)
def test_two_steps_are_certified(name):
    torch.manual_seed(0)
    net, x = CASES[name].build(), CASES[name].make(8)
    if x.shape[0] != 8:
        net, x = TimeFirst(net), x.transpose(0, 1)
    certificate = torchref.certify(
        net,
        data=(x, torch.zeros(8)),
        loss=lambda outputs, _: contract(outputs, torch),
        optimizer=torch.optim.SGD(net.parameters(), lr=1e-2, momentum=0.9),
        batch_size=4,
        seed=1,
    )
    assert certificate.agrees and certificate.steps == 2, str(certificate)


def test_a_graph_for_each_size_is_certified():
    """A short last batch, and all rows at once."""
    torch.manual_seed(0)
    net = Counted()
    certificate = torchref.certify(
        net,
        data=(torch.cat([X, X[:3]]), torch.zeros(7, 4)),
        loss=torch.nn.MSELoss(),
        optimizer=torch.optim.SGD(net.parameters(), 0.1),
        batch_size=4,
    )
    assert certificate.agrees and certificate.steps == 2, str(certificate)
