"""A ported net in a process that has no torch: loaded, run, trained, swept."""

import json

import numpy as np
import torch

from jaxnet import convert
from tests.helpers import to_numpy
from tests.integration import run_python
from tests.ported import make_input, port

CODE = """
import sys
sys.modules["torch"] = None  # to import it fails
import json
import numpy as np
import jaxnet
from jaxnet import convert

net, variables = convert.load(sys.argv[1])
x, y = (np.load(sys.argv[2])[name] for name in "xy")
loss = lambda outputs, y: ((outputs - y) ** 2).mean()
run = dict(loss=loss, optimizer=jaxnet.optim.sgd(0.1), epochs=2, batch_size=4)
state, history = jaxnet.fit(net, (x, y), seed=3, **run)
sweep = jaxnet.run_sweep(net, (x, y), seeds=[3, 4], **run)
outputs = jaxnet.predict(net, state, x)
print(json.dumps({
    "losses": history.losses.tolist(), "mean": float(np.mean(outputs)),
    "swept": sweep.losses.tolist(), "torch": sys.modules["torch"] is not None,
}))
"""


def test_a_saved_port_trains_without_torch(tmp_path):
    ported = port("encoder")
    convert.save(tmp_path / "net", ported.jnet, ported.variables)
    x = to_numpy(make_input("encoder", 10))
    y = np.roll(x, 1, axis=1)
    np.savez(tmp_path / "data.npz", x=x, y=y)
    said = run_python("-c", CODE, str(tmp_path / "net"), str(tmp_path / "data.npz"))
    found = json.loads(said.splitlines()[-1])
    assert not found["torch"]

    net, losses = ported.net, []
    before = {name: value.clone() for name, value in net.state_dict().items()}
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    data = torch.utils.data.TensorDataset(torch.tensor(x), torch.tensor(y))
    torch.manual_seed(3)
    for _ in range(2):
        for rows, target in torch.utils.data.DataLoader(data, batch_size=4):
            optimizer.zero_grad()
            loss = ((net.train()(rows) - target) ** 2).mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    net.load_state_dict(before)
    np.testing.assert_allclose(found["losses"], losses, rtol=1e-5)
    np.testing.assert_allclose(found["swept"][0], losses, rtol=1e-5)
    assert found["swept"][1] != found["swept"][0] and np.isfinite(found["mean"])
