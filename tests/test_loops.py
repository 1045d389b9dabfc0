"""Torch programs of many kinds, certified: inputs and outputs, steps of their own, draws."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from torch import nn

from tests.helpers import each_row
from tests.manual import X, Y, hold, linear, make_mlp, mlp, where
from torchref import certify
from torchref.names import name_parts

IDS = torch.arange(40).reshape(20, 2) % 5
MASK = IDS != 0


class Text(nn.Module):
    """Ids of words and which of them count; as a classifier of sequences is."""

    def __init__(self):
        super().__init__()
        self.words, self.last = nn.Embedding(5, 3), nn.Linear(3, 1)

    def forward(self, ids, mask):
        return self.last((self.words(ids) * mask[:, :, None]).sum(1))


def text(variables, ids, mask):
    words = variables["params"]["words"]["weight"][ids]
    return linear(variables, "last", (words * mask[:, :, None]).sum(1))


@pytest.mark.parametrize(
    ("inputs", "apply"),
    [
        ((IDS, MASK), text),
        ({"mask": MASK, "ids": IDS.numpy()}, lambda v, *, ids, mask: text(v, ids, mask)),
    ],
)
def test_several_inputs_by_place_or_by_keyword(inputs, apply):
    torch.manual_seed(0)
    net, options = Text(), {"batch_size": 8, "epochs": 2, "shuffle": True}
    assert hold(net, apply, data=(inputs, Y), **options).agrees
    wrong = lambda v, ids, mask: text(v, ids, mask | (ids == 0))  # noqa: E731
    if isinstance(inputs, tuple):
        assert where(hold(net, wrong, data=(inputs, Y), **options)) == ("outputs", "last")


@dataclass
class Found:
    logits: Any
    value: Any
    best: Any = None


class Critic(nn.Module):
    """An actor and a critic over one body, and the action that is best."""

    def __init__(self, give):
        super().__init__()
        self.body, self.pi, self.v = nn.Linear(6, 4), nn.Linear(4, 3), nn.Linear(4, 1)
        self.give = give

    def forward(self, x):
        x = torch.tanh(self.body(x))
        logits, value = self.pi(x), self.v(x)
        return self.give(logits, value, logits.argmax(1))


def make_critic(give, factor=1.0, shift=0):
    def apply(variables, x):
        x = jnp.tanh(linear(variables, "body", x))
        logits, value = linear(variables, "pi", x), factor * linear(variables, "v", x)
        return give(logits, value, logits.argmax(1) + shift)

    return apply


def as_dict(logits, value, best):
    return OrderedDict(logits=logits, value=value, best=best)


def critic_loss(outputs, y):
    logits, value, *_ = name_parts(outputs).values()
    return nn.functional.cross_entropy(logits, y[0]) + ((value - y[1]) ** 2).mean()


def jax_critic_loss(outputs, y):
    logits, value, *_ = name_parts(outputs).values()
    of_class = optax.softmax_cross_entropy_with_integer_labels(logits, y[0]).mean()
    return of_class + ((value - y[1]) ** 2).mean()


@pytest.mark.parametrize(
    ("give", "change", "tensor"),
    [
        (lambda *parts: parts, {"factor": 1.01}, "(net)[1]"),
        (lambda *parts: parts, {"shift": 1}, "(net)[2]"),
        (lambda *parts: [parts[0], {"v": parts[1]}], {}, None),
        (as_dict, {"factor": 1.01}, "(net)[value]"),
        (Found, {"factor": 1.01}, "(net)[value]"),
    ],
)
def test_several_outputs_and_targets(give, change, tensor):
    torch.manual_seed(0)
    apply = make_critic(as_dict if give is Found else give, **change)
    run = {"loss": (critic_loss, jax_critic_loss), "data": (X, (IDS[:, 0] % 3, Y))}
    found = hold(Critic(give), apply, batch_size=10, **run)
    assert where(found) == (tensor and ("outputs", tensor)), found


def clip(optimizer, *_) -> Any:
    """As a hook of one expression returns it: the norm."""
    params = [p for group in optimizer.param_groups for p in group["params"]]
    return nn.utils.clip_grad_norm_(params, 0.1)


class Clipped(torch.optim.SGD):
    def step(self, closure=None):
        clip(self)
        return super().step(closure)


class Accumulating(torch.optim.SGD):
    """A step every two batches, from the mean of their gradients."""

    kept: Any = None

    def step(self, closure=None):
        params = [p for group in self.param_groups for p in group["params"]]
        grads = [p.grad.clone() / 2 for p in params]
        if self.kept is None:
            self.kept = grads
            return
        for p, first, second in zip(params, self.kept, grads, strict=True):
            p.grad = first + second
        self.kept = None
        super().step(closure)


class Warmed(torch.optim.SGD):
    """Sets its rate itself, with the number of the step."""

    count = 0

    def step(self, closure=None):
        self.count += 1
        for group in self.param_groups:
            group["lr"] = 0.02 * self.count
        return super().step(closure)


def hooked(params, lr):
    optimizer = torch.optim.SGD(params, lr)
    optimizer.register_step_pre_hook(clip)
    return optimizer


def clip_like_torch(max_norm, eps=1e-6):
    def update(updates, state, params=None):
        scale = jnp.minimum(1.0, max_norm / (optax.tree.norm(updates) + eps))
        return jax.tree.map(lambda u: u * scale, updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


CLIP = optax.chain(clip_like_torch(0.1), optax.sgd(0.1))
LOOPS = {
    "clipping in a hook": (hooked, CLIP, True),
    "clipping in a subclass": (Clipped, CLIP, True),
    "no clipping": (Clipped, optax.sgd(0.1), False),
    "accumulation": (Accumulating, optax.MultiSteps(optax.sgd(0.1), 2), True),
    "a sum for the mean": (
        Accumulating, optax.chain(optax.sgd(0.1), optax.apply_every(2)), False
    ),
    "a rate set in the step": (Warmed, optax.sgd(lambda step: 0.02 * (step + 1)), True),
    "a rate one step late": (Warmed, optax.sgd(lambda step: 0.02 * step), False),
}  # fmt: skip


@each_row("make, own, right", LOOPS.values())
def test_an_optimizers_own_step(make, own, right):
    net = make_mlp()
    optimizer = make(net.parameters(), 0.1)
    found = hold(net, mlp, optimizer, own, batch_size=5, epochs=2)
    assert right == found.agrees and (right or (where(found) or "")[0] == "update"), found
    assert right is False or found.steps == 8
    assert optimizer.param_groups[0]["lr"] == 0.1 and not vars(optimizer).get("kept")


@pytest.mark.parametrize("interval", ["epoch", "step"])
def test_a_scheduler_is_stepped_after_an_epoch_or_a_step(interval):
    """By hand, and as jaxnet translates it; a port that follows the other interval is wrong."""
    net = make_mlp()

    def run(**options):
        optimizer = torch.optim.SGD(net.parameters(), 0.1)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.8)
        options |= {"scheduler": scheduler, "scheduler_interval": interval, "batch_size": 5}
        return options | {"optimizer": optimizer, "epochs": 2, "data": (X, Y)}

    assert certify(net, loss=nn.MSELoss(), **run()).agrees
    steps = optax.exponential_decay(0.1, 1 if interval == "step" else 4, 0.8, staircase=True)
    other = optax.exponential_decay(0.1, 4 if interval == "step" else 1, 0.8, staircase=True)
    for rate, right in ((steps, True), (other, False)):
        found = hold(net, mlp, own=optax.sgd(rate), **run())
        assert found.agrees == right and (right or (where(found) or "")[0] == "update"), found


class Drawing(nn.Module):
    """Draws in a function, in an attention of torch's, between the layers of an LSTM, noise."""

    def __init__(self, noise=0.1):
        super().__init__()
        self.noise = noise
        self.attn = nn.MultiheadAttention(3, 1, dropout=0.5, batch_first=True)
        self.drop, self.last = nn.Dropout(0.2), nn.Linear(3, 1)

    def forward(self, x):
        x = x.reshape(-1, 2, 3)
        x = nn.functional.dropout(x.transpose(1, 2), 0.25, self.training).transpose(1, 2)
        x = self.drop(self.attn(x, x, x)[0])
        if self.training and self.noise:
            x = x + self.noise * torch.randn_like(x)
        return self.last(nn.functional.scaled_dot_product_attention(x, x, x).sum(1))


