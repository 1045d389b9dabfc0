"""Ports as long as people's own: right ones agree, and each mistake is placed and named."""

from typing import Any

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
import torch.nn.functional as F
from flax import nnx
from torch import nn

from torchref import certify

CHANNELS, WORDS, WIDTH, HEADS, LENGTH = 6, 20, 16, 2, 8


class Unit(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.short = nn.Conv2d(inputs, outputs, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x):
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(y + self.short(x))


class UNet(nn.Module):
    """Down, up by a transposed convolution, and a shortcut between both."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, CHANNELS, 3, padding=1)
        self.down = nn.ModuleList([Unit(CHANNELS, CHANNELS, 1), Unit(CHANNELS, 2 * CHANNELS, 2)])
        self.up = nn.ConvTranspose2d(2 * CHANNELS, CHANNELS, 2, 2)
        self.head = nn.Conv2d(2 * CHANNELS, 1, 1)

    def forward(self, x):
        x = F.max_pool2d(self.first(x), 2)
        left = self.down[0](x)
        right = F.gelu(self.up(self.down[1](left)))
        return self.head(torch.cat([left, right], 1)).flatten(1)


class FlaxUNet(flax.linen.Module):
    """The same, channels last; `fault` names what its author got wrong."""

    fault: str = ""

    @flax.linen.compact
    def __call__(self, x, train):
        x = jnp.moveaxis(x, 1, -1)
        x = flax.linen.Conv(CHANNELS, (3, 3), padding=1, name="first")(x)
        x = flax.linen.max_pool(x, (2, 2), (2, 2))
        left = self._unit(x, CHANNELS, 1, "down_0", train)
        right = self._unit(left, 2 * CHANNELS, 2, "down_1", train)
        turned = self.fault != "flip"
        up = flax.linen.ConvTranspose(CHANNELS, (2, 2), (2, 2), transpose_kernel=turned, name="up")
        right = flax.linen.gelu(up(right), approximate=self.fault == "tanh")
        both = [right, left] if self.fault == "order" else [left, right]
        y = flax.linen.Conv(1, (1, 1), name="head")(jnp.concatenate(both, -1))
        return y.reshape(len(y), -1)

    def _unit(self, x, features, stride, name, train):
        padding = "SAME" if self.fault == "same" else 1
        momentum = 0.1 if self.fault == "momentum" else 0.9

        def conv(i, x, stride):
            conv = flax.linen.Conv(features, (3, 3), stride, padding, use_bias=False,
                                   name=f"{name}_conv{i}")  # fmt: skip
            norm = flax.linen.BatchNorm(not train, momentum=momentum, name=f"{name}_norm{i}")
            return norm(conv(x))

        y = conv(2, flax.linen.relu(conv(1, x, stride)), 1)
        if stride > 1:
            x = flax.linen.Conv(features, (1, 1), stride, name=f"{name}_short")(x)
        return flax.linen.relu(x + y)


def numbers(net):
    return {name: tensor.numpy().copy() for name, tensor in net.state_dict().items()}


def load_unet(s, fault):
    params: dict[str, Any] = {}
    stats: dict[str, Any] = {}
    for name in (name.rpartition(".")[0] for name in s if name.endswith("weight")):
        own, weight = name.replace(".", "_", 1).replace(".", "_"), s[f"{name}.weight"]
        if weight.ndim == 1:
            params[own] = {"scale": weight, "bias": s[f"{name}.bias"]}
            stats[own] = {"mean": s[f"{name}.running_mean"], "var": s[f"{name}.running_var"]}
            continue
        # A transposed kernel is (inputs, outputs, height, width) in torch.
        axes = (2, 3, 0, 1) if (name, fault) == ("up", "flip") else (2, 3, 1, 0)
        params[own] = {"kernel": weight.transpose(axes)}
        if f"{name}.bias" in s:
            params[own]["bias"] = s[f"{name}.bias"]
    return {"params": params, "batch_stats": stats}


@pytest.mark.parametrize(
    ("fault", "stage", "place", "words"),
    [
        ("", None, "", ""),
        ("same", "outputs", "down.1.conv1", "padding"),
        ("flip", "outputs", "up", "flip"),
        ("tanh", "outputs", "head", "tanh"),
        ("order", "outputs", "head", ""),
        ("momentum", "buffers", "norm1.running_mean", "momentum"),
    ],
)
def test_a_unet_channels_last(fault, stage, place, words):
    torch.manual_seed(0)
    net = UNet()
    x, y = torch.randn(12, 3, 16, 16), torch.randn(12, 64)
    port = FlaxUNet(fault), load_unet(numbers(net), fault), optax.adamw(1e-3, weight_decay=1e-2)
    found = certify(
        net, data=(x, y), loss=nn.MSELoss(), batch_size=6, shuffle=True, port=port,
        optimizer=torch.optim.AdamW(net.parameters(), 1e-3), known=["batchnorm-variance"],
    )  # fmt: skip
    check(found, stage, place, words)


def check(found, stage, place, words):
    at = found.divergence
    if stage is None:
        assert found.verdict == "AGREE", str(found)
        return
    assert at is not None, str(found)
    assert (at.stage, place in at.tensor) == (stage, True), str(found)
    assert words in " ".join(at.causes[:1]), str(found)


class Block(nn.Module):
    """A block of a language model, normalized first."""

    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.fc1, self.fc2 = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)
        self.drop = nn.Dropout(0.2)

    def forward(self, x, hidden):
        rows, length, _ = x.shape
        parts = self.qkv(self.norm1(x)).view(rows, length, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        z = F.scaled_dot_product_attention(*parts, attn_mask=~hidden[:, None, None])
        x = x + self.drop(self.proj(z.transpose(1, 2).flatten(2)))
        return x + self.drop(self.fc2(F.gelu(self.fc1(self.norm2(x)))))


class Language(nn.Module):
    """Words hidden by a mask, and a head that is the embedding."""

    def __init__(self):
        super().__init__()
        self.words, self.places = nn.Embedding(WORDS, WIDTH), nn.Embedding(LENGTH, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WORDS, bias=False)
        self.head.weight = self.words.weight

    def forward(self, ids, hidden):
        x = self.words(ids) + self.places.weight
        for block in self.blocks:
            x = block(x, hidden)
        return self.head(self.norm(x))


class NNXBlock(nnx.Module):
    def __init__(self, rngs, fault):
        self.norm1 = nnx.LayerNorm(WIDTH, epsilon=1e-6 if fault == "eps" else 1e-5, rngs=rngs)
        self.norm2 = nnx.LayerNorm(WIDTH, epsilon=1e-5, rngs=rngs)
        self.qkv, self.proj = (
            nnx.Linear(WIDTH, 3 * WIDTH, rngs=rngs),
            nnx.Linear(WIDTH, WIDTH, rngs=rngs),
        )
        self.fc1, self.fc2 = (
            nnx.Linear(WIDTH, 2 * WIDTH, rngs=rngs),
            nnx.Linear(2 * WIDTH, WIDTH, rngs=rngs),
        )
        self.drop, self.fault = nnx.Dropout(0.2, rngs=rngs), fault

    def __call__(self, x, hidden):
        parts = self.qkv(self.norm1(x)).reshape(*x.shape[:2], 3, HEADS, -1)
        q, k, v = jnp.moveaxis(parts, 2, 0)
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(q.shape[-1])
        if self.fault == "unscaled":
            scores = jnp.einsum("bqhd,bkhd->bhqk", q, k)
        if self.fault != "mask":
            scores = jnp.where(hidden[:, None, None], -jnp.inf, scores)
        z = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores), v)
        x = x + self.drop(self.proj(z.reshape(x.shape)))
        return x + self.drop(self.fc2(jax.nn.gelu(self.fc1(self.norm2(x)), approximate=False)))


class NNXLanguage(nnx.Module):
    def __init__(self, rngs, s, fault):
        self.words, self.places = (
            nnx.Embed(WORDS, WIDTH, rngs=rngs),
            nnx.Embed(LENGTH, WIDTH, rngs=rngs),
        )
        self.blocks = nnx.List([NNXBlock(rngs, fault), NNXBlock(rngs, fault)])
        self.norm = nnx.LayerNorm(WIDTH, epsilon=1e-5, rngs=rngs)
        self.words.embedding[...] = s["words.weight"]
        self.places.embedding[...] = s["places.weight"]
        for path, module in nnx.iter_modules(self):
            name = ".".join(map(str, path))
            if isinstance(module, nnx.Linear):
                module.kernel[...], module.bias[...] = s[f"{name}.weight"].T, s[f"{name}.bias"]  # pyright: ignore
            if isinstance(module, nnx.LayerNorm):
                module.scale[...], module.bias[...] = s[f"{name}.weight"], s[f"{name}.bias"]  # pyright: ignore

    def __call__(self, ids, hidden):
        x = self.words(ids) + self.places.embedding[...][None]
        for block in self.blocks:
            x = block(x, hidden)
        return self.words.attend(self.norm(x))


def torch_loss(logits, y):
    return F.cross_entropy(logits.flatten(0, 1), y.flatten(), ignore_index=-100)


def jax_loss(logits, y, count=lambda kept: kept.sum()):
    kept = y >= 0
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.where(kept, y, 0))
    return (losses * kept).sum() / count(kept)


@pytest.mark.parametrize(
    ("fault", "stage", "place", "words"),
    [
        ("", None, "", ""),
        ("eps", "outputs", "blocks.0.norm1", "eps"),
        ("unscaled", "outputs", "blocks.0.proj", "scale"),
        ("mask", "outputs", "blocks.0.proj", "mask"),
        ("count", "loss", "loss", "ignore"),
        ("warmup", "update", "", "rate"),
    ],
)
def test_a_language_model_with_a_tied_head(fault, stage, place, words):
    torch.manual_seed(0)
    net = Language()
    ids, hidden = torch.randint(0, WORDS, (12, LENGTH)), torch.rand(12, LENGTH) < 0.3
    hidden[:, 0] = False
    y = torch.where(hidden, -100, ids.roll(-1, 1))
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    rate = optax.linear_schedule(1e-3, 0.0 if fault != "warmup" else 1e-3, 10)
    module = NNXLanguage(nnx.Rngs(0), numbers(net), fault)
    loss = (lambda logits, y: jax_loss(logits, y, np.size)) if fault == "count" else jax_loss
    found = certify(
        net, data=({"ids": ids, "hidden": hidden}, y), loss=(torch_loss, loss), batch_size=4,
        optimizer=optimizer, port=(module, nnx.Optimizer(module, optax.adam(rate), wrt=nnx.Param)),
        scheduler=torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 1e-12, 10),
        scheduler_interval="step",
    )  # fmt: skip
    check(found, stage, place, words)


def test_torch_compile_is_timed_too():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 1))
    found = certify(
        net, data=(torch.randn(64, 64), torch.randn(64, 1)), loss=nn.MSELoss(), time=True,
        optimizer=torch.optim.Adam(net.parameters()),
    )  # fmt: skip
    assert found.timing is not None
    assert list(found.timing.milliseconds) == ["torch", "torch.compile", "port"], found.timing.notes
    assert found.timing.compile_seconds["torch.compile"] > 0.1
