"""torch.compile: of the lecture's loop piece by piece, and of many steps as one program."""

from collections.abc import Callable
from typing import Any

from benchmarks.peers.common import NAMES, need, slices
from benchmarks.peers.torch_eager import build, copy_params, on_threads, read_net
from benchmarks.task import Contestant, Prepared, Task, Trained

# An epoch of the lecture is then 28 chunks, and one of 8 steps. Guards and the way into the
# compiled code cost about 80 us a call; longer chunks gain no more, and compile longer.
STEPS_PER_CHUNK = 28


def prepare_pieces(task: Task) -> Prepared:
    """The loop in Python; forward with backward, and the optimizer's step, are compiled.

    `dynamic=False`: an epoch's shorter last batch gets a program of its own.
    """
    torch = need("torch")
    X, y = torch.tensor(task.x), torch.tensor(task.y)
    batches = [(X[rows], y[rows]) for rows in slices(task)]
    # Built once: a new net would be compiled anew.
    net, loss_fn = build(task), torch.nn.BCELoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=task.lr)
    compute_loss = torch.compile(lambda x, y: loss_fn(net(x), y), dynamic=False)
    update = torch.compile(optimizer.step, dynamic=False)

    def train():
        torch.manual_seed(task.seed)
        net.load_state_dict(copy_params(task.params))
        net.train()
        losses = []
        for _ in range(task.epochs):
            for xi, yi in batches:
                loss = compute_loss(xi, yi)
                loss.backward()
                update()
                optimizer.zero_grad(set_to_none=True)
                losses.append(loss.detach())
        return net, losses

    return on_threads(1, train), read_net


def loss_of(z1: Any, w2: Any, b2: Any, y: Any, mask: Any) -> Any:
    """BCE of a batch from the first layer's outputs.

    The second layer is a product and a sum, not a matrix product: inductor joins it with the rest
    in one loop instead of calling BLAS for 16 numbers.
    """
    import torch.nn.functional as F

    hidden = F.relu(z1 * mask)  # (B, 32)
    probs = ((hidden * w2).sum(1, keepdim=True) + b2).sigmoid()  # (B, 1)
    return F.binary_cross_entropy(probs, y)


def update_params(params: Any, batch: Any, lr: float) -> Any:
    """A step of SGD in place; returns the loss.

    The first layer's gradient is never stored: `addmm_` adds its product to the weights.
    """
    import torch

    (w1, b1, w2, b2), (x, y, mask) = params, batch
    z1 = torch.addmm(b1, x, w1.t())
    value_and_grad = torch.func.grad_and_value(loss_of, argnums=(0, 1, 2))
    (dz1, dw2, db2), loss = value_and_grad(z1, w2, b2, y, mask)
    w1.addmm_(dz1.t(), x, alpha=-lr)
    b1.sub_(dz1.sum(0), alpha=lr)
    w2.sub_(dw2, alpha=lr)
    b2.sub_(db2, alpha=lr)
    return loss


def make_train_chunk(task: Task) -> Callable:
    """Compile the steps of a chunk of rows, unrolled; a shorter last chunk compiles once more.

    `cpp_wrapper`: the calls from one kernel to the next are C++ as well, not Python.
    """
    torch = need("torch")

    def train_chunk(params, x, y, masks):
        parts = [array.split(task.batch_size) for array in (x, y, masks)]
        batches = zip(*parts, strict=True)
        return torch.stack([update_params(params, batch, task.lr) for batch in batches])

    options = {"cpp_wrapper": True}
    return torch.compile(train_chunk, fullgraph=True, dynamic=False, options=options)


def prepare_chunks(task: Task) -> Prepared:
    """Many steps as one compiled program, on one thread.

    Masks are drawn for an epoch at once, outside, by `rand`: `bernoulli_`, which dropout calls,
    takes four times as long on a CPU.
    """
    torch = need("torch")
    rows_per_chunk = STEPS_PER_CHUNK * task.batch_size
    X, y = torch.tensor(task.x), torch.tensor(task.y)
    chunks = list(zip(X.split(rows_per_chunk), y.split(rows_per_chunk), strict=True))
    train_chunk = make_train_chunk(task)

    @torch.no_grad()
    def train():
        torch.manual_seed(task.seed)
        tensors = copy_params(task.params)
        params, losses = [tensors[name] for name in NAMES], []
        for _ in range(task.epochs):
            masks = torch.rand(len(X), 32).ge_(task.p).div_(1 - task.p)
            for (xs, ys), mask in zip(chunks, masks.split(rows_per_chunk), strict=True):
                losses.append(train_chunk(params, xs, ys, mask))
        return params, losses

    def read(trained):
        params, losses = trained
        weights = {name: w.numpy().copy() for name, w in zip(NAMES, params, strict=True)}
        return Trained(weights, torch.cat(losses).numpy())

    return on_threads(1, train), read


PIECES = Contestant("torch.compile, net and optimizer", "lecture", prepare_pieces)
CHUNKS = Contestant("torch.compile, 28 steps a call", "fast", prepare_chunks)
