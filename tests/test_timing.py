"""What a certificate says of the time that a training step takes."""

import json
from typing import Any

import jax
import optax
import pytest
import torch
from torch import nn

from torchref import certify, timing

X, Y = torch.randn(12, 3), torch.randn(12, 1)


def fail_to_compile(net):
    raise RuntimeError(f"no compiler for {type(net).__name__}\nand more")


def make(monkeypatch, **options: Any):
    monkeypatch.setattr(torch, "compile", fail_to_compile)
    monkeypatch.setattr(timing, "_BLOCK", 1e-3)
    monkeypatch.setattr(timing, "_ROUNDS", 2)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 1), nn.Dropout(0.5))
    run: dict[str, Any] = {"loss": nn.MSELoss(), "batch_size": 4, "time": True}
    run["optimizer"] = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    begun = {name: value.clone() for name, value in net.state_dict().items()}
    state = torch.get_rng_state()
    try:
        return net, certify(net, data=(X, Y), **(run | options))
    finally:
        assert torch.equal(torch.get_rng_state(), state)
        assert all(torch.equal(value, begun[name]) for name, value in net.state_dict().items())
        assert not run["optimizer"].state


def linear(params, x, masks=None):
    y = x @ params["w"].T + params["b"][None]
    return y if masks is None else jax.numpy.where(masks["1"], 2 * y, 0.0)


def port(momentum=0.9):
    torch.manual_seed(0)
    layer = nn.Linear(3, 1)
    params = {"w": layer.weight.detach().numpy(), "b": layer.bias.detach().numpy()}
    return linear, params, optax.sgd(0.1, momentum)


@pytest.mark.parametrize("ours", [None, port()], ids=["jaxnet's", "a user's"])
def test_both_sides_are_timed_and_put_back(ours, monkeypatch, tmp_path):
    _, found = make(monkeypatch, port=ours)
    assert found.agrees, str(found)
    assert found.timing is not None
    assert list(found.timing.milliseconds) == ["torch", "port"]
    assert all(value > 0 for value in found.timing.milliseconds.values())
    assert (list(found.timing.speedup), found.timing.rows) == (["port"], 4)
    assert found.timing.compile_seconds["port"] > found.timing.milliseconds["port"] / 1e3
    said = "torch.compile does not compile it: RuntimeError: no compiler for Sequential"
    assert said in found.timing.notes
    assert said in str(found) and "and more" not in str(found)
    assert said in found.save(tmp_path / "it.html").read_text()
    written = json.loads(found.save(tmp_path / "it.json").read_text())["timing"]
    assert written["milliseconds"] == found.timing.milliseconds


def test_runs_that_part_are_not_timed(monkeypatch):
    _, found = make(monkeypatch, port=port(momentum=0.8))
    assert (found.verdict, found.timing) == ("DIVERGE", None)


def test_what_is_no_training_step_is_not_timed(monkeypatch):
    with pytest.raises(ValueError, match="time=True times a training step, and the run is no upda"):
        make(monkeypatch, optimizer=None)


def test_each_contestant_begins_a_round_in_its_turn(monkeypatch):
    order = []
    runs = {name: lambda steps, name=name: order.append(name) or float(steps) for name in "abc"}
    seconds = timing._interleave(runs, {"a": 1, "b": 2, "c": 4})
    assert order[:9] == [*"abcbcacab"] and len(order) == 3 * timing._ROUNDS
    assert seconds == {name: [1.0] * timing._ROUNDS for name in "abc"}


def test_others_that_keep_the_machine_busy_are_named(monkeypatch):
    times = iter([0.0, 6.0])
    monkeypatch.setattr(timing, "_count_busy", lambda: next(times))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: 5.0)
    begun = 1.0, timing._count_busy()
    said = "The machine was busy: others took 1.5 of its cores meanwhile."
    assert timing._find_others(*begun) == [said]
