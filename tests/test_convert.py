"""torch's nets, losses, optimizers and state as jaxnet's: equal, or refused."""

import itertools
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import safetensors.torch
import torch
from torch import optim
from torch.optim import lr_scheduler

import jaxnet
from jaxnet import convert
from jaxnet.certificate.bounds import FINAL_WEIGHTS, REDUCTION, STEP, TRAJECTORY
from jaxnet.convert.optimizers import label_parameters
from jaxnet.convert.state import from_tensors
from tests.helpers import assert_close, assert_same_bits, assert_same_state, to_numpy
from tests.layers import rows
from tests.nets import NETS
from tests.test_train import assert_same_tree, torch_epoch
from torchref.handover import to_torch


@pytest.mark.parametrize("name", NETS)
def test_the_translation_computes_what_the_net_computes(name):
    """Names, values in evaluation and training mode, buffers, masks."""
    torch.manual_seed(3)
    net, x = NETS[name]()
    jnet, variables = convert.from_torch(net)
    expected = net.state_dict()
    named = convert.to_state_dict(variables)
    assert list(named) == list(expected)
    for key, value in named.items():
        assert_same_bits(value, expected[key], where=key)
    x_jax = jnp.asarray(to_numpy(x))
    assert_close(jnet.apply(variables, x_jax), net.eval()(x), REDUCTION, where="evaluation")
    torch.manual_seed(5)
    output = net.train()(x)
    generator, draws = jaxnet.nn.draw(jnet, jaxnet.random.manual_seed(5), x_jax)
    assert_same_state(generator)
    keywords = jaxnet.nn.call_keywords(jnet, True, draws or None)
    output_jax, buffers = jnet.apply(variables, x_jax, mutable=["batch_stats"], **keywords)
    assert_close(output_jax, output, REDUCTION, where="training")
    for key, value in convert.to_state_dict(buffers).items():
        assert_close(value, net.state_dict()[key], REDUCTION, where=key)


def test_the_mode_of_the_net_does_not_matter_and_nothing_is_shared():
    net = torch.nn.Sequential(torch.nn.Linear(2, 2)).eval()
    _, variables = convert.from_torch(net)
    before = np.array(variables["params"]["0"]["weight"])
    with torch.no_grad():
        net.get_parameter("0.weight").zero_()
    assert_same_bits(variables["params"]["0"]["weight"], before)


def test_names_of_an_ordered_dict():
    net = torch.nn.Sequential()
    for name in ("hidden", "layers", "init", "2"):
        net.add_module(name, torch.nn.Linear(3, 3))
    jnet, variables = convert.from_torch(net)
    assert convert.to_state_dict(variables).keys() == net.state_dict().keys()
    x = rows(4, 3)
    assert_close(jnet.apply(variables, x), net(torch.tensor(x)), REDUCTION)


class Doubled(torch.nn.ReLU):
    """Looks like a ReLU and is none."""

    def forward(self, input):
        return super().forward(input) * 2


class Named(torch.nn.Sequential):
    """A Sequential under another name."""


def hooked():
    layer = torch.nn.ReLU()
    layer.register_forward_hook(lambda layer, arguments, output: -output)
    return layer


def with_extra():
    layer = torch.nn.Linear(2, 2)
    layer.register_parameter("gain", torch.nn.Parameter(torch.ones(1)))
    return layer


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (lambda: torch.nn.LSTM(2, 2), "layer '1.0' is torch.nn.modules.rnn.LSTM"),
        (Doubled, "layer '1.0' is tests.test_convert.Doubled"),
        (hooked, "layer '1.0' has forward hooks"),
        (with_extra, "layer '1.0', Linear, has a tensor 'gain'"),
        (lambda: torch.nn.Softmax(), "layer '1.0', Softmax: dim=None"),
        (lambda: torch.nn.Embedding(3, 2, max_norm=1.0), "Embedding: max_norm=1.0 has no"),
        (lambda: torch.nn.MaxPool2d(2, return_indices=True), "MaxPool2d: return_indices=True"),
        (lambda: torch.nn.Linear(2, 2, dtype=torch.float16), "weight of torch.float16"),
        (lambda: torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(2, 2)), "'1.0' is"),
    ],
)
def test_what_has_no_translation_is_refused_by_place(layer, message):
    net = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Sequential(layer()))
    with pytest.raises(convert.Unsupported, match="(?s)" + message + ".*supported: Sequential of"):
        convert.from_torch(net)


