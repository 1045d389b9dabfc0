"""What the reference makes of a step of torch's: exact numbers, draws of rounding, sizes."""

import copy
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn

from jaxnet.certificate.bounds import DRAWN, EPS, FLOORS, LIMIT
from torchref.reference.float64 import Reference
from torchref.reference.perturbed import Perturbed, Run, bound_losses

ROWS = 12


def rows(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Tied(nn.Module):
    """Views, changes in place, a weight that is used twice, several outputs of one operation."""

    def __init__(self):
        super().__init__()
        self.one, self.norm = nn.Linear(6, 6, bias=False), nn.LayerNorm(6)

    def forward(self, x):
        x = self.norm(self.one(x)).clone()
        x[:, :3] *= 2
        x[:, 3:].add_(1.0)
        first, second = x.chunk(2, 1)
        best = torch.cat([first.sort(1).values, second], 1)
        return nn.functional.linear(torch.relu_(best), self.one.weight).max(1, keepdim=True).values


class Sequence(nn.Module):
    """An embedding, a recurrent layer, an attention, RMSNorm with float32's own eps."""

    def __init__(self):
        super().__init__()
        self.words, self.gru = nn.Embedding(7, 8), nn.GRU(8, 8, batch_first=True)
        self.look = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm, self.out = nn.RMSNorm(8), nn.Linear(8, 3)

    def forward(self, x):
        x = self.gru(self.words(x))[0]
        return self.out(self.norm(self.look(x, x, x)[0][:, -1]))


NETS = {
    "dense": lambda: nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 3), nn.Softmax(1)),
    "tied": Tied,
    "sequence": Sequence,
    "norms": lambda: nn.Sequential(
        *[part for _ in range(5) for part in (nn.Linear(6, 6), nn.BatchNorm1d(6), nn.ReLU())]
    ),
    "images": lambda: nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Conv2d(4, 4, 1),
        nn.GroupNorm(2, 4), nn.LeakyReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 3),
    ),
}  # fmt: skip


def build(name):
    torch.manual_seed(1)
    net = NETS[name]()
    if name == "sequence":
        return net, torch.randint(7, (ROWS, 5), generator=torch.Generator().manual_seed(2))
    return net, rows(ROWS, 1, 8, 8) if name == "images" else rows(ROWS, 6)


def listen(net, x, draws=2):
    """A step of torch's with what the reference knows of its gradients."""
    reference = Reference(draws)
    net.zero_grad()
    with reference:
        (net(x) * 1.0).pow(2).mean().backward()
    return reference, {
        name: (reference.look(p.grad), p.grad.double().numpy())
        for name, p in net.named_parameters()
    }


@pytest.mark.parametrize("name", NETS)
def test_exact_is_float64_and_rounding_is_float32s(name):
    """The exact numbers are those of the net in float64; torch's lie within what was drawn."""
    net, x = build(name)
    wide = copy.deepcopy(net).double()
    if name == "sequence":
        wide.norm.eps = torch.finfo(torch.float32).eps
    wide(x.double() if x.is_floating_point() else x).pow(2).mean().backward()
    _, found = listen(net, x)
    for (key, (view, own)), parameter in zip(found.items(), wide.parameters(), strict=True):
        size = np.maximum(view.size, 1e-30)
        exact = parameter.grad.numpy()
        # A number of Python's is float32's here, as it is in torch's kernels.
        assert (np.abs(view.exact - exact) / size).max() < EPS, key
        assert (np.abs(view.exact) <= size * (1 + 1e-12)).all(), key
        drawn, errors = view.spread / size / EPS, np.abs(own - view.exact) / size / EPS
        assert errors.max() <= DRAWN * drawn.max() + FLOORS["outputs"], key
        assert drawn.max() * EPS * DRAWN < LIMIT, key


def test_equal_numbers_stay_equal_and_zeros_stay_zeros():
    """Or a pool would choose another of equals, and a pixel that is never lit would train."""
    x = torch.zeros(4, 1, 6, 6)
    x[:, :, 2:4] = 0.3
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 2))
    reference = Reference(4)
    with reference:
        made = net[0](x)
        pooled = net[1](made)
    for draw in range(5):
        value = reference._shadows.value(made, draw)
        assert (value[0] == value[3]).all() and (value[..., 0] == value[..., 3]).all()
        assert (reference._shadows.value(pooled, draw) >= value[..., ::2, ::2]).all()
    _, found = listen(nn.Sequential(nn.Flatten(), nn.Linear(36, 2)), x)
    view, own = found["1.weight"]
    dark = (x[0].reshape(-1) == 0).numpy()
    for numbers in (view.exact, view.spread, view.size, own):
        assert numbers is not None
        assert (numbers[:, dark] == 0).all() and (numbers[:, ~dark] != 0).any()


