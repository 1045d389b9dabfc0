import jaxnet

train, test = jaxnet.data.load_mnist((0, 1))
X, XX = train.images, test.images
y = train.labels[:, None].astype("float32")
yy = test.labels[:, None].astype("float32")

net = jaxnet.nn.Sequential(
    [
        jaxnet.nn.Linear(784, 32),
        jaxnet.nn.Dropout(0.5),
        jaxnet.nn.ReLU(),
        jaxnet.nn.Linear(32, 1),
        jaxnet.nn.Sigmoid(),
    ]
)
right = {"accuracy": jaxnet.metrics.probability_is_right}
state, history = jaxnet.fit(
    net,
    (X, y),
    loss=jaxnet.losses.binary_cross_entropy,
    optimizer=jaxnet.optim.sgd(),
    epochs=2,
    batch_size=16,
    seed=1,
    metrics=right,
    report_every=1,
    report_loader=True,  # the lecture's accuracy loop draws too
)
on_train = jaxnet.evaluate(net, state, (X, y), metrics=right)
on_test = jaxnet.evaluate(net, state, (XX, yy), metrics=right)