def test_every_fault_of_a_net_is_listed():
    net = torch.nn.Sequential(torch.nn.LSTM(2, 2), torch.nn.ReLU(), torch.nn.Bilinear(2, 2, 2))
    with pytest.raises(convert.Unsupported) as caught:
        convert.from_torch(net)
    assert len(caught.value.faults) == 2
    with pytest.raises(convert.Unsupported, match="net must be a torch.nn.Module, not builtins"):
        convert.from_torch([1])


def test_shared_weights_are_refused():
    first, second = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    second.weight = first.weight
    with pytest.raises(convert.Unsupported, match="'0.weight' is shared"):
        convert.from_torch(torch.nn.Sequential(first, second))
    with pytest.raises(convert.Unsupported, match="'1.weight' is shared"):
        convert.from_torch(torch.nn.Sequential(first, first))


def test_a_subclass_that_changes_nothing_will_do():
    net = Named(torch.nn.Linear(2, 2), torch.nn.ReLU())
    jnet, variables = convert.from_torch(net)
    assert_close(jnet.apply(variables, rows(3, 2)), net(torch.tensor(rows(3, 2))), REDUCTION)


def test_float64_needs_x64():
    net = torch.nn.Linear(2, 2, dtype=torch.float64)
    with pytest.raises(ValueError, match="weight is float64|rounded to float32"):
        convert.from_torch(net)
    with jax.enable_x64(True):
        jnet, variables = convert.from_torch(net)
        x = rows(3, 2).astype(np.float64)
        assert_close(jnet.apply(variables, x), net(torch.tensor(x)), REDUCTION)


SMOOTHED: dict[str, Any] = {"ignore_index": 1, "label_smoothing": 0.2}
LOSSES = {
    "bce": (lambda: torch.nn.BCELoss(torch.rand(4, 1)), "probs"),
    "logits": (lambda: torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor([2.5])), "binary"),
    "logits_sum": (lambda: torch.nn.BCEWithLogitsLoss(torch.rand(3), reduction="sum"), "binary"),
    "classes": (lambda: torch.nn.CrossEntropyLoss(torch.rand(3), **SMOOTHED), "classes"),
    "nll": (lambda: torch.nn.NLLLoss(torch.rand(3), ignore_index=2), "classes"),
    "mse": (lambda: torch.nn.MSELoss(), "real"),
    "l1": (lambda: torch.nn.L1Loss(reduction="sum"), "real"),
    "smooth": (lambda: torch.nn.SmoothL1Loss(beta=0.3), "real"),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_keep_their_options(name):
    torch.manual_seed(0)
    build, kind = LOSSES[name]
    loss = build()
    x = torch.rand(4, 3) if kind == "probs" else torch.randn(4, 3)
    y = {
        "probs": torch.rand(4, 3),
        "binary": (torch.rand(4, 3) > 0.5).float(),
        "classes": torch.tensor([0, 1, 2, 0]),
        "real": torch.randn(4, 3),
    }[kind]
    translated = convert.loss_from_torch(loss)
    assert_close(translated(to_numpy(x), to_numpy(y)), loss(x, y))


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (torch.nn.HuberLoss(), "HuberLoss, which has no translation(?s:.*)supported: BCELoss"),
        (torch.nn.MSELoss(reduction="none"), "MSELoss has reduction='none'"),
        (torch.nn.functional.mse_loss, "loss is builtins.function"),
    ],
)
def test_losses_without_a_translation(loss, message):
    with pytest.raises(convert.Unsupported, match=message):
        convert.loss_from_torch(loss)


OPTIMIZERS = {
    "sgd": partial(optim.SGD, lr=0.1),
    "sgd_all": partial(
        optim.SGD, lr=0.1, momentum=0.9, dampening=0.3, weight_decay=0.01, maximize=True
    ),
    "nesterov": partial(optim.SGD, lr=0.1, momentum=0.9, nesterov=True),
    "adam": partial(optim.Adam, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1),
    "amsgrad": partial(optim.Adam, amsgrad=True, maximize=True),
    "decoupled": partial(optim.Adam, decoupled_weight_decay=True, weight_decay=0.1),
    "adamw": partial(optim.AdamW, weight_decay=0.2),
    "rmsprop": partial(optim.RMSprop, alpha=0.9, momentum=0.5, centered=True, weight_decay=0.01),
    "adagrad": partial(
        optim.Adagrad, lr_decay=0.1, initial_accumulator_value=0.2, weight_decay=0.01
    ),
    "tensors": partial(optim.Adam, lr=torch.tensor(0.01)),
}

