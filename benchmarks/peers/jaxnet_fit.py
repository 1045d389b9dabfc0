"""jaxnet itself: the run as `jaxnet.fit` compiles it, on torch's masks."""

from benchmarks.peers.common import ALL_THREADS
from benchmarks.task import Contestant, Prepared, Task, Trained


def prepare_fit(task: Task) -> Prepared:
    """`fit`, called as its users call it, from the task's weights."""
    import jax

    import jaxnet
    from jaxnet import nn
    from jaxnet.convert import from_state_dict, to_state_dict

    net = nn.Sequential(
        [nn.Linear(784, 32), nn.Dropout(task.p), nn.ReLU(), nn.Linear(32, 1), nn.Sigmoid()]
    )
    optimizer = jaxnet.optim.sgd(task.lr)
    x, y = jax.device_put((task.x, task.y))
    # The net's construction draws its weights: the masks come from the words after those.
    generator, like = jaxnet.init(net, jaxnet.random.manual_seed(task.seed))
    state = jaxnet.train.start(optimizer, from_state_dict(task.params, like), generator)

    def train():
        state_after, history = jaxnet.fit(
            net,
            (x, y),
            loss=jaxnet.losses.binary_cross_entropy,
            optimizer=optimizer,
            epochs=task.epochs,
            batch_size=task.batch_size,
            state=state,
        )
        return jax.block_until_ready(state_after), history

    def read(trained):
        state_after, history = trained
        return Trained(to_state_dict({"params": state_after.params}), history.losses)

    return train, read


FIT = Contestant("jaxnet.fit", "fast", prepare_fit, ALL_THREADS, "torch")
