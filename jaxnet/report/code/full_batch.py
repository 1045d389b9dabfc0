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
        jaxnet.nn.Sigmoid(),
    ]
)
state, history = jaxnet.fit(
    net,
    (X, y),
    loss=jaxnet.losses.binary_cross_entropy,
    optimizer=jaxnet.optim.sgd(),
    epochs=500,
    seed=1,
)
right = {"accuracy": jaxnet.metrics.probability_is_right}
on_train = jaxnet.evaluate(net, state, (X, y), metrics=right)
on_test = jaxnet.evaluate(net, state, (XX, yy), metrics=right)