SCHEDULERS = {
    "step": partial(lr_scheduler.StepLR, step_size=2, gamma=0.5),
    "exponential": partial(lr_scheduler.ExponentialLR, gamma=0.7),
    "cosine": partial(lr_scheduler.CosineAnnealingLR, T_max=4, eta_min=1e-3),
    "lambda": partial(lr_scheduler.LambdaLR, lr_lambda=lambda epoch: 1 / (1 + epoch)),
}


def mlp() -> torch.nn.Sequential:
    return torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))


def grouped(optimizer, net):
    """Three groups, one of them frozen, one parameter left out."""
    net[0].bias.requires_grad_(False)
    second = {"params": [net[2].weight, net[0].bias], "weight_decay": 0.3}
    return optimizer([{"params": [net[0].weight], "lr": 0.05}, second])


def hold_side_by_side(net, optimizer, translated, *, steps=6, after=lambda: None):
    """torch's gradients through both optimizers: each update against torch's."""
    params = convert.from_torch(net)[1]["params"]
    opt_state = translated.init(params)
    for step in range(steps):
        x = torch.tensor(rows(8, 5, seed=step))
        optimizer.zero_grad()
        net(x).square().mean().backward()
        before = convert.from_torch(net)[1]["params"]
        named = net.named_parameters()
        slopes = {k: torch.zeros_like(p) if p.grad is None else p.grad for k, p in named}
        grads = from_tensors(slopes)["params"]
        updates, opt_state = translated.update(grads, opt_state, before)
        optimizer.step()
        after()
        expected = net.state_dict()
        changes = convert.to_state_dict({"params": updates})
        after_jax = convert.to_state_dict({"params": optax.apply_updates(before, updates)})
        for key, weight in after_jax.items():
            ulp = np.spacing(np.abs(to_numpy(expected[key])))
            moved = np.abs(changes[key])
            gap = np.abs(weight - to_numpy(expected[key]))
            assert np.all(gap <= 2 * ulp + 4 * STEP.rtol * moved), (key, step)
    return opt_state


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_keep_their_options(name):
    torch.manual_seed(1)
    net = mlp()
    optimizer = OPTIMIZERS[name](net.parameters())
    hold_side_by_side(net, optimizer, convert.optimizer_from_torch(optimizer, net))


@pytest.mark.parametrize("name", ["sgd_all", "adam", "rmsprop", "adagrad"])
def test_parameter_groups_and_frozen_parameters(name):
    torch.manual_seed(1)
    net = mlp()
    optimizer = grouped(OPTIMIZERS[name], net)
    labels = label_parameters(optimizer, net)
    assert labels == {
        "0.weight": "0", "0.bias": "frozen", "2.weight": "1", "2.bias": "frozen"
    }  # fmt: skip
    hold_side_by_side(net, optimizer, convert.optimizer_from_torch(optimizer, net))


@pytest.mark.parametrize("schedule", SCHEDULERS)
@pytest.mark.parametrize("name", ["sgd_all", "adam", "adagrad"])
def test_schedulers_of_groups(name, schedule):
    """Two steps an epoch, nine epochs; one group beside another."""
    torch.manual_seed(1)
    net = mlp()
    optimizer = grouped(OPTIMIZERS[name], net)
    scheduler = SCHEDULERS[schedule](optimizer)
    counts: Any = {"steps_per_epoch": 2, "epochs": 9}
    translated = convert.optimizer_from_torch(optimizer, net, scheduler=scheduler, **counts)
    after = itertools.cycle([lambda: None, scheduler.step])
    hold_side_by_side(net, optimizer, translated, steps=18, after=lambda: next(after)())


def by_hand(net):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    scheduler = lr_scheduler.StepLR(optimizer, 5)
    optimizer.param_groups[0]["lr"] = 0.05
    return optimizer, scheduler


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda net: (torch.optim.LBFGS(net.parameters()), None), "optimizer is torch.optim.lbfgs"),
        (lambda net: (torch.optim.SGD(mlp().parameters()), None), "0 of group 0, that net has not"),
        (by_hand, "group 0 has lr 0.05, but its StepLR gives 0.1"),
        (lambda net: (by_hand(net)[0], by_hand(net)[1]), "scheduler is another optimizer's"),
        (
            lambda net: (o := torch.optim.SGD(net.parameters()), lr_scheduler.LinearLR(o)),
            "LinearLR, which has no translation(?s:.*)supported: StepLR",
        ),
    ],
)
def test_optimizers_without_a_translation(build, message):
    net = mlp()
    optimizer, scheduler = build(net)
    with pytest.raises(convert.Unsupported, match=message):
        convert.optimizer_from_torch(optimizer, net, scheduler=scheduler)


