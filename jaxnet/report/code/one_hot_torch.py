import torch

import jaxnet

train, _ = jaxnet.data.load_mnist((0, 1, 2))
labels = torch.tensor(train.labels, dtype=torch.int64)
targets = torch.nn.functional.one_hot(labels, 3).float()  # (n, 3): 2 is [0, 0, 1]
