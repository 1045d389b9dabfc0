"""The certificate itself: ports of one's own, what it reports, what it leaves alone, the shell."""

import copy
import dataclasses
import json
from typing import Any

import flax.linen
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from click.testing import CliRunner

import jaxnet
from tests.helpers import assert_same_bits
from tests.mutants import planted, replaced
from torchref import certify
from torchref.certification import certify_script
from torchref.cli import main
from torchref.matching import match_tensors, name_leaves, place

X = torch.randn(20, 6, generator=torch.Generator().manual_seed(1))
Y = (X[:, :1] > 0).float()
LOSS = torch.nn.BCEWithLogitsLoss()


class Residual(torch.nn.Module):
    """A net that is no Sequential."""

    def __init__(self):
        super().__init__()
        self.a, self.norm = torch.nn.Linear(6, 6), torch.nn.LayerNorm(6)
        self.drop, self.b = torch.nn.Dropout(0.3), torch.nn.Linear(6, 1)

    def forward(self, x):
        return self.b(self.drop(torch.relu(self.norm(self.a(x))) + x))


class Port(flax.linen.Module):
    """The same, as a Flax user writes it."""

    @flax.linen.compact
    def __call__(self, x, train=False, masks=None):
        x = flax.linen.relu(flax.linen.LayerNorm(epsilon=1e-5)(flax.linen.Dense(6)(x))) + x
        if train:
            assert masks is not None
            x = jnp.where(masks["drop"], x / np.float32(0.7), 0)
        return flax.linen.Dense(1)(x)


def build(optimizer=lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)):
    torch.manual_seed(0)
    net = Residual()
    return net, optimizer(net.parameters())


def variables_of(net):
    arrays = {name: value.detach().numpy().copy() for name, value in net.named_parameters()}
    return {
        "params": {
            "Dense_0": {"kernel": arrays["a.weight"].T, "bias": arrays["a.bias"]},
            "LayerNorm_0": {"scale": arrays["norm.weight"], "bias": arrays["norm.bias"]},
            "Dense_1": {"kernel": arrays["b.weight"].T, "bias": arrays["b.bias"]},
        }
    }


RUN: dict[str, Any] = {
    "loss": LOSS,
    "data": (X, Y),
    "epochs": 2,
    "batch_size": 8,
    "shuffle": True,
    "seed": 3,
}


def certify_port(apply=None, optimizer=None, change=lambda variables: variables, **options):
    net, torch_optimizer = build()
    return certify(
        net,
        optimizer=torch_optimizer,
        port=(
            Port().apply if apply is None else apply,
            change(variables_of(net)),
            optax.sgd(0.1, momentum=0.9) if optimizer is None else optimizer,
        ),
        **(RUN | options),
    )


def test_a_port_of_ones_own_is_right():
    certificate = certify_port()
    assert certificate.agrees, certificate
    assert certificate.settings["port"] == "the caller's" and certificate.steps == 6
    assert certificate.checked["masks"] == 2 * 20 * 6
    assert len(certificate.run_gaps) == 6


def test_a_port_may_be_a_function():
    def apply(variables, x, deterministic, masks=None):
        return Port().apply(variables, x, train=not deterministic, masks=masks)

    assert certify_port(apply).agrees


def transposed(variables):
    kernel = variables["params"]["Dense_0"]["kernel"]
    variables["params"]["Dense_0"]["kernel"] = kernel.T.copy()
    return variables


def other(variables):
    variables["params"]["Dense_1"]["bias"] = variables["params"]["Dense_1"]["bias"] + 1
    return variables


class Eager(Port):
    """Drops without scaling."""

    @flax.linen.compact
    def __call__(self, x, train=False, masks=None):
        x = flax.linen.relu(flax.linen.LayerNorm(epsilon=1e-5)(flax.linen.Dense(6)(x))) + x
        if train:
            assert masks is not None
            x = jnp.where(masks["drop"], x, 0)
        return flax.linen.Dense(1)(x)