def example():
    """A net with everything that a run carries: dropout, buffers, moments, a schedule."""
    return torch.nn.Sequential(
        torch.nn.Linear(6, 8, bias=False),  # under Adam, a bias here would be moved by rounding
        torch.nn.BatchNorm1d(8),
        torch.nn.Dropout(0.3),
        torch.nn.ReLU(),
        torch.nn.Linear(8, 1),
    )


DATA = (rows(50, 6), (rows(50, 1, seed=9) > 0).astype(np.float32))


def train_torch(net, optimizer, scheduler, epochs, own=None):
    """The loop of the lecture's section 1D, shuffled."""
    data = torch.utils.data.TensorDataset(*map(torch.tensor, DATA))
    loader = torch.utils.data.DataLoader(data, 8, shuffle=True, generator=own)
    losses = []
    for _ in range(epochs):
        net.train()
        losses += torch_epoch(net, optimizer, loader)
        scheduler.step()
    return losses


HANDED = {
    "sgd": partial(optim.SGD, lr=0.1, momentum=0.9, dampening=0.3, weight_decay=0.01),
    "amsgrad": partial(torch.optim.Adam, amsgrad=True),
    "rmsprop": OPTIMIZERS["rmsprop"],
    "adagrad": OPTIMIZERS["adagrad"],
}
QUICK = [("sgd", False), ("amsgrad", True)]
"""The others are handed over in `tests/slow`."""


def begin(name):
    torch.manual_seed(7)
    net = example()
    optimizer = HANDED[name](net.parameters())
    return net, optimizer, lr_scheduler.StepLR(optimizer, 2, 0.5)


@pytest.mark.parametrize("name, own", QUICK)
def test_a_run_is_handed_over_between_epochs_and_back(name, own, tmp_path):
    """One epoch in torch, two in jaxnet through a file, two in torch: as five in torch."""
    whole = begin(name)
    loader_generator = torch.Generator().manual_seed(3) if own else None
    losses = train_torch(*whole, 5, loader_generator)
    state_after = torch.get_rng_state()

    net, optimizer, scheduler = begin(name)
    loader_generator = torch.Generator().manual_seed(3) if own else None
    found = train_torch(net, optimizer, scheduler, 1, loader_generator)
    counts: Any = {"steps_per_epoch": 7, "epochs": 5}
    translated = convert.optimizer_from_torch(optimizer, net, scheduler=scheduler, **counts)
    jnet, _ = convert.from_torch(net)
    its_own = None if loader_generator is None else loader_generator.get_state()
    state = convert.train_state_from_torch(
        net, optimizer, translated, torch.get_rng_state(), step=7, loader_generator=its_own
    )
    convert.save_train_state(tmp_path / "run.safetensors", state)
    again = convert.load_train_state(tmp_path / "run.safetensors", like=state)
    assert_same_tree(again, state)
    own_jax = jaxnet.random.manual_seed(3) if own else None
    loader = jaxnet.data.DataLoader(DATA, 8, shuffle=True, generator=own_jax)
    loss = jaxnet.losses.binary_cross_entropy_with_logits
    state, history = jaxnet.fit(
        jnet, loader, loss=loss, optimizer=translated, epochs=2, state=again
    )
    found += list(map(float, history.losses))

    net, optimizer, scheduler = begin(name)  # built anew: what they hold is the state's
    other = torch.Generator() if own else None
    to_torch(state, net, optimizer, scheduler=scheduler, epochs=3, loader_generator=other)
    found += train_torch(net, optimizer, scheduler, 2, other)
    assert torch.equal(torch.get_rng_state(), state_after)
    assert_close(np.array(found), np.array(losses), TRAJECTORY)
    ended = whole[0].state_dict().values()
    for (key, weight), expected in zip(net.state_dict().items(), ended, strict=True):
        scale = float(expected.double().abs().max())
        assert float((weight - expected).abs().max()) <= FINAL_WEIGHTS.rtol * scale, key


def test_optimizer_state_goes_to_torch_and_back():
    net, optimizer, scheduler = begin("rmsprop")
    train_torch(net, optimizer, scheduler, 1)
    translated = convert.optimizer_from_torch(optimizer, net)
    like = translated.init(convert.from_torch(net)[1]["params"])
    opt_state = convert.opt_state_from_torch(optimizer, net, like)
    saved = convert.opt_state_to_torch(opt_state, optimizer, net)
    expected = optimizer.state_dict()
    assert saved["param_groups"] == expected["param_groups"]
    assert saved["state"].keys() == expected["state"].keys()
    for index, values in expected["state"].items():
        assert saved["state"][index].keys() == values.keys()
        for key, value in values.items():
            assert_same_bits(saved["state"][index][key], value, where=key)


