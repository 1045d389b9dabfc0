"""torch's nets, losses, optimizers and state as jaxnet's: equal, or refused."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.torch
import torch

import jaxnet
from jaxnet import convert
from jaxnet.certificate.bounds import REDUCTION
from tests.helpers import assert_close, assert_same_bits, assert_same_state, each_row, to_numpy
from tests.layers import rows
from tests.nets import NETS
from tests.test_train import assert_same_tree


def test_translations_compute_what_the_nets_compute():
    """Names, values in evaluation and training mode, buffers, masks; all nets in one program."""
    nets, arguments, expected = {}, {}, {}
    for name, make in NETS.items():
        torch.manual_seed(3)
        net, x = make()
        nets[name], variables = convert.from_torch(net)
        named = convert.to_state_dict(variables)
        assert list(named) == list(net.state_dict())
        assert_same_tree(named, dict(net.state_dict()))
        evaluated = net.eval()(x)
        torch.manual_seed(5)
        expected[name] = evaluated, net.train()(x), net.state_dict()
        x = jnp.asarray(to_numpy(x))
        generator, draws = jaxnet.nn.draw(nets[name], jaxnet.random.manual_seed(5), x)
        assert_same_state(generator)
        arguments[name] = variables, x, draws

    @jax.jit
    def compute(arguments):
        found = {}
        for name, (variables, x, draws) in arguments.items():
            apply = nets[name].apply
            keywords = jaxnet.nn.call_keywords(nets[name], True, draws or None)
            trained = apply(variables, x, mutable=["batch_stats"], **keywords)
            found[name] = apply(variables, x), *trained
        return found

    for name, (evaluated, trained, buffers) in compute(arguments).items():
        outputs = expected[name]
        assert_close(evaluated, outputs[0], REDUCTION, where=f"{name}, evaluation")
        assert_close(trained, outputs[1], REDUCTION, where=f"{name}, training")
        for key, value in convert.to_state_dict(buffers).items():
            assert_close(value, outputs[2][key], REDUCTION, where=f"{name}, {key}")


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


@each_row(
    "layer, message",
    [
        (lambda: torch.nn.LSTM(2, 2), "layer '1.0' is torch.nn.modules.rnn.LSTM"),
        (Doubled, "layer '1.0' is tests.test_convert.Doubled"),
        (hooked, "layer '1.0' has forward hooks"),
        (with_extra, "layer '1.0', Linear, has a tensor 'gain'"),
        (lambda: torch.nn.Embedding(3, 2, max_norm=1.0), "Embedding: max_norm=1.0 has no"),
        (lambda: torch.nn.MaxPool2d(2, return_indices=True), "MaxPool2d: return_indices=True"),
        (lambda: torch.nn.Linear(2, 2, dtype=torch.float16), "weight of torch.float16"),
        (lambda: torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(2, 2)), "'1.0' is"),
    ],
)
def test_what_has_no_translation_is_rejected_by_place(layer, message):
    net = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Sequential(layer()))
    with pytest.raises(convert.Unsupported, match="(?s)" + message + ".*supported: Sequential of"):
        convert.from_torch(net)


def test_every_fault_of_a_net_is_listed():
    net = torch.nn.Sequential(torch.nn.LSTM(2, 2), torch.nn.ReLU(), torch.nn.Bilinear(2, 2, 2))
    with pytest.raises(convert.Unsupported) as caught:
        convert.from_torch(net)
    assert len(caught.value.faults) == 2


def test_shared_weights_are_rejected():
    first, second = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    second.weight = first.weight
    for layers, shared in [((first, second), "0.weight"), ((first, first), "1.weight")]:
        with pytest.raises(convert.Unsupported, match=f"'{shared}' is shared"):
            convert.from_torch(torch.nn.Sequential(*layers))


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
LOSSES = [
    (lambda: torch.nn.BCELoss(torch.rand(4, 1)), "probs"),
    (lambda: torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor([2.5])), "binary"),
    (lambda: torch.nn.BCEWithLogitsLoss(torch.rand(3), reduction="sum"), "binary"),
    (lambda: torch.nn.CrossEntropyLoss(torch.rand(3), **SMOOTHED), "classes"),
    (lambda: torch.nn.NLLLoss(torch.rand(3), ignore_index=2), "classes"),
    (lambda: torch.nn.MSELoss(), "real"),
    (lambda: torch.nn.L1Loss(reduction="sum"), "real"),
    (lambda: torch.nn.SmoothL1Loss(beta=0.3), "real"),
]


@each_row("build, kind", LOSSES)
def test_losses_keep_their_options(build, kind):
    torch.manual_seed(0)
    loss = build()
    x = torch.rand(4, 3) if kind == "probs" else torch.randn(4, 3)
    y = {
        "probs": torch.rand(4, 3),
        "binary": (torch.rand(4, 3) > 0.5).float(),
        "classes": torch.tensor([0, 1, 2, 0]),
        "real": torch.randn(4, 3),
    }[kind]
    translated = convert.loss_from_torch(loss)
    assert_close(jax.jit(translated)(to_numpy(x), to_numpy(y)), loss(x, y))


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
    net = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
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


def test_the_first_message_of_another_net_says_what_to_do():
    """What is supported, and that any other net needs example inputs."""

    class Mine(torch.nn.Module):
        def forward(self, x):
            return x

    with pytest.raises(convert.Unsupported) as caught:
        convert.from_torch(Mine())
    first, supported, rest = str(caught.value).splitlines()
    assert first.endswith("translates from example inputs alone: from_torch(net, x)")
    assert supported.startswith("supported: Sequential of Linear")
    assert rest == "any other net from example inputs: from_torch(net, x)"
