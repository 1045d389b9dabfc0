"""LSTM, GRU and RNN: layers, both directions, dropout between layers; and single cells."""

import jax
import jax.numpy as jnp
from jax import lax

from jaxnet.nn._functions import scale_kept, tanh
from jaxnet.nn._product import product
from jaxnet.program.registry import aten
from jaxnet.program.rules.matmul import linear


def _lstm_step(carry, inputs, weight, bias, projection=None):
    """i, f, g, o: c' = sigmoid(f) c + sigmoid(i) tanh(g); h' = sigmoid(o) tanh(c')."""
    hidden, cell = carry
    gates = inputs + linear(hidden, weight, bias)
    enter, forget, new, out = jnp.split(gates, 4, -1)
    cell = jax.nn.sigmoid(forget) * cell + jax.nn.sigmoid(enter) * tanh(new)
    hidden = jax.nn.sigmoid(out) * tanh(cell)
    return (hidden if projection is None else product(hidden, projection), cell)


def _gru_step(carry, inputs, weight, bias):
    """r, z, n: n = tanh(W x + r (U h)); h' = n + z (h - n)."""
    (hidden,) = carry
    parts = zip(
        jnp.split(inputs, 3, -1), jnp.split(linear(hidden, weight, bias), 3, -1), strict=True
    )
    (reset, reset_h), (update, update_h), (new, new_h) = parts
    new = tanh(new + jax.nn.sigmoid(reset + reset_h) * new_h)
    return (new + jax.nn.sigmoid(update + update_h) * (hidden - new),)


def _make_rnn_step(function):
    return lambda carry, inputs, *weights: (function(inputs + linear(carry[0], *weights)),)


def _layer(step, x, states, weights, has_biases, reverse):
    """One layer in one direction over time-major x: the last states, and what each step gives."""
    weight_ih, weight_hh, *rest = weights
    bias_ih, bias_hh = rest[:2] if has_biases else (None, None)
    projection = rest[2 if has_biases else 0 :]

    def move(carry, inputs):
        carry = step(carry, inputs, weight_hh, bias_hh, *projection)
        return carry, carry[0]

    return lax.scan(move, states, linear(x, weight_ih, bias_ih), reverse=reverse)


def _run(
    step, x, states, params, has_biases, num_layers, dropout, train, bidirectional, batch_first,
    draw,
):  # fmt: skip
    """What the last layer gives, and the last states of every layer and direction, stacked."""
    x = jnp.swapaxes(x, 0, 1) if batch_first else x
    directions = 2 if bidirectional else 1
    each = len(params) // (num_layers * directions)
    last = []
    for layer in range(num_layers):
        outputs = []
        for direction in range(directions):
            i = layer * directions + direction
            weights = params[i * each : (i + 1) * each]
            start = tuple(state[i] for state in states)
            final, output = _layer(step, x, start, weights, has_biases, bool(direction))
            last.append(final)
            outputs.append(output)
        x = jnp.concatenate(outputs, -1) if bidirectional else outputs[0]
        if train and 0 < dropout and layer < num_layers - 1:
            # Time comes first in torch's memory, also where the batch comes first for the caller.
            x = scale_kept(x, draw("keep", 1.0 - dropout, x.shape), dropout)
    y = jnp.swapaxes(x, 0, 1) if batch_first else x
    return y, *(jnp.stack(parts) for parts in zip(*last, strict=True))


def _register(name, step, several=False):
    def pack(hx):
        return tuple(hx) if several else (hx,)

    def layers(
        x, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first, *, draw
    ):
        options = has_biases, num_layers, dropout, train, bidirectional, batch_first
        return _run(step, x, pack(hx), params, *options, draw=draw)

    def cell(x, hx, w_ih, w_hh, b_ih=None, b_hh=None):
        found = step(pack(hx), linear(x, w_ih, b_ih), w_hh, b_hh)
        return found if several else found[0]

    layers.__doc__ = cell.__doc__ = step.__doc__
    aten(f"{name}.input")(layers)
    aten(f"{name}_cell")(cell)


_register("lstm", _lstm_step, several=True)
_register("gru", _gru_step)
_register("rnn_tanh", _make_rnn_step(tanh))
_register("rnn_relu", _make_rnn_step(jax.nn.relu))