def test_parameters_that_have_done_different_numbers_of_steps_are_refused():
    net = mlp()
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.ones(1, 5)).sum().backward()
    optimizer.step()
    optimizer.state[dict(net.named_parameters())["0.bias"]]["step"] += 1
    like = convert.optimizer_from_torch(optimizer, net).init(convert.from_torch(net)[1]["params"])
    with pytest.raises(ValueError, match=r"have done \[1.0, 2.0\] steps"):
        convert.opt_state_from_torch(optimizer, net, like)


def test_safetensors_files_both_ways(tmp_path):
    torch.manual_seed(2)
    net, _ = NETS["batch_norm"]()
    net.train()(torch.randn(7, 5))
    path = tmp_path / "net.safetensors"
    safetensors.torch.save_file(net.state_dict(), path)
    jnet, variables = convert.from_torch(net)
    _, fresh = jaxnet.init(jnet, jaxnet.random.manual_seed(0))
    loaded = convert.load_safetensors(path, like=fresh)
    assert_same_tree(loaded, variables)
    convert.save_safetensors(tmp_path / "back.safetensors", loaded)
    back = safetensors.torch.load_file(tmp_path / "back.safetensors")
    assert back.keys() == net.state_dict().keys()
    for key, value in net.state_dict().items():
        assert torch.equal(back[key], value) and back[key].dtype == value.dtype
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["back.safetensors", "net.safetensors"]


def test_a_file_that_does_not_fit_is_refused_with_all_its_faults(tmp_path):
    net = mlp()
    _, variables = convert.from_torch(net)
    tensors = net.state_dict()
    tensors["0.weight"] = tensors["0.weight"].T.contiguous()
    tensors["2.weight"] = tensors["2.weight"].double()
    tensors["3.bias"] = tensors.pop("2.bias")
    safetensors.torch.save_file(tensors, tmp_path / "bad.safetensors")
    faults = [
        "2.bias: missing", "3.bias: not expected", r"0.weight: shape \(5, 4\), expected \(4, 5\)",
        "2.weight: type float64, expected float32",
    ]  # fmt: skip
    readers: list[Any] = [convert.load_safetensors, convert.from_state_dict]
    for read, source in zip(readers, (tmp_path / "bad.safetensors", tensors), strict=True):
        with pytest.raises(ValueError) as caught:
            read(source, like=variables)
        for fault in faults:
            assert caught.match(fault)


def test_no_pickle_is_read(tmp_path):
    net = mlp()
    torch.save(net.state_dict(), tmp_path / "net.pt")
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    _, variables = convert.from_torch(net)
    for name in ("net.pt", "cut.safetensors"):
        with pytest.raises(ValueError, match="is not a whole safetensors file.*pickles are not"):
            convert.load_safetensors(tmp_path / name, like=variables)
    with pytest.raises(FileNotFoundError):
        convert.load_safetensors(tmp_path / "none.safetensors", like=variables)


def test_nothing_half_written_stays(tmp_path, monkeypatch):
    _, variables = convert.from_torch(mlp())
    path = tmp_path / "net.safetensors"
    convert.save_safetensors(path, variables)
    before = path.read_bytes()
    monkeypatch.setattr("pathlib.Path.replace", lambda *arguments: (_ for _ in ()).throw(OSError))
    with pytest.raises(OSError):
        convert.save_safetensors(path, variables)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_a_state_without_torchs_stream_is_not_written(tmp_path):
    variables = convert.from_torch(mlp())[1]
    for generator in (jax.random.key(0), jaxnet.random.manual_seed(0, device="cuda")):
        state = jaxnet.train.start(jaxnet.optim.sgd(), variables, generator)
        with pytest.raises(TypeError, match="state must have torch's CPU generator"):
            convert.save_train_state(tmp_path / "run.safetensors", state)
    assert not list(tmp_path.iterdir())


def test_the_first_message_of_another_net_says_what_to_do():
    """What is supported, that `port=` is there, and which page to read."""

    class Mine(torch.nn.Module):
        def forward(self, x):
            return x

    with pytest.raises(convert.Unsupported) as caught:
        convert.from_torch(Mine())
    first, supported, rest = str(caught.value).splitlines()
    assert first.endswith("Mine, whose forward from_torch cannot translate")
    assert supported.startswith("supported: Sequential of Linear")
    assert "port=(apply, variables, optax_optimizer)" in rest and "docs/certificates.md" in rest
