"""Certificates of runs and scripts: what they leave alone, report and save; the command line."""

import copy
import dataclasses
import functools
import json
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import jaxnet
from tests.manual import X, Y
from tests.mutants import planted, replaced
from tests.test_certificate import LOSS, RUN
from torchref import certify
from torchref.certification import certify_script
from torchref.cli import main


def test_a_run_that_leaves_float32_is_compared_up_to_there():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 1))
    certificate = certify(
        net,
        loss=torch.nn.MSELoss(),
        optimizer=torch.optim.SGD(net.parameters(), lr=1e3),
        data=(X, Y),
        epochs=4,
        batch_size=8,
        shuffle=True,
    )
    assert certificate.agrees, certificate
    assert 0 < certificate.overflowed <= 12 == certificate.steps
    assert f"From step {certificate.overflowed} on torch's loss is not finite" in str(certificate)


def test_nothing_of_the_callers_changes():
    torch.manual_seed(5)
    net = torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.BatchNorm1d(4), torch.nn.Dropout())
    net.append(torch.nn.Linear(4, 1)).eval()
    optimizer = torch.optim.Adam(net.parameters())
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    loss = torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor([2.0]))
    before = copy.deepcopy((net.state_dict(), optimizer.state_dict(), scheduler.state_dict()))
    x, y, stream = X.clone(), Y.clone(), torch.get_rng_state()
    certificate = certify(
        net, loss=loss, optimizer=optimizer, scheduler=scheduler, data=(x, y), epochs=2,
        batch_size=8, seed=3,
    )  # fmt: skip
    assert certificate.agrees, certificate
    assert certificate.noise[0] >= 4  # the bias before the BatchNorm: its gradient is 0
    assert certificate.checked["gradients"] == certificate.given["gradients"], "compared with 0"
    assert torch.equal(torch.get_rng_state(), stream)
    assert torch.equal(x, X) and torch.equal(y, Y) and not net.training
    after = (net.state_dict(), optimizer.state_dict(), scheduler.state_dict())
    assert str(after) == str(before)
    assert all(parameter.grad is None for parameter in net.parameters())


def test_a_run_that_goes_on_is_certified_too():
    """An optimizer and a scheduler that have done an epoch already."""
    torch.manual_seed(5)
    net = torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    for begin in (0, 8, 16):
        optimizer.zero_grad()
        LOSS(net(X[begin : begin + 8]), Y[begin : begin + 8]).backward()
        optimizer.step()
    scheduler.step()
    certificate = certify(net, optimizer=optimizer, scheduler=scheduler, **RUN)
    assert certificate.agrees, certificate


def test_full_batches_frozen_layers_and_a_loss_of_ones_own():
    torch.manual_seed(5)
    net = torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    net[0].weight.requires_grad_(False)
    certificate = certify(
        net,
        loss=(lambda o, y: (o - y).abs().pow(3).mean(), lambda o, y: (abs(o - y) ** 3).mean()),
        optimizer=torch.optim.AdamW(net.parameters()),
        data=(X.numpy(), Y.numpy()),
        epochs=3,
    )
    assert certificate.agrees and certificate.steps == 3
    assert certificate.digests["torch, first"] != certificate.digests["torch, last"]
    assert certificate.digests["torch, first"] == certificate.digests["jax, first"]


def certify_drowned(seed):
    """A bias before a BatchNorm: its gradient is 0 but for rounding, on which Adagrad takes a step.

    The LeakyReLU between makes of it another loss of the batch after.
    """
    torch.manual_seed(seed)
    net = torch.nn.Sequential(
        torch.nn.Linear(5, 6),
        torch.nn.LeakyReLU(0.3),
        torch.nn.BatchNorm1d(6),
        torch.nn.Linear(6, 2),
    )
    x, y = torch.randn(7, 5), torch.randn(7, 2)
    optimizer = torch.optim.Adagrad(net.parameters())
    options: dict[str, Any] = dict(data=(x, y), epochs=2, batch_size=4, seed=0)
    return certify(net, loss=torch.nn.MSELoss(), optimizer=optimizer, **options)


def test_a_gradient_of_rounding_alone_accuses_nobody():
    assert certify_drowned(2).agrees


def test_beside_it_a_loop_that_forgets_is_seen(monkeypatch):
    run = jaxnet.train.run

    def forget(step, state, data, *, epochs, **options):
        half, first = run(step, state, data, epochs=1, **options)
        half = half._replace(opt_state=state.opt_state)
        end, second = run(step, half, data, epochs=epochs - 1, **options)
        losses = np.concatenate([first.losses, second.losses])
        return end, second._replace(losses=losses)

    monkeypatch.setattr(jaxnet.train, "run", forget)
    divergence = certify_drowned(1).divergence
    assert divergence is not None and divergence.stage == "whole run"