@pytest.mark.parametrize(
    ("options", "stage", "tensor"),
    [
        ({"change": transposed}, "outputs", "(net)"),
        ({"change": other}, "initial weights", "b.bias"),
        ({"apply": Eager().apply}, "outputs", "(net)"),
        ({"optimizer": optax.sgd(0.1, momentum=0.9, nesterov=True)}, "update", "a.weight"),
        ({"optimizer": optax.adam(0.1)}, "update", "a.weight"),
        ({"loss": (LOSS, lambda o, y: optax.sigmoid_binary_cross_entropy(o, y).sum())}, "loss",
         "loss"),
    ],
)  # fmt: skip
def test_a_port_of_ones_own_that_is_wrong(options, stage, tensor):
    found = certify_port(**options).divergence
    assert found is not None and (found.stage, found.tensor) == (stage, tensor)


def test_a_port_with_buffers_returns_its_collections():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.BatchNorm1d(4))
    net.append(torch.nn.Linear(4, 1))

    class Normed(flax.linen.Module):
        momentum: float = 0.9

        @flax.linen.compact
        def __call__(self, x, train=False):
            x = flax.linen.Dense(4)(x)
            x = flax.linen.BatchNorm(not train, momentum=self.momentum, epsilon=1e-5)(x)
            return flax.linen.Dense(1)(x)

    arrays = {name: value.detach().numpy().copy() for name, value in net.state_dict().items()}
    variables = {
        "params": {
            "Dense_0": {"kernel": arrays["0.weight"].T, "bias": arrays["0.bias"]},
            "BatchNorm_0": {"scale": arrays["1.weight"], "bias": arrays["1.bias"]},
            "Dense_1": {"kernel": arrays["2.weight"].T, "bias": arrays["2.bias"]},
        },
        "batch_stats": {
            "BatchNorm_0": {"mean": arrays["1.running_mean"], "var": arrays["1.running_var"]}
        },
    }
    options: dict[str, Any] = RUN | {"optimizer": torch.optim.SGD(net.parameters(), lr=0.1)}
    # Flax keeps the biased variance where torch keeps the unbiased one: the certificate says so.
    found = certify(net, port=(Normed().apply, variables, optax.sgd(0.1)), **options).divergence
    assert found is not None and (found.stage, found.tensor) == ("buffers", "1.running_var")
    port = (Normed(momentum=0.1).apply, variables, optax.sgd(0.1))
    found = certify(net, port=port, **options).divergence
    assert found is not None and (found.stage, found.tensor) == ("buffers", "1.running_mean")


@pytest.mark.parametrize(
    ("torch_optimizer", "own"),
    [
        (lambda p: torch.optim.Adam(p, lr=0.1), optax.adam(0.1)),
        (lambda p: torch.optim.AdamW(p, weight_decay=0.1), optax.adamw(1e-3, weight_decay=0.1)),
        (lambda p: torch.optim.Adagrad(p), jaxnet.optim.adagrad()),
        (
            lambda p: torch.optim.RMSprop(p),
            optax.rmsprop(0.01, decay=0.99, eps_in_sqrt=False),
        ),
    ],
)
def test_optimizers_of_ones_own_that_are_right(torch_optimizer, own):
    net, _ = build()
    certificate = certify(
        net,
        optimizer=torch_optimizer(net.parameters()),
        port=(Port().apply, variables_of(net), own),
        **RUN,
    )
    assert certificate.agrees, certificate


def test_what_torch_freezes_the_port_must_leave_alone():
    net, _ = build()
    net.a.weight.requires_grad_(False)
    found = certify(
        net,
        optimizer=torch.optim.SGD(net.parameters(), lr=0.1),
        port=(Port().apply, variables_of(net), optax.sgd(0.1)),
        **RUN,
    ).divergence
    assert found is not None and (found.stage, found.tensor) == ("update", "a.weight")