def test_terms_that_cancel_have_a_size():
    """A bias before a BatchNorm: its gradient is 0, and its terms are not."""
    net, x = build("norms")
    _, found = listen(net, x)
    view, own = found["0.bias"]
    assert np.abs(view.exact).max() < 1e-9 < np.abs(own).max() * 1e3
    assert view.size.min() > 1e-3 and (np.abs(own) < 8 * EPS * view.size).all()


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize(
    "make",
    [
        lambda p, **k: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.01, nesterov=True, **k),
        lambda p, **k: torch.optim.Adam(p, 1e-2, amsgrad=True, maximize=True, **k),
        lambda p, **k: torch.optim.AdamW(p, 1e-3, weight_decay=0.1, **k),
        lambda p, **k: torch.optim.RMSprop(p, 1e-3, centered=True, momentum=0.5, **k),
        lambda p, **k: torch.optim.Adagrad(p, 1e-2, lr_decay=0.1, **k),
    ],
)
def test_a_step_is_the_optimizers_own_in_float64(make, foreach):
    """With the coefficients that float32 has, from float32 gradients, over four steps."""
    net, x = build("dense")
    wide = copy.deepcopy(net).double()
    optimizer, exact = make(net.parameters(), foreach=foreach), make(wide.parameters())
    reference = Reference()
    for _ in range(4):
        before = [p.detach().double().clone() for p in net.parameters()]
        net.zero_grad()
        net(x).pow(2).mean().backward()
        for own, other, start in zip(net.parameters(), wide.parameters(), before, strict=True):
            other.grad, other.data = own.grad.double(), start.clone()
        reference.forget(
            [v for s in optimizer.state.values() for v in s.values() if isinstance(v, torch.Tensor)]
        )
        reference.watch_steps(list(net.parameters()))
        with reference:
            optimizer.step()
        exact.step()
        for own, other, start in zip(net.parameters(), wide.parameters(), before, strict=True):
            view, step = reference.look_step(own), (other.detach() - start).numpy()
            assert (np.abs(view.exact - step) <= 5e-5 * view.size + 1e-15).all()
            assert (np.abs(view.exact) <= view.size * (1 + 1e-6)).all()
            rounded = np.abs((own.detach().double() - start).numpy() - view.exact)
            assert (rounded <= 1.1 * EPS * start.abs().numpy() + 32 * EPS * view.size).all()


def test_it_goes_the_way_that_torch_goes():
    """A number that float32 puts on the other side of 0: the exact one is taken to that side."""
    weight = nn.Parameter(torch.tensor([1.0, 1.0, -1.0]))
    x = torch.tensor([[1 + 2.0**-23, 2.0**-24, 1 + 2.0**-23], [1.0, 2.0**-20, 1.0]])
    reference = Reference(2)
    with reference:
        made = (x * weight).sum(1)
        torch.relu(made).sum().backward()
    chosen = (made > 0).double()
    grad: Any = weight.grad
    np.testing.assert_array_equal(reference.look(grad).exact, (chosen @ x.double()).numpy())


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_zero_beyond_a_kink_has_the_size_of_its_terms(sign):
    """Another library's rounding may stand on the other side: there the number is no 0."""
    one, rest = torch.ones(1), torch.full((1,), 3e-9 * sign)
    reference = Reference()
    with reference:
        made = torch.relu((one - 1) + rest)
    view = reference.look(made)
    assert view.exact.item() == made.item() == max(rest.item(), 0.0)
    assert 3e-9 <= FLOORS["outputs"] * EPS * view.size.item() <= 1e-5


@pytest.mark.parametrize("count", [100, 10_000, 1_000_000])
@pytest.mark.parametrize("kind", ["centred", "uncentred"])
def test_long_sums_lie_within_what_is_drawn(count, kind):
    """torch's and XLA's own, of a column and of a product.

    Not so where all terms are equal: each is rounded alike, and XLA's product of a million of them
    is off by 0.3%.
    """
    x = rows(count, 2) + (10 if kind == "uncentred" else 0)
    y = rows(count, 1, seed=1) if kind == "centred" else torch.full((count, 1), 0.7)
    reference = Reference(2)
    with reference:
        made = {"sum": x.sum(0), "mean": x.mean(0), "product": x.T @ y}
    a, b = jnp.asarray(x.numpy()), jnp.asarray(y.numpy())
    ours = jax.jit(lambda a, b: {"sum": a.sum(0), "mean": a.mean(0), "product": a.T @ b})(a, b)
    for name, own in made.items():
        view = reference.look(own)
        share = (view.spread / view.size).max()
        assert share < 0.2 * EPS * count**0.5 + 4 * EPS, "a draw is no wider than sqrt(n) allows"
        bound = DRAWN * share + FLOORS["outputs"] * EPS
        for numbers in (own.double().numpy(), np.asarray(ours[name], np.float64)):
            assert (np.abs(numbers - view.exact) <= bound * view.size).all(), (name, count)


def test_what_float32_cannot_hold_is_torchs_own():
    """A square below float32's smallest number is 0, as an optimizer finds it."""
    x = torch.full((3,), 1e-30)
    reference = Reference()
    with reference:
        made = x * x
    assert (reference.look(made).exact == 0).all()


@pytest.mark.parametrize(
    "draw",
    [
        lambda x: nn.functional.dropout(x, 0.3),
        lambda x: nn.functional.rrelu(x, training=True),
        lambda x: x + torch.randn_like(x),
        lambda x: torch.bernoulli(x.sigmoid()),
        lambda x: torch.empty_like(x).exponential_(),
    ],
)
def test_what_is_drawn_is_drawn_once(draw):
    """Its numbers are torch's own, and torch's stream goes on as without a reference."""
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(1)
    expected, stream = draw(x), torch.get_rng_state()
    torch.manual_seed(1)
    with (reference := Reference(2)):
        found = draw(x)
    assert torch.equal(found, expected) and torch.equal(torch.get_rng_state(), stream)
    np.testing.assert_allclose(reference.look(found).exact, found, rtol=1e-6)


def test_a_run_that_explodes_is_not_measured_by_what_it_explodes_to():
    def bound(losses, alone):
        run = Run(np.array(losses), {})
        return bound_losses(Perturbed(run, [run], []), np.array(alone))

    # Rounding decides the third step, however large the fourth one's loss is.
    limits, count = bound([1.0, 1.0, 1e3, 1e9], [1e-6, 1e-6, 100.0, 1e3])
    assert count == 2 and limits[1] < 1e-3
    assert np.isinf(limits[2:]).all(), "nobody knows how far another run goes"
    # Losses that shrink are measured by the first ones.
    assert bound([1e9, 1e3, 1.0, 1.0], [1e3, 100.0, 1e-6, 1e-6])[1] == 4
