"""The recorder: what it sees is what happened, and nothing changes by it."""

import numpy as np
import pytest
import torch

from tests.helpers import assert_same_bits
from tests.manual import X, Y
from torchref import Recorder


def build():
    torch.manual_seed(4)
    net = torch.nn.Sequential(
        torch.nn.Linear(6, 8),
        torch.nn.BatchNorm1d(8),
        torch.nn.Dropout(0.3),
        torch.nn.ReLU(inplace=True),
        torch.nn.Sequential(torch.nn.Dropout(0.04), torch.nn.Linear(8, 1)),
    )
    return net, torch.nn.BCEWithLogitsLoss(), torch.optim.Adam(net.parameters())


def train(net, loss_fn, optimizer, epochs=2):
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(X, Y), batch_size=8, shuffle=True
    )
    for _ in range(epochs):
        net.train()
        for x, y in loader:
            loss = loss_fn(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        net.eval()
        with torch.no_grad():
            net(X)


def recorded(**options):
    net, loss, optimizer = build()
    with Recorder(net, loss, optimizer, **options) as recorder:
        train(net, loss, optimizer)
    return net, recorder


def test_the_run_is_the_run_without_a_recorder():
    """Whose steps may also be handed over one by one."""
    plain, loss, optimizer = build()
    train(plain, loss, optimizer)
    stream = torch.get_rng_state()
    net, recorder = recorded()
    assert torch.equal(torch.get_rng_state(), stream)
    for name, value in plain.state_dict().items():
        assert_same_bits(net.state_dict()[name], value, where=name)
    seen = []
    assert len(recorder) == 6 and len(recorded(each=seen.append)[1]) == 0 and len(seen) == 6
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_a_step_can_be_computed_again_from_what_was_recorded():
    """Forward, backward and the last weights, from the recorded weights, batch and masks."""
    _, recorder = recorded()
    for number, step in enumerate(recorder):
        net, loss_fn, _ = build()
        with torch.no_grad():
            for name, parameter in net.named_parameters():
                parameter.copy_(torch.from_numpy(step.weights_before[name]))
            for name, buffer in net.named_buffers():
                buffer.copy_(torch.from_numpy(step.buffers_before[name]))
        assert list(step.outputs) == ["0", "1", "2", "3", "4.0", "4.1"]
        assert set(step.masks) == set(step.noise) == {"2", "4.0"}
        x = torch.from_numpy(step.batch["input"])
        for name in ("0", "1", "2", "3", "4.0", "4.1"):
            layer = net.train().get_submodule(name)
            if name in step.noise:
                keep = torch.from_numpy(step.masks[name])
                assert_same_bits(step.noise[name] != 0, step.masks[name])
                x = x * torch.from_numpy(step.noise[name])
                assert torch.equal(x != 0, keep & (x != 0))
            else:
                x = layer(x.clone())
            assert_same_bits(x, step.outputs[name], where=name)
        loss = loss_fn(x, torch.from_numpy(step.batch["target"]))
        assert_same_bits(loss, step.loss)
        loss.backward()
        for name, parameter in net.named_parameters():
            assert_same_bits(parameter.grad, step.grads[name], where=name)
        for name, buffer in net.named_buffers():
            assert_same_bits(buffer, step.buffers[name], where=name)
        if number + 1 < len(recorder):
            for name, weight in recorder[number + 1].weights_before.items():
                assert_same_bits(step.weights[name], weight, where=name)
                assert_same_bits(step.updates[name], weight - step.weights_before[name])


def test_a_layer_that_runs_twice_has_two_names():
    class Twice(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.drop = torch.nn.Linear(6, 6), torch.nn.Dropout(0.5)

        def forward(self, x):
            return self.drop(self.layer(self.drop(self.layer(x)))).sum(1, keepdim=True)

    net, loss = Twice(), torch.nn.MSELoss()
    optimizer = torch.optim.SGD(net.parameters())
    with Recorder(net, loss, optimizer) as recorder:
        train(net, loss, optimizer, epochs=1)
    assert list(recorder[0].outputs) == ["layer", "drop", "layer#1", "drop#1", ""]
    assert not np.array_equal(recorder[0].masks["drop"], recorder[0].masks["drop#1"])


class Encoder(torch.nn.Module):
    """Two tensors of an LSTM, an attention of functions and one of torch's, draws of all kinds."""

    def __init__(self):
        super().__init__()
        self.lstm = torch.nn.LSTM(3, 4, 2, dropout=0.2, batch_first=True)
        self.attn = torch.nn.MultiheadAttention(4, 2, dropout=0.5, batch_first=True)
        self.block = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Dropout(0.5))

    def forward(self, x, scale):
        x, _ = self.lstm(x.reshape(-1, 2, 3))
        x = self.attn(x, x, x)[0].transpose(1, 2)
        x = torch.nn.functional.dropout(x, 0.25).transpose(1, 2)
        x = torch.nn.functional.scaled_dot_product_attention(x, x, x, dropout_p=0.1)
        x = self.block(x + scale * torch.randn_like(x)).sum((1, 2))[:, None]
        return {"logits": x, "noise": torch.rand(2)}


def test_every_draw_and_every_output_is_heard():
    torch.manual_seed(0)
    net = Encoder()
    loss = torch.nn.Module()
    loss.forward = lambda outputs, y: ((outputs["logits"] - y) ** 2).mean()
    optimizer = torch.optim.SGD(net.parameters())
    with Recorder(net, loss, optimizer) as recorder:
        stream = torch.get_rng_state()
        loss(net(X, scale=torch.ones(1)), Y).backward()
        optimizer.step()
    step = recorder[0]
    assert list(step.batch) == ["input[0]", "input[scale]", "target"]
    assert list(step.outputs) == [
        "lstm", "lstm[1.0]", "lstm[1.1]", "attn", "attn[1]", "block.0", "block.1", "[logits]",
        "[noise]",
    ]  # fmt: skip
    drawn = [(draw.name, draw.kind, draw.ordered, draw.values.shape) for draw in step.draws]
    assert drawn == [
        ("lstm", "bernoulli", True, (2, 20, 4)),
        ("attn", "bernoulli", True, (40, 2, 2)),
        ("", "bernoulli", False, (20, 4, 2)),
        ("#1", "bernoulli", True, (1, 20, 2, 2)),
        ("#2", "normal", True, (20, 2, 4)),
        ("block.1", "bernoulli", True, (20, 2, 4)),
        ("#3", "uniform", True, (2,)),
    ]
    torch.set_rng_state(stream)
    for draw in step.draws:  # the same draws, from the same stream
        again = torch.empty(draw.values.shape)
        if draw.kind == "bernoulli":
            if not draw.ordered:  # as attention lays it: positions, rows, features
                again = again.permute(2, 0, 1).contiguous().permute(1, 2, 0)
            again = again.bernoulli_(draw.p).bool()
        else:
            again = again.normal_() if draw.kind == "normal" else again.uniform_()
        assert_same_bits(again, draw.values, where=draw.name)
    assert list(step.noise) == ["block.1"]


def test_a_clipping_hook_is_seen_in_the_update_alone():
    """Hooks run once more in a subclass whose step calls its parent's, which was used before."""

    class Clipped(torch.optim.SGD):
        def step(self, closure=None):
            torch.nn.utils.clip_grad_norm_(self.param_groups[0]["params"], 0.1)
            return super().step(closure)

    net, loss, _ = build()
    torch.optim.SGD(net.parameters(), lr=1.0)
    optimizer, calls = Clipped(net.parameters(), lr=1.0), []
    optimizer.register_step_pre_hook(
        lambda *_: calls.append([p.grad.mul_(0.5) for p in net.parameters() if p.grad is not None])
    )
    with Recorder(net, loss, optimizer) as recorder:
        for _ in range(2):
            optimizer.zero_grad()
            loss(net(X), Y).backward()
            given = [p.grad.clone() for p in net.parameters() if p.grad is not None]
            optimizer.step()
            for grad, seen in zip(given, recorder[-1].grads.values(), strict=True):
                assert_same_bits(grad, seen)
    assert len(recorder) == 2 and len(calls) == 4
    norm = np.sqrt(sum((update**2).sum() for update in recorder[0].updates.values()))
    assert norm == pytest.approx(0.05, rel=1e-4)


def test_looking_aside_changes_nothing():
    """Other calls of the net and of the loss between forward and step; keywords."""
    net, loss_fn, optimizer = build()
    losses = []
    with Recorder(net, loss_fn, optimizer) as recorder:
        for _ in range(3):
            output = net.train()(input=X)
            loss = loss_fn(output, target=Y)
            with torch.no_grad():
                net(X[:4])
                loss_fn(net(X[:4]), Y[:4])
            loss_fn(torch.zeros(1, 1), torch.ones(1, 1))
            optimizer.zero_grad()
            loss.backward()
            losses.append(loss.item())
            optimizer.step()
    assert len(recorder) == 3
    for step in recorder:
        assert step.batch["input"].shape == X.shape and step.batch["target"].shape == Y.shape
    assert [step.loss for step in recorder] == losses


def test_a_forward_that_fails_is_forgotten_and_a_second_one_refused():
    net, loss_fn, optimizer = build()
    with Recorder(net, loss_fn, optimizer) as recorder:
        with pytest.raises(RuntimeError):
            net.train()(torch.ones(2, 3))
        loss_fn(net(X), Y).backward()
        optimizer.step()
        assert len(recorder) == 1
        net(X)
        with pytest.raises(ValueError, match="net ran twice before optimizer.step"):
            net(X)
    with pytest.raises(TypeError, match="loss must be a torch.nn.Module, not function"):
        Recorder(net, torch.nn.functional.mse_loss, optimizer)  # pyright: ignore


def test_a_full_batch_is_copied_once():
    net, loss, optimizer = build()
    with Recorder(net, loss, optimizer) as recorder:
        for _ in range(3):
            optimizer.zero_grad()
            loss(net.train()(X), Y).backward()
            optimizer.step()
    first, second = recorder[0].batch["input"], recorder[1].batch["input"]
    assert first is second and not np.shares_memory(first, X.numpy())
