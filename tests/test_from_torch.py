"""Nets of any kind from torch's own forward: the same numbers."""

import functools
import json
import random
from pathlib import Path

import flax.linen
import jax
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import jaxnet
from jaxnet import convert
from jaxnet._utils.descriptions import describe
from jaxnet.certificate.bounds import TRAJECTORY
from jaxnet.program import TorchNet
from tests.helpers import assert_close, assert_same_bits, assert_same_state, to_numpy
from tests.ported import (
    Ported,
    assert_same_draws,
    assert_same_evaluation,
    assert_same_step,
    port,
)

X = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))


def test_a_training_step_and_evaluation_are_torchs():
    """Of a batch shorter than the example's: neither needs a new export."""
    assert_same_step("tied", batch=3)
    assert_same_evaluation("tied")


class Small(nn.Module):
    """Batch norm, dropout, noise, and a part that has no gradient."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.drop = nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.3)
        self.last = nn.Linear(8, 2)
        self.last.bias.requires_grad_(False)

    def forward(self, x):
        h = self.drop(F.relu(self.norm(self.first(x))))
        with torch.no_grad():
            gate = torch.sigmoid(self.first(x))
        h = h * gate
        return self.last(h + 0.1 * torch.randn_like(h) if self.training else h)


def small():
    """The net anew, and its port, which is exported once."""
    (jnet, variables), *_ = _port_small()
    assert isinstance(jnet, TorchNet)
    torch.manual_seed(0)
    return Small(), jnet, variables


@functools.cache
def _port_small():
    """The port, and what was noted before and after its export."""
    torch.manual_seed(0)
    net = Small().eval()
    net.drop.train()
    before = _note(net)
    return convert.from_torch(net, X), before, _note(net)


def _note(net):
    """What an export must leave alone."""
    tensors = {"stream": torch.get_rng_state(), **net.state_dict()}
    modes = [module.training for module in net.modules()]
    grads = [parameter.grad for parameter in net.parameters()]
    return {k: to_numpy(v) for k, v in tensors.items()}, (random.getstate(), modes, grads)


def test_the_net_and_the_streams_stay_as_they_were():
    _, (tensors, rest), (after, others) = _port_small()
    jax.tree.map(assert_same_bits, after, tensors)
    assert rest == others


def test_fit_is_torchs_loop():
    """Two epochs with a short last batch: masks, noise, statistics, frozen weights, the stream."""
    net, jnet, _ = small()
    rows = torch.randn(10, 4, generator=torch.Generator().manual_seed(1))
    y = rows.sum(1, keepdim=True).expand(-1, 2).contiguous()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    jax_optimizer = convert.optimizer_from_torch(optimizer, net)
    state, history = jaxnet.fit(
        jnet,
        (to_numpy(rows), to_numpy(y)),
        loss=jaxnet.losses.mse_loss,
        optimizer=jax_optimizer,
        epochs=2,
        batch_size=4,
        seed=3,
    )
    torch.manual_seed(3)
    losses = []
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(rows, y), batch_size=4)
    for _ in range(2):
        for batch in loader:
            optimizer.zero_grad()
            loss = F.mse_loss(net.train()(batch[0]), batch[1])
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert_same_state(state.generator)
    np.testing.assert_allclose(history.losses, losses, rtol=TRAJECTORY.rtol)
    named = convert.to_state_dict({"params": state.params, **state.model_state})
    for name, value in net.state_dict().items():
        np.testing.assert_allclose(named[name], value, rtol=1e-4, atol=1e-6, err_msg=name)
    assert_same_bits(named["last.bias"], net.last.bias)
    outputs = jaxnet.predict(jnet, state, to_numpy(rows))
    assert outputs.shape == (10, 2)


def test_names_and_shared_tensors():
    ported = port("tied")
    named = convert.to_state_dict(ported.variables)
    expected = {k: v for k, v in ported.net.state_dict().items() if k != "head.weight"}
    assert named.keys() == expected.keys()
    for name, value in expected.items():
        assert_same_bits(named[name], value)
    assert dict(ported.jnet.port.aliases) == {"head.weight": "emb.weight"}


def test_layers_are_seen_by_name():
    net, jnet, variables = small()
    names = []

    @jax.jit
    def see(variables, x):
        some = jnet.apply(variables, x, capture=("first", "norm"))
        every = jnet.apply(variables, x, capture=True)[1]
        names.extend((list(some[1]), list(every)))
        return *some, jnet.apply(variables, x)

    outputs, seen, plain = see(variables, to_numpy(X))
    assert names == [["first", "norm"], ["first", "norm", "drop", "first#1", "last"]]
    assert_close(seen["first"], net.first(X))
    assert_close(outputs, plain)
    with pytest.raises(ValueError, match="capture must name layers of the net, not 'frist'; did"):
        jnet.apply(variables, to_numpy(X), capture=["frist"])


class Around(flax.linen.Module):
    """A Flax module with a ported net in it."""

    inner: flax.linen.Module

    @flax.linen.compact
    def __call__(self, x, train=False, draws=None):
        draws = draws or {}
        h = self.inner(x, train=train, draws=draws.get("inner"))
        return flax.linen.Dense(1, name="head")(h)


def test_inside_another_module_and_through_transformations():
    net, jnet, variables = small()
    around, x = Around(jnet), to_numpy(X)
    outer = jax.jit(around.init)(jax.random.key(0), x)
    assert_same_bits(outer["params"]["inner"]["first"]["weight"], net.first.weight)
    generator, draws = jaxnet.nn.draw(around, jaxnet.random.manual_seed(7), x)
    alone = assert_same_draws(Ported(net, jnet, variables), X)
    jax.tree.map(assert_same_bits, draws["inner"], alone)

    def run(x):
        return jnet.apply(variables, x)

    @jax.jit
    def transform(outer, draws, x):
        keyed = jnet.apply(
            variables, x, train=True, rngs={"dropout": jax.random.key(1)}, mutable=["batch_stats"]
        )
        return (
            around.apply(outer, x, train=True, draws=draws, mutable=["batch_stats"]),
            [
                run(x),
                jax.vmap(run)(x[None])[0],
                jax.lax.scan(lambda c, x: (c, run(x)), 0, x[None])[1][0],
            ],
            keyed[0],
        )

    (y, after), (expected, lane, step), keyed = transform(outer, draws, x)
    assert y.shape == (4, 1) and np.isfinite(keyed).all()
    assert np.array_equal(after["batch_stats"]["inner"]["norm"]["num_batches_tracked"], 1)
    assert_close(lane, expected)
    assert_close(step, expected)


class Many(nn.Module):
    """Several inputs, nested outputs."""

    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(4, 4)

    def forward(self, x, pair, scale=1.0, mask=None):
        a, b = pair
        y = self.lin(x) * scale + a - b
        y = y if mask is None else y.masked_fill(mask, 0.0)
        return {"y": y, "parts": (y.sum(1), [a * 2])}


def test_several_inputs_and_outputs():
    net, mask = Many(), X > 1
    jnet, variables = convert.from_torch(net, X, (X + 1, X - 2), mask=mask)
    x, pair = to_numpy(X), (to_numpy(X + 1), to_numpy(X - 2))
    expected = net(X, (X + 1, X - 2), mask=mask)
    ours = jnet.apply(variables, x, pair, mask=to_numpy(mask))
    assert list(ours) == ["y", "parts"] and isinstance(ours["parts"][1], list)
    assert_close(ours["parts"][0], expected["parts"][0])
    with pytest.raises(ValueError, match="must have the input 'mask' by name"):
        jnet.apply(variables, x, pair)
    with pytest.raises(TypeError, match=r"'x' must be float32\[.*\], not int32"):
        jnet.apply(variables, x.astype(np.int32), pair, mask=to_numpy(mask))


def test_what_a_call_needs():
    _, jnet, variables = small()
    x = to_numpy(X)
    with pytest.raises(ValueError, match="draws must be given: in training this net draws"):
        jnet.apply(variables, x, train=True)
    with pytest.raises(ValueError, match="draws names .*which this net does not draw"):
        jnet.apply(variables, x, draws={"drop": np.ones((4, 8), bool)})
    with pytest.raises(ValueError, match=r"'x' must be float32\[s\d+, 4\], not float32\[4, 5\]"):
        jnet.apply(variables, np.ones((4, 5), np.float32))
    with pytest.raises(ValueError, match="variables must have 'norm' in 'batch_stats'"):
        jnet.apply({"params": variables["params"]}, x)


class Counted(nn.Module):
    """Takes any number of rows, of which its graph is made for one."""

    def __init__(self):
        super().__init__()
        self.lin, self.drop = nn.Linear(4, 4), nn.Dropout(0.5)

    def forward(self, x):
        rows = int(x.shape[0])
        return self.drop(self.lin(x)) * torch.ones(rows).cumsum(0)[:, None]


def test_where_a_size_may_not_vary_the_net_is_exported_for_each(tmp_path):
    """Of one row too: torch.export frees no axis that is 1 in its example."""
    torch.manual_seed(0)
    net = Counted()
    jnet, variables = convert.from_torch(net, X, batch_sizes=(4, 1))
    assert isinstance(jnet, TorchNet)
    convert.save(tmp_path / "net", jnet, variables)
    jnet, variables = convert.load(tmp_path / "net")
    for rows in (4, 1):
        x = to_numpy(X[:rows])
        _, draws = jaxnet.nn.draw(jnet, jaxnet.random.manual_seed(1), x)
        torch.manual_seed(1)
        expected = net.train()(X[:rows])
        assert_close(jnet.apply(variables, x, train=True, draws=draws), expected)
    with pytest.raises(ValueError, match=r"float32\[4, 4\], not float32\[2, 4\]: where a size is"):
        jnet.apply(variables, to_numpy(X[:2]))


def test_saved_and_loaded(tmp_path):
    _, jnet, variables = small()
    convert.save(tmp_path / "net", jnet, variables)
    again, loaded = convert.load(tmp_path / "net")
    assert again == jnet and hash(again) == hash(jnet)
    assert json.dumps(describe(jnet)) == json.dumps(describe(again))
    jax.tree.map(assert_same_bits, loaded, jax.tree.map(np.asarray, variables))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.json", "net.safetensors"]
    text = (tmp_path / "net.json").read_text()
    assert '"where": "tests/test_from_torch.py:' in text and str(Path.cwd()) not in text
    (tmp_path / "net.json").write_text(text[: len(text) // 2])
    with pytest.raises(ValueError, match="net.json is damaged, or no JSON"):
        convert.load(tmp_path / "net")
    (tmp_path / "net.json").write_text(text.replace("aten.relu.default", "aten.tanh.default"))
    with pytest.raises(ValueError, match="its program is not the one that was saved"):
        convert.load(tmp_path / "net")
    (tmp_path / "net.json").write_text(text)
    content = (tmp_path / "net.safetensors").read_bytes()
    (tmp_path / "net.safetensors").write_bytes(content[:-4] + b"abcd")
    with pytest.raises(ValueError, match="net.safetensors is damaged, or belongs to another net"):
        convert.load(tmp_path / "net")
    (tmp_path / "net.json").write_text('{"format": "other"}')
    with pytest.raises(ValueError, match="was not written by save"):
        convert.load(tmp_path / "net")
