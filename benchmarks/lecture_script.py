"""The lecture's section 1D as its reader runs it: `python lecture_script.py DIGITS.npz`.

Its own code and nothing of jaxnet's. The digits come as arrays from one file, in the lecture's
order of rows: the lecture turns 60,000 pictures into tensors one by one, which would take longer
than all the rest.
"""

import sys

import numpy as np
import torch
import torchvision  # noqa: F401, where the lecture has its digits from

with np.load(sys.argv[1]) as digits:
    X, y, XX, yy = (torch.tensor(digits[name]) for name in ("X", "y", "XX", "yy"))

torch.manual_seed(1)
net = torch.nn.Sequential(
    torch.nn.Linear(784, 32),
    torch.nn.Dropout(0.5),
    torch.nn.ReLU(),
    torch.nn.Linear(32, 1),
    torch.nn.Sigmoid(),
)
loss_fn = torch.nn.BCELoss()
optimizr = torch.optim.SGD(net.parameters())
ds = torch.utils.data.TensorDataset(X, y)
dl = torch.utils.data.DataLoader(ds, batch_size=16)
for epoc in range(1, 3):
    net.train()
    for xi, yi in dl:
        yhat = net(xi)
        loss = loss_fn(yhat, yi)
        loss.backward()
        optimizr.step()
        optimizr.zero_grad()
    net.eval()
    s = 0
    with torch.no_grad():
        for xi, yi in torch.utils.data.DataLoader(ds, batch_size=16):
            s = s + ((net(xi) > 0.5) == yi).sum().item()
    print(f"# of epochs={epoc}, train_acc={s / len(X):.6f}")
with torch.no_grad():
    print(f"train_acc={((net(X) > 0.5) == y).float().mean().item():.6f}")
    print(f"test_acc={((net(XX) > 0.5) == yy).float().mean().item():.6f}")
