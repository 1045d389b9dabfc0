import jaxnet

train, test = jaxnet.data.load_mnist((0, 1, 2))
X, XX = train.images, test.images
y = jaxnet.data.one_hot(train.labels, 3)
yy = jaxnet.data.one_hot(test.labels, 3)

net = jaxnet.nn.Sequential(
    [
        jaxnet.nn.Linear(784, 32),
        jaxnet.nn.ReLU(),
        jaxnet.nn.Linear(32, 3),
    ]
)
state, history = jaxnet.fit(
    net,
    (X, y),
    loss=jaxnet.losses.cross_entropy,
    optimizer=jaxnet.optim.adam(),
    epochs=100,
    seed=43052,
)
right = {"accuracy": jaxnet.metrics.class_is_right}
on_train = jaxnet.evaluate(net, state, (X, y), metrics=right)
on_test = jaxnet.evaluate(net, state, (XX, yy), metrics=right)
