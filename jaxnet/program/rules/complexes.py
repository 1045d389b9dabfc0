"""Complex numbers and Fourier transforms."""

import jax.numpy as jnp
from jax import lax

from jaxnet.program.registry import aten, tabulate
from jaxnet.program.rules._types import broadcast


def _axes(dim):
    return None if dim is None else tuple(dim)


def _transform(function, x, sizes, axes, norm):
    return function(x, sizes, axes, "backward" if norm is None else norm)


@aten("polar")
def polar(x, angle):
    """x (cos(angle) + i sin(angle))."""
    x, angle = broadcast(x, angle)
    return lax.complex(x * jnp.cos(angle), x * jnp.sin(angle))


tabulate({
    "view_as_complex": lambda x: lax.complex(x[..., 0], x[..., 1]),
    "view_as_real": lambda x: jnp.stack([x.real, x.imag], -1),
    "imag": lambda x: x.imag,
    "real": lambda x: x.real,
    "angle": lambda x: jnp.angle(x),
    "_conj conj conj_physical": lambda x: jnp.conj(x) if jnp.iscomplexobj(x) else x,
    "complex": lambda x, imag: lax.complex(*broadcast(x, imag)),
    "fft_fftshift": lambda x, dim=None: jnp.fft.fftshift(x, _axes(dim)),
    "fft_ifftshift": lambda x, dim=None: jnp.fft.ifftshift(x, _axes(dim)),
    "fft_fftfreq": lambda n, d=1.0, dtype=None, *, result: (
        jnp.fft.fftfreq(n, d).astype(result.dtype)
    ),
    "fft_rfftfreq": lambda n, d=1.0, dtype=None, *, result: (
        jnp.fft.rfftfreq(n, d).astype(result.dtype)
    ),
})  # fmt: skip

for _name in ("fft", "ifft", "rfft", "irfft"):
    _one, _many = getattr(jnp.fft, _name), getattr(jnp.fft, f"{_name}n")
    aten(f"fft_{_name}")(
        lambda x, n=None, dim=-1, norm=None, *, f=_one: _transform(f, x, n, dim, norm)
    )
    aten(f"fft_{_name}2")(
        lambda x, s=None, dim=(-2, -1), norm=None, *, f=_many: _transform(f, x, s, _axes(dim), norm)
    )
    aten(f"fft_{_name}n")(
        lambda x, s=None, dim=None, norm=None, *, f=_many: _transform(f, x, s, _axes(dim), norm)
    )