def attend(q, k, v, keep=1.0):
    scores = q @ k.transpose(0, 2, 1) / np.sqrt(3).astype("f4")
    return jax.nn.softmax(scores) * keep @ v


def drawing(variables, x, train, masks=None, rate=0.5):
    """With the masks and the noise that it is given, or without."""

    def keep(name, p):
        return masks[name] / np.float32(1 - p) if train and masks else 1.0

    params = variables["params"]["attn"]
    x = x.reshape(-1, 2, 3) * jnp.swapaxes(jnp.broadcast_to(keep("", 0.25), (len(x), 3, 2)), 1, 2)
    q, k, v = jnp.split(x @ params["in_proj_weight"].T + params["in_proj_bias"][None, None], 3, -1)
    x = attend(q, k, v, keep("attn", rate))
    out = variables["params"]["attn.out_proj"]
    x = (x @ out["weight"].T + out["bias"][None, None]) * keep("drop", 0.2)
    x = x + 0.1 * masks["#1"] if train and masks else x
    return linear(variables, "last", attend(x, x, x).sum(1))


DRAWING = [
    (drawing, 0.1, "torch", None),
    (lambda v, x, train: drawing(v, x, train), 0.1, "off", "last"),
    (lambda v, x, train, masks=None: drawing(v, x, train, masks, 0.4), 0.1, "torch", "attn"),
    (drawing, 0.1, "off", None),
    (lambda v, x, train: drawing(v, x, train), 0.0, "off", None),
]


@pytest.mark.parametrize(("apply", "noise", "dropout", "layer"), DRAWING[:2])
def test_whatever_is_drawn_is_given_to_the_port(apply, noise, dropout, layer):
    torch.manual_seed(0)
    net, options = Drawing(noise), {"batch_size": 8, "shuffle": True, "epochs": 2}
    sgd = torch.optim.SGD(net.parameters(), 0.01)
    found = hold(net, apply, sgd, optax.sgd(0.01), dropout=dropout, **options)
    assert where(found) == (layer and ("outputs", layer)), found


class Noisy(nn.Module):
    """Draws in evaluation mode too, as an autoencoder that samples its code."""

    def __init__(self):
        super().__init__()
        self.code, self.last = nn.Linear(6, 4), nn.Linear(4, 1)

    def forward(self, x):
        code = self.code(x)
        return self.last(code + torch.randn_like(code))


@pytest.mark.parametrize(("own", "place"), [(True, None), (False, ("evaluation", "outputs"))])
def test_what_is_drawn_in_evaluation_is_given_too(own, place):
    def apply(variables, x, train, key):
        code = linear(variables, "code", x)
        noise = jax.random.normal(key, code.shape) if own or train else 0.0
        return linear(variables, "last", code + noise)

    torch.manual_seed(0)
    found = hold(Noisy(), apply, batch_size=8, shuffle=True, epochs=2)
    assert where(found) == place, found
    assert place or found.steps == 6
