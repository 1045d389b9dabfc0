"""The recorder: what it sees is what happened, and nothing changes by it."""

import time

import numpy as np
import pytest
import torch

from tests.helpers import assert_same_bits
from torchref import Recorder
from torchref.recorder import Step


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


X = torch.randn(20, 6, generator=torch.Generator().manual_seed(1))
Y = (X[:, :1] > 0).float()


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
    plain, loss, optimizer = build()
    train(plain, loss, optimizer)
    stream = torch.get_rng_state()
    net, recorder = recorded()
    assert torch.equal(torch.get_rng_state(), stream)
    for name, value in plain.state_dict().items():
        assert_same_bits(net.state_dict()[name], value, where=name)
    assert len(recorder) == 6
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


def test_past_its_limit_it_spills_to_files_that_go_with_it():
    _, kept = recorded()
    _, spilled = recorded(limit=20_000)
    folder = spilled._folder
    assert folder is not None and 0 < len(list(folder.iterdir())) < len(spilled)
    for left, right in zip(kept, spilled, strict=True):
        for field in Step._fields:
            first, second = getattr(left, field), getattr(right, field)
            if not isinstance(first, dict):
                first, second = {"": first}, {"": second}
            assert list(first) == list(second)
            for name in first:
                assert_same_bits(first[name], second[name], where=f"{field} {name}")
    del spilled
    assert not folder.exists()


def test_steps_are_handed_over_one_by_one():
    seen = []
    _, recorder = recorded(each=seen.append)
    assert len(seen) == 6 and len(recorder) == 0


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


def test_random_numbers_outside_dropout_layers_are_refused():
    class Hidden(torch.nn.Linear):
        def forward(self, input):
            return torch.nn.functional.dropout(super().forward(input), 0.5)

    net, loss = torch.nn.Sequential(Hidden(6, 1)), torch.nn.MSELoss()
    optimizer = torch.optim.SGD(net.parameters())
    with (
        pytest.raises(ValueError, match="net draws random numbers outside its torch.nn.Dropout"),
        Recorder(net, loss, optimizer),
    ):
        train(net, loss, optimizer)


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


def measure():
    """Seconds of a run with and without a recorder: run this file to see."""
    times = []
    for record in (False, True):
        net, loss, optimizer = build()
        begin = time.perf_counter()
        if record:
            with Recorder(net, loss, optimizer):
                train(net, loss, optimizer, epochs=100)
        else:
            train(net, loss, optimizer, epochs=100)
        times.append((time.perf_counter() - begin) / 300)
    print("a step takes {:.0f} us, recorded {:.0f} us".format(*(1e6 * t for t in times)))


if __name__ == "__main__":
    measure()
