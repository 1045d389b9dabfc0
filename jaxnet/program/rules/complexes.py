"""Complex numbers and Fourier transforms."""

import jax.numpy as jnp
from jax import lax

from jaxnet.program.registry import rule
from jaxnet.program.rules._types import broadcast

_NORMS = {None: "backward", "backward": "backward", "ortho": "ortho", "forward": "forward"}

rule("aten.view_as_complex.default")(lambda x: lax.complex(x[..., 0], x[..., 1]))
rule("aten.view_as_real.default")(lambda x: jnp.stack([x.real, x.imag], -1))
rule("aten.imag.default")(lambda x: x.imag)
rule("aten.real.default")(lambda x: x.real)
rule("aten.angle.default")(lambda x: jnp.angle(x))
rule("aten._conj.default", "aten.conj.default", "aten.conj_physical.default")(
    lambda x: jnp.conj(x) if jnp.iscomplexobj(x) else x
)
rule("aten.complex.default")(lambda x, imag: lax.complex(*broadcast(x, imag)))


@rule("aten.polar.default")
def polar(x, angle):
    x, angle = broadcast(x, angle)
    return lax.complex(x * jnp.cos(angle), x * jnp.sin(angle))


for _name in ("fft", "ifft", "rfft", "irfft"):
    _function = getattr(jnp.fft, _name)
    rule(f"aten.fft_{_name}.default")(
        lambda x, n=None, dim=-1, norm=None, f=_function: f(x, n, dim, _NORMS[norm])
    )
    _function = getattr(jnp.fft, f"{_name}n")
    rule(f"aten.fft_{_name}2.default")(
        lambda x, s=None, dim=(-2, -1), norm=None, f=_function: f(x, s, tuple(dim), _NORMS[norm])
    )
    rule(f"aten.fft_{_name}n.default")(
        lambda x, s=None, dim=None, norm=None, f=_function: f(
            x, s, None if dim is None else tuple(dim), _NORMS[norm]
        )
    )


@rule("aten.fft_fftshift.default")
def fftshift(x, dim=None):
    return jnp.fft.fftshift(x, None if dim is None else tuple(dim))


@rule("aten.fft_ifftshift.default")
def ifftshift(x, dim=None):
    return jnp.fft.ifftshift(x, None if dim is None else tuple(dim))


@rule("aten.fft_fftfreq.default")
def fftfreq(n, d=1.0, dtype=None, *, result):
    return jnp.fft.fftfreq(n, d).astype(result.dtype)


@rule("aten.fft_rfftfreq.default")
def rfftfreq(n, d=1.0, dtype=None, *, result):
    return jnp.fft.rfftfreq(n, d).astype(result.dtype)
