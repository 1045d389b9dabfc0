"""`evaluate` and `predict`: counts and means, and what JAX's transformations make of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnet
from jaxnet import metrics
from jaxnet.certificate.bounds import REDUCTION
from tests.helpers import assert_close, assert_same_bits
from tests.test_train import fit
from tests.tiny import ACCURACY, LOSS, NET, ROWS, X, Y


def test_evaluation_counts_and_averages():
    state, _ = fit()
    outputs = np.asarray(jaxnet.predict(NET, state, X))
    chosen = ACCURACY | {"logit": lambda outputs, y: outputs[:, 0]}
    values = jaxnet.evaluate(NET, state, (X, Y), loss=LOSS, metrics=chosen)
    assert values["accuracy"] == np.sum((outputs > 0) == (Y > 0.5)) / ROWS
    assert values["logit"] == pytest.approx(float(np.mean(outputs)), rel=REDUCTION.rtol)
    assert values["loss"] == pytest.approx(float(jax.jit(LOSS)(outputs, Y)), rel=REDUCTION.rtol)
    variables = {"params": state.params}
    assert_close(outputs, jax.jit(NET.apply)(variables, X))


def test_predict_is_transparent_to_jit_vmap_and_grad():
    state, _ = fit(epochs=1)
    outputs = jaxnet.predict(NET, state, X)
    assert_close(jax.jit(lambda state, x: jaxnet.predict(NET, state, x))(state, X), outputs)
    by_row = jax.vmap(lambda x: jaxnet.predict(NET, state, x[None])[0])(jnp.asarray(X))
    assert_close(by_row, outputs, REDUCTION)
    slope = jax.grad(lambda x: jaxnet.predict(NET, state, x).sum())(jnp.asarray(X))
    assert slope.shape == X.shape and np.abs(slope).max() > 0


def test_labels_of_two_classes_by_probability_logit_and_argmax_agree():
    logits = np.random.default_rng(0).normal(size=(30, 1)).astype(np.float32)
    targets = Y[:30]
    by_logit = metrics.logit_is_right(logits, targets)
    by_probability = metrics.probability_is_right(jax.nn.sigmoid(logits), targets)
    pair = jnp.concatenate([jnp.zeros_like(logits), logits], axis=1)
    by_class = metrics.class_is_right(pair, jnp.concatenate([1 - targets, targets], axis=1))
    assert_same_bits(by_logit, by_probability)
    assert_same_bits(by_logit, by_class)
