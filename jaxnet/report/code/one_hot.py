import jaxnet

train, _ = jaxnet.data.load_mnist((0, 1, 2))
targets = jaxnet.data.one_hot(train.labels, 3)  # (n, 3): 2 is [0, 0, 1]