def script():
    net = torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 1))
    torch.randn(5)  # a script draws other things too
    return net, LOSS, torch.optim.Adam(net.parameters()), (torch.randn(20, 6), Y)


def test_a_scripts_initial_weights_are_held_against_jaxnets_own():
    certificate = certify_script(script, epochs=2, batch_size=8, seed=4)
    assert certificate.agrees, certificate
    assert certificate.checked["initial weights"] == 2 * (6 * 4 + 4 + 4 + 1)
    source = replaced(
        "jaxnet/nn/layers.py",
        'generator, params["bias"] = uniform(generator, (self.out_features,), -bound, bound)',
        'generator, params["bias"] = uniform(generator, (self.out_features,), 0.0, bound)',
    )
    with planted("jaxnet/nn/layers.py", source):
        found = certify_script(script, epochs=2, batch_size=8, seed=4).divergence
    assert found is not None
    assert (found.stage, found.tensor, found.step) == ("initial weights", "0.bias", 0)


def test_weights_that_a_script_sets_itself_are_taken_from_it():
    def build():
        net, *rest = script()
        torch.nn.init.ones_(net[0].weight)  # pyright: ignore
        return net, *rest

    certificate = certify_script(build, epochs=1, batch_size=8, seed=4)
    assert certificate.agrees
    assert certificate.checked["initial weights"] == 6 * 4 + 4 + 2 * (4 + 1)


@functools.cache
def certify_planted(wrong: bool):
    """The script's certificate, where a sum stands for a mean if it is to be wrong."""
    options: dict[str, Any] = {"epochs": 1, "batch_size": 8, "seed": 4}
    if not wrong:
        return certify_script(script, **options)
    source = replaced("jaxnet/losses/_arguments.py", "jnp.mean(loss, where=where)", "loss.sum()")
    with planted("jaxnet/losses/_arguments.py", source):
        return certify_script(script, **options)


def test_what_is_reported_of_a_divergence():
    certificate = certify_planted(True)
    found = certificate.divergence
    assert found is not None and not certificate.agrees
    assert (found.epoch, found.step, found.stage, found.index) == (1, 1, "loss", ())
    assert found.jax == pytest.approx(8 * found.torch) and found.ulps and found.ulps > 1e6
    assert found.error == pytest.approx(found.jax - found.exact)
    assert found.error > found.bound > found.torch_error  # pyright: ignore
    assert found.bound < 1e-5 * found.error  # pyright: ignore
    assert found.causes[0].startswith("all of it is 8 times torch's: is a factor, or a sum for")
    text = str(certificate)
    for part in (
        "DIVERGE in epoch 1, step 1: loss of loss.",
        "8 times torch's",
        "bound",
        "float64",
    ):
        assert part in text
    assert certificate.digests["jax, last"] == "not run"


@pytest.mark.parametrize("wrong", [True, False])
def test_text_json_and_html(wrong, tmp_path):
    certificate = certify_planted(wrong)
    paths = [certificate.save(tmp_path / f"certificate.{end}") for end in ("txt", "json", "html")]
    text, record, page = (path.read_text() for path in paths)
    assert text == f"{certificate}\n" and max(map(len, text.splitlines())) <= 110
    record = json.loads(record)
    assert record["agrees"] is certificate.agrees is not wrong
    assert record["verdict"] == certificate.verdict and record["settings"]["seed"] == 4
    assert len(record["losses"]) == certificate.steps
    assert set(record["machine"]) >= {"torch", "jax", "platform", "precision"}
    assert all(len(value) == 64 for key, value in record["digests"].items() if "first" in key)
    assert f'<h1 class="{certificate.verdict.lower()}">{certificate.verdict}' in page
    assert "<svg" in page and "http-equiv" not in page and "src=" not in page
    if certificate.divergence is not None:
        told = json.dumps(dataclasses.asdict(certificate.divergence))
        assert record["divergence"] == json.loads(told)


SCRIPT = """
import torch

def build():
    X = torch.randn(20, 6)
    net = torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 1))
    return net, torch.nn.MSELoss(), torch.optim.SGD(net.parameters()), (X, X[:, :1])

def unknown():
    net, loss, optimizer, (X, y) = build()
    return net, loss, optimizer, (X, y * float("nan"))

def recurrent():
    net, loss, optimizer, data = build()
    return torch.nn.Sequential(net, torch.nn.LSTM(1, 1)), loss, optimizer, data
"""


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["my_net.py:build", "--epochs", "2", "--batch-size", "16", "--seed", "1"], 0, "AGREE: 4"),
        (["my_net.py:unknown"], 3, "UNDECIDED: loss of loss"),
        (["my_net.py:recurrent"], 2, "loss must take the net's outputs"),
    ],
)
def test_the_shell(arguments, status, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_net.py").write_text(SCRIPT)
    done = CliRunner().invoke(main, ["certify", *arguments])
    assert done.exit_code == status, done.output
    assert message in done.output
