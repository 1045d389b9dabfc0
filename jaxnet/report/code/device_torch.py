import torch

import jaxnet

train, _ = jaxnet.data.load_mnist((0, 1))
device = "cuda:0" if torch.cuda.is_available() else "cpu"
net = torch.nn.Sequential(torch.nn.Linear(784, 32), torch.nn.Dropout(0.9)).to(device)
X = torch.tensor(train.images).to(device)

# A net in training mode on a GPU draws other masks than on a CPU, from the card's own stream.
hidden = net(X)
