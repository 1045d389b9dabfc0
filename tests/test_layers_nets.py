"""Nets of all layers against torch's: names, first weights, training, evaluation, vmap."""

from functools import partial
from typing import Any

import jax
import numpy as np
import pytest
import torch
from flax.traverse_util import flatten_dict

from jaxnet import nn
from jaxnet.certificate.bounds import REDUCTION
from tests.helpers import assert_close, assert_same_function, assert_same_state
from tests.layers import assert_same_weights, both_nets, build_jax, describe, describe_init, rows

KEY = jax.random.key(0)

NETS = {
    "linear": lambda n, s: n.Linear(5, 3),
    "no_bias": lambda n, s: n.Linear(5, 3, bias=False),
    "lecture": lambda n, s: s(
        n.Linear(5, 4), n.Dropout(0.5), n.ReLU(), n.Linear(4, 1), n.Sigmoid()
    ),
    "nested": lambda n, s: s(
        n.Linear(5, 4), s(n.ReLU(), s(n.Dropout(0.3), n.Linear(4, 2))), n.Sigmoid()
    ),
    "convolutions": lambda n, s: s(
        n.Conv2d(1, 4, 3, bias=False), n.BatchNorm2d(4), n.ReLU(), n.MaxPool2d(2),
        s(n.Conv2d(4, 6, 3, padding=1), n.BatchNorm2d(6, affine=False), n.GELU()),
        n.AdaptiveAvgPool2d(1), n.Flatten(), n.Dropout(0.4), n.Linear(6, 2),
        n.BatchNorm1d(2, track_running_stats=False), n.LogSoftmax(dim=-1),
    ),
    "words": lambda n, s: s(
        n.Embedding(9, 5, padding_idx=0),
        s(s(n.LayerNorm(5), n.Tanh()), n.Dropout(0.2), n.Identity()),
        n.Flatten(), n.LayerNorm(20, elementwise_affine=False), n.Linear(20, 3),
    ),
}  # fmt: skip
IN_A_ROW = ["linear", "no_bias", "lecture", "nested"]
INPUTS = dict.fromkeys(IN_A_ROW, rows(50, 5)) | {
    "convolutions": rows(8, 1, 10, 10), "words": np.arange(32).reshape(8, 4) % 9
}  # fmt: skip


@pytest.mark.parametrize("name", NETS)
def test_init_gives_torchs_state_dict(name):
    net, variables, generator, net_torch = both_nets(NETS[name])
    assert_same_weights(variables, net_torch)
    names = [".".join(path) for path in flatten_dict(variables["params"])]
    assert names == [name for name, _ in net_torch.named_parameters()]
    assert_same_state(generator)
    assert describe_init(net, INPUTS[name]) == describe(variables)


@pytest.mark.parametrize("name", ["lecture", "nested", "convolutions", "words"])
def test_nets_train_and_evaluate_as_torchs(name):
    net, variables, generator, net_torch = both_nets(NETS[name])
    x = INPUTS[name]
    outputs = np.empty(0)
    for _ in range(3):
        generator, draws = nn.draw(net, generator, x)
        outputs, updated = net.apply(variables, x, train=True, draws=draws, mutable=["batch_stats"])
        variables = variables | updated
        assert_close(outputs, net_torch.train()(torch.tensor(x)), REDUCTION)
    assert_same_state(generator)
    assert_same_weights(variables, net_torch, REDUCTION)
    evaluated = jax.jit(net.apply)(variables, x)
    assert_close(evaluated, net_torch.eval()(torch.tensor(x)), REDUCTION)
    assert not np.array_equal(evaluated, outputs)


@pytest.mark.parametrize("name", IN_A_ROW)
def test_evaluation_equals_torchs_in_value_and_gradient(name):
    net, variables, _, net_torch = both_nets(NETS[name])
    apply, x = partial(net.apply, variables), rows(6, 5)
    assert_same_function(apply, net_torch.eval(), [x], tolerance=REDUCTION)


def test_nets_compare_and_hash_by_what_they_are():
    assert build_jax(NETS["lecture"]) != build_jax(NETS["nested"])
    for name in NETS:
        first, second = (build_jax(NETS[name]) for _ in range(2))
        assert first == second and hash(first) == hash(second)
    assert nn.Conv2d(1, 2, [3, 3]) == nn.Conv2d(1, 2, 3)
    assert hash(nn.LayerNorm([2, 3])) == hash(nn.LayerNorm((2, 3)))
    assert nn.AdaptiveAvgPool2d([None, 2]) == nn.AdaptiveAvgPool2d((None, 2))
    assert nn.MaxPool2d([2, 2]) == nn.MaxPool2d(2, stride=2)
    assert nn.Embedding(5, 2, -1) == nn.Embedding(5, 2, 4)


WITH_VARIABLES = [
    *[nn.Linear(4, 4), nn.Embedding(4, 4), nn.LayerNorm(4)],
    *[nn.BatchNorm1d(4), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)],
]


@pytest.mark.parametrize("layer", WITH_VARIABLES, ids=lambda layer: type(layer).__name__)
def test_no_layer_with_variables_stands_twice(layer):
    inner, name = nn.Sequential([layer]), type(layer).__name__
    for layers in ([layer, layer], [layer, nn.Sequential([inner])], [inner, nn.ReLU(), inner]):
        with pytest.raises(ValueError, match=f"layers holds one {name} twice: make two layers"):
            nn.Sequential(layers)


def test_layers_without_variables_may_stand_twice():
    relu, pool = nn.ReLU(), nn.MaxPool2d(2)
    assert nn.Sequential([relu, pool, relu, pool]).apply({}, rows(1, 4, 4)).shape == (1, 1, 1)


def test_a_batch_of_nets_under_vmap():
    net, variables, _, net_torch = both_nets(NETS["convolutions"])
    x = rows(3, 4, 1, 10, 10)
    options: dict[str, Any] = {"rngs": {"dropout": KEY}, "mutable": ["batch_stats"]}
    train = jax.jit(jax.vmap(lambda x: net.apply(variables, x, train=True, **options)[0]))
    assert train(x).shape == (3, 4, 2)
    evaluated = jax.jit(jax.vmap(lambda x: net.apply(variables, x)))(x)
    for own, one in zip(evaluated, x, strict=True):
        assert_close(own, net_torch.eval()(torch.tensor(one)), REDUCTION)
