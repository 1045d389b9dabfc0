"""Which leaf of a port holds which of torch's tensors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from torchref.matching.linear import FunctionMap, list_leaves
from torchref.matching.numbers import Prints
from torchref.matching.search import match
from torchref.matching.spelling import spell

D, H = 8, 2


def fresh(seed=0):
    """Tensors of a fresh net, some of which begin equal."""
    torch.manual_seed(seed)
    layer = torch.nn.TransformerEncoderLayer(D, H, 2 * D, batch_first=True)
    net = torch.nn.ModuleDict(
        {
            "encoder": torch.nn.TransformerEncoder(layer, 2),  # two copies of one layer
            "norm": torch.nn.LayerNorm(D),
            "zero": torch.nn.Linear(D, D),
            "lstm": torch.nn.LSTM(D, D),
            "gru": torch.nn.GRU(D, D),
            "conv": torch.nn.Conv2d(3, 4, 3),
            "up": torch.nn.ConvTranspose2d(4, 3, 2),
            "flat": torch.nn.Linear(4 * 2 * 2, D),
        }
    )
    torch.nn.init.zeros_(net.get_parameter("zero.weight"))
    return {name: tensor.detach().numpy() for name, tensor in net.named_parameters()}


def layers(s, name):
    return np.stack([s[f"encoder.layers.{i}.{name}"] for i in range(2)])


def split(array, parts):
    return np.split(array, parts)


def heads(s, i):
    """Flax's attention: a kernel of (D, heads, head) for each of q, k and v."""
    attn = f"encoder.layers.{i}.self_attn."
    kernels, biases = split(s[attn + "in_proj_weight"], 3), split(s[attn + "in_proj_bias"], 3)
    parts = zip(("query", "key", "value"), kernels, biases, strict=True)
    return {
        name: {"kernel": w.T.reshape(D, H, D // H), "bias": b.reshape(H, D // H)}
        for name, w, b in parts
    } | {
        "out": {
            "kernel": s[attn + "out_proj.weight"].T.reshape(H, D // H, D),
            "bias": s[attn + "out_proj.bias"],
        }
    }


def norm(s, name):
    return {"scale": s[name + ".weight"], "bias": s[name + ".bias"]}


FORMS = {
    "heads of a copied layer": lambda s: [heads(s, 0), heads(s, 1)],
    "norms with names of their own": lambda s: {
        "LayerNorm_0": norm(s, "norm"),
        "LayerNorm_1": norm(s, "encoder.layers.1.norm2"),
        "LayerNorm_2": norm(s, "encoder.layers.0.norm1"),
    },
    "blocks stacked for a scan": lambda s: {
        name: layers(s, name) for name in ("linear1.weight", "linear1.bias", "norm1.weight")
    },
    "a square weight of zeros": lambda s: {"project": s["zero.weight"].T, "b": s["zero.bias"]},
    "an LSTM's gates, its biases summed": lambda s: {
        gate: {
            "i": split(s["lstm.weight_ih_l0"], 4)[k].T,
            "h": split(s["lstm.weight_hh_l0"], 4)[k].T,
            "bias": split(s["lstm.bias_ih_l0"] + s["lstm.bias_hh_l0"], 4)[k],
        }
        for k, gate in enumerate("ifgo")
    },
    "a GRU with the sum of two biases, and one apart": lambda s: {
        "w": s["gru.weight_ih_l0"],
        "u": s["gru.weight_hh_l0"],
        "bias": np.concatenate(
            [
                (s["gru.bias_ih_l0"] + s["gru.bias_hh_l0"])[: 2 * D],
                s["gru.bias_ih_l0"][2 * D :],
            ]
        ),
        "bias_n": s["gru.bias_hh_l0"][2 * D :],
    },
    "kernels channels last, flipped": lambda s: {
        "conv": s["conv.weight"].transpose(2, 3, 1, 0),
        "up": s["up.weight"].transpose(2, 3, 0, 1)[::-1, ::-1],
        "shift": s["conv.bias"].reshape(4, 1, 1),
    },
    "rows of a flatten channels last": lambda s: {
        "kernel": s["flat.weight"].reshape(D, 4, 2, 2).transpose(2, 3, 1, 0).reshape(16, D),
        "bias": s["flat.bias"],
    },
}


@pytest.mark.parametrize("form", FORMS)
def test_each_leaf_is_found(form):
    """Also where values are equal: by how the outputs move, which is what the map would give."""
    torchs = fresh()
    rng = np.random.default_rng(0)
    moves = [{k: rng.normal(size=a.shape) for k, a in torchs.items()} for _ in range(2)]
    tree = FORMS[form](torchs)
    ports = [jax.tree.leaves(FORMS[form](each)) for each in moves]
    prints = Prints(
        {name: np.stack([each[name] for each in moves]) for name in torchs},
        [np.stack(pair) for pair in zip(*ports, strict=True)],
    )
    found = match(torchs, tree, lambda known: prints)
    assert not found.others(tree)
    other = {name: rng.normal(size=a.shape).astype(np.float32) for name, a in torchs.items()}
    wanted = FORMS[form](other)
    placed = found.place(tree, other)
    for ours, theirs in zip(list_leaves(placed), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(ours.value, theirs, rtol=1e-6, err_msg=ours.path)
    back = found.pull_grads(found.push_grads(tree, other))
    for name in set(back) - set(found.without):
        if "gru" not in name and "lstm.bias" not in name:
            np.testing.assert_array_equal(back[name], other[name], err_msg=name)


def test_names_come_before_values():
    """Two norms that begin equal are told by their paths, in whichever spelling."""
    named = {
        f"blocks.{i}.norm.{k}": np.full(3, k == "weight", "f4") for i in range(2) for k in KINDS
    }
    tree = {f"blocks_{i}": {"norm": {"scale": np.ones(3), "bias": np.zeros(3)}} for i in range(2)}
    found = match(named, tree)
    assert set(found.how.values()) == {f"{name}, by name" for name in named}
    assert spell("blocks_1.norm.scale") == spell("blocks.1.norm.weight")


KINDS = ("weight", "bias")


def test_what_nothing_tells_is_left_out():
    """Without numbers, of two equal tensors none is guessed."""
    named = {"n1.weight": np.ones(3, "f4"), "n2.weight": np.ones(3, "f4")}
    found = match(named, {"first": {"scale": np.ones(3)}, "after": {"scale": np.ones(3)}})
    assert set(found.without) == set(named) and not found.how
    still = Prints({name: np.zeros((2, 3)) for name in named}, [np.zeros((2, 3))] * 2)
    assert not match(
        named, found.place({"a": np.ones(3), "b": np.ones(3)}, {}), lambda _: still
    ).how


def test_a_copy_of_a_tensor_is_rejected():
    weight = np.arange(6, dtype="f4").reshape(2, 3)
    with pytest.raises(ValueError, match="port holds emb.weight twice.*tied"):
        match({"emb.weight": weight}, {"emb": {"embedding": weight}, "head": {"kernel": weight.T}})


def test_a_part_that_no_leaf_holds_is_named():
    weight = np.random.default_rng(0).normal(size=(6, 2)).astype("f4")
    found = match({"qkv.weight": weight}, {"q": weight[:2], "k": weight[2:4]})
    assert found.without == {"qkv.weight": "no leaf of the port holds 4 of its 12 numbers"}


NAMED = {"a": np.arange(6, dtype="f4").reshape(2, 3), "b": np.ones(2, "f4"), "c": np.ones(2, "f4")}


def test_a_function_of_ones_own():
    """Sums, halves and rows in another order, and a leaf that holds nothing."""
    tree = {"w": np.zeros((3, 2), "f4"), "bias": np.zeros(2, "f4"), "more": np.ones(1, "f4")}

    def function(s):
        return {"w": s["a"].T[::-1] / 2, "bias": s["b"] + s["c"], "more": jnp.zeros(1)}

    found = FunctionMap(function, NAMED, tree)
    placed = found.place(tree, NAMED)
    np.testing.assert_array_equal(placed["w"], NAMED["a"].T[::-1] / 2)
    assert placed["bias"].tolist() == [2.0, 2.0] and placed["more"].tolist() == [1.0]
    assert list(found.others(tree)) == ["more"] and found.terms == {"b": 2, "c": 2}
    np.testing.assert_allclose(found.pull(placed)["a"], NAMED["a"], atol=1e-6)
    back = found.pull_grads(found.push_grads(tree, NAMED))
    for name, array in NAMED.items():
        np.testing.assert_allclose(back[name], array, atol=1e-6)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda s: {"w": s["a"]}, r"gives w the shape \(2, 3\); the port's has \(3, 2\)"),
        (lambda s: {"v": s["a"].T}, "must give a tree like the port's parameters"),
        (lambda s: {"w": s["a"].T + 1}, "must be linear"),
        (lambda s: {"w": jnp.stack([s["b"]] * 3)}, "copies would be trained apart"),
    ],
)
def test_functions_that_are_rejected(function, message):
    with pytest.raises(ValueError, match=message):
        FunctionMap(function, NAMED, {"w": np.zeros((3, 2), "f4")})