def test_layers_that_bear_torchs_names_are_seen():
    class Twice(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = torch.nn.Linear(6, 6), torch.nn.Linear(6, 1)

        def forward(self, x):
            return self.two(torch.relu(self.one(torch.relu(self.one(x)))))

    class TwicePort(flax.linen.Module):
        slope: float = 0.0

        @flax.linen.compact
        def __call__(self, x):
            one = flax.linen.Dense(6, name="one")
            x = flax.linen.leaky_relu(one(x), self.slope)
            return flax.linen.Dense(1, name="two")(flax.linen.relu(one(x)))

    torch.manual_seed(0)
    net = Twice()
    arrays = {name: value.detach().numpy().copy() for name, value in net.named_parameters()}
    variables = {
        "params": {
            layer: {"kernel": arrays[f"{layer}.weight"].T, "bias": arrays[f"{layer}.bias"]}
            for layer in ("one", "two")
        }
    }
    options: dict[str, Any] = RUN | {"optimizer": torch.optim.SGD(net.parameters(), lr=0.1)}
    assert certify(net, port=(TwicePort().apply, variables, optax.sgd(0.1)), **options).agrees
    wrong = (TwicePort(slope=0.01).apply, variables, optax.sgd(0.1))
    found = certify(net, port=wrong, **options).divergence
    assert found is not None and (found.stage, found.tensor) == ("outputs", "one#1")


def test_a_net_that_is_one_dropout_is_compared():
    """Its mask has no name, and is handed over by itself."""
    certificate = certify(torch.nn.Dropout(0.5), data=(X, Y), epochs=2, batch_size=8)
    assert certificate.agrees, certificate
    assert certificate.checked["masks"] >= 2 * X.numel()


def test_tensors_that_cannot_be_told_apart_are_refused():
    named = {"n1.weight": np.ones(3), "n2.weight": np.ones(3)}
    with pytest.raises(ValueError, match="several tensors with the values of n1.weight"):
        match_tensors(named, {"first": {"scale": np.ones(3)}, "after": {"scale": np.ones(3)}})


@pytest.mark.parametrize("where", ["tensor", "optimizer", "forward", "float64"])
def test_what_a_port_could_not_follow_is_refused(where):
    net = torch.nn.Sequential(torch.nn.Linear(6, 1))
    optimizer = torch.optim.SGD(net.parameters())
    if where == "tensor":
        net.get_parameter("0.weight").register_hook(lambda grad: grad * 0)
    elif where == "optimizer":
        optimizer.register_step_pre_hook(lambda *arguments: None)
    elif where == "forward":
        net[0].forward = lambda x: x[:, :1] * 0
    else:
        net.double()
    with pytest.raises(
        ValueError, match="hook on a parameter|step hooks|forward of its own|float32"
    ):
        certify(net, optimizer=optimizer, **RUN)


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
    with pytest.raises(ValueError, match="optimizer must be fresh beside a port"):
        certify(
            net, optimizer=optimizer, port=(Port().apply, {"params": {}}, optax.sgd(0.1)), **RUN
        )


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


def faulty():
    source = replaced("jaxnet/losses/_arguments.py", "jnp.mean(loss, where=where)", "loss.sum()")
    with planted("jaxnet/losses/_arguments.py", source):
        return certify_script(script, epochs=1, batch_size=8, seed=4)


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


@pytest.mark.parametrize("seed", [2, 9, 10])
def test_a_gradient_of_rounding_alone_accuses_nobody(seed):
    assert certify_drowned(seed).agrees


@pytest.mark.parametrize("seed", [1, 2])
def test_beside_it_a_loop_that_forgets_is_seen(seed, monkeypatch):
    fit = jaxnet.fit

    def forget(net, data, *, epochs, state, **options):
        half, first = fit(net, data, epochs=1, state=state, **options)
        half = half._replace(opt_state=state.opt_state)
        end, second = fit(net, data, epochs=epochs - 1, state=half, **options)
        losses = np.concatenate([first.losses, second.losses])
        return end, second._replace(losses=losses)

    monkeypatch.setattr(jaxnet, "fit", forget)
    divergence = certify_drowned(seed).divergence
    assert divergence is not None and divergence.stage == "whole run"


def test_what_is_reported_of_a_divergence():
    certificate = faulty()
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


@pytest.mark.parametrize("make", [faulty, lambda: certify_script(script, batch_size=8)])
def test_text_json_and_html(make, tmp_path):
    certificate = make()
    paths = [certificate.save(tmp_path / f"certificate.{end}") for end in ("txt", "json", "html")]
    text, record, page = (path.read_text() for path in paths)
    assert text == f"{certificate}\n" and max(map(len, text.splitlines())) <= 110
    record = json.loads(record)
    assert record["agrees"] is certificate.agrees and record["verdict"] == certificate.verdict
    assert len(record["losses"]) == certificate.steps
    assert set(record["machine"]) >= {"torch", "jax", "platform", "precision"}
    assert record["settings"]["seed"] == (4 if make is faulty else 0)
    assert all(len(value) == 64 for key, value in record["digests"].items() if "first" in key)
    assert f'<h1 class="{certificate.verdict.lower()}">{certificate.verdict}' in page
    assert "<svg" in page and "http-equiv" not in page and "src=" not in page
    if certificate.divergence is not None:
        assert record["divergence"] == json.loads(
            json.dumps(dataclasses.asdict(certificate.divergence))
        )


def test_a_certificate_is_saved_whole_or_not_at_all(tmp_path, monkeypatch):
    certificate = certify_script(script, batch_size=8)
    with pytest.raises(ValueError, match="path must end in .html, .json, .txt, not 'it.pdf'"):
        certificate.save(tmp_path / "it.pdf")
    monkeypatch.setattr("pathlib.Path.replace", lambda *arguments: (_ for _ in ()).throw(OSError))
    with pytest.raises(OSError):
        certificate.save(tmp_path / "it.txt")
    assert not list(tmp_path.iterdir())


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

def three():
    return build()[:3]

nothing = 3

def narrow():
    net, loss, optimizer, (X, y) = build()
    return net, loss, optimizer, (X[:, :3], y)

def leave():
    raise SystemExit("no")
"""


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["my_net.py:build", "--epochs", "2", "--batch-size", "16", "--seed", "1"], 0, "AGREE: 4"),
        (["my_net.py:build", "--shuffle", "--batch-size", "8"], 0, "AGREE: 3 steps"),
        (["my_net.py:unknown"], 3, "UNDECIDED: loss of loss"),
        (["my_net.py:recurrent"], 2, "layer '1' is torch.nn.modules.rnn.LSTM"),
        (["my_net.py:three"], 2, "build must return (net, loss, optimizer, data)"),
        (["my_net.py:nothing"], 2, "has no function 'nothing'"),
        (["my_net.py:narrow"], 2, "mat1 and mat2 shapes"),
        (["my_net.py:leave"], 2, "SystemExit: no (line 27 of my_net.py)"),
        (["none.py:build"], 2, "must name a file that is there"),
        (["my_net.py"], 2, "must name a file that is there"),
        (["my_net.py:build", "--batch-size", "21"], 2, "batch_size must be at most the number"),
        (["my_net.py:build", "--save", "it.pdf"], 2, "must end in .html, .json or .txt"),
        (["my_net.py:build", "--save", "none/it.txt"], 2, "a folder that is not there"),
    ],
)
def test_the_shell(arguments, status, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_net.py").write_text(SCRIPT)
    done = CliRunner().invoke(main, ["certify", *arguments])
    assert done.exit_code == status, done.output
    assert message in done.output


def test_the_shell_says_when_runs_diverge(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_net.py").write_text(SCRIPT)
    source = replaced("jaxnet/losses/regression.py", "jnp.asarray(input) - ", "2 * ")
    with planted("jaxnet/losses/regression.py", source):
        done = CliRunner().invoke(
            main, ["certify", "my_net.py:build", "--save", "it.json", "--save", "it.html"]
        )
    assert done.exit_code == 1, done.output
    assert done.output.startswith("DIVERGE in epoch 1, step 1: loss of loss.")
    assert json.loads((tmp_path / "it.json").read_text())["agrees"] is False


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"epochs": 0}, ValueError, "epochs must be an integer of at least 1, not 0"),
        ({"batch_size": 21}, ValueError, "batch_size must be at most the number of rows"),
        ({"data": (X, Y[:3])}, ValueError, "the same number of rows"),
        ({"loss": torch.nn.HuberLoss()}, ValueError, "HuberLoss, which has no translation"),
        ({"optimizer": 3}, TypeError, "optimizer must be torch's Optimizer, not int"),
        (
            {"port": (lambda variables, x: x, {"params": {}}, optax.sgd(0.1))},
            ValueError,
            "port must have an apply that takes masks",
        ),
        ({"port": (Port().apply, [], optax.sgd(0.1))}, TypeError, 'variables {"params"'),
    ],
)
def test_refusals(change, error, message):
    net, optimizer = build()
    options = RUN | {
        "optimizer": optimizer,
        "port": (Port().apply, variables_of(net), optax.sgd(1)),
    }
    if change.get("port") is None:
        options["port"] = None
        net = torch.nn.Sequential(torch.nn.Linear(6, 1))
        options["optimizer"] = torch.optim.SGD(net.parameters())
    with pytest.raises(error, match=message):
        certify(net, **(options | change))


def test_a_net_on_another_device_is_refused():
    net = torch.nn.Sequential(torch.nn.Linear(6, 1, device="meta"))
    with pytest.raises(ValueError, match=r"net must be on the CPU.*\['meta'\]"):
        certify(net, optimizer=torch.optim.SGD(net.parameters()), **RUN)


def test_tensors_are_found_by_name_or_by_value():
    rng = np.random.default_rng(0)
    named = {"0.weight": rng.normal(size=(3, 4)), "0.bias": np.zeros(3), "2.bias": np.zeros(3),
             "2.weight": rng.normal(size=(3, 3))}  # fmt: skip
    tree = {"second": {"b": np.zeros(3), "w": named["2.weight"].T.copy()},
            "first": {"b": np.zeros(3), "w": named["0.weight"].T.copy()}}  # fmt: skip
    matches = match_tensors(named, tree)
    for name, value in name_leaves(tree, matches).items():
        assert_same_bits(value.copy(), named[name], where=name)
    changed = {name: rng.normal(size=value.shape) for name, value in named.items()}
    placed = place(tree, changed, matches)
    assert_same_bits(placed["second"]["b"], changed["2.bias"])  # beside its weight
    assert_same_bits(placed["first"]["w"].T.copy(), changed["0.weight"])
    for name, value in name_leaves(placed, matches).items():
        assert_same_bits(value.copy(), changed[name], where=name)
    by_name = {"0": {"weight": named["0.weight"].T.copy(), "bias": np.ones(3)}}
    found = match_tensors({k: named[k] for k in ("0.weight", "0.bias")}, by_name)
    assert list(found) == ["0.bias"]  # the other has another shape
    layers = {f"Dense_{n}": {"bias": np.zeros(2)} for n in range(11)}
    order = match_tensors({f"{n}.bias": np.zeros(2) for n in range(11)}, layers)
    sorted_names = sorted(layers)  # as jax.tree has them: Dense_10 before Dense_2
    assert [sorted_names[order[f"{n}.bias"].leaf] for n in range(11)] == list(layers)
