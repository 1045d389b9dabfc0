import jax.numpy as jnp

import jaxnet

train, test = jaxnet.data.load_mnist((0, 1))
X, XX = train.images, test.images
y = train.labels[:, None].astype("float32")
yy = test.labels[:, None].astype("float32")

net = jaxnet.nn.Sequential(
    [
        jaxnet.nn.Linear(784, 32),
        jaxnet.nn.ReLU(),
        jaxnet.nn.Linear(32, 1),
    ]
)


def by_hand(logits, targets):
    probs = jnp.exp(logits) / (1 + jnp.exp(logits))
    return jaxnet.losses.binary_cross_entropy(probs, targets)


state, history = jaxnet.fit(
    net,
    (X, y),
    loss=by_hand,
    optimizer=jaxnet.optim.adam(),
    epochs=10,
    seed=0,
)
right = {"accuracy": jaxnet.metrics.logit_is_right}
on_train = jaxnet.evaluate(net, state, (X, y), metrics=right)
on_test = jaxnet.evaluate(net, state, (XX, yy), metrics=right)
