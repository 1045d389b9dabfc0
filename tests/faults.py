"""Mistakes that people make in a port, planted in jaxnet's code, and what a certificate says.

`QUICK` are planted by every run of the suite, the others by `make test-slow`.
"""

from typing import NamedTuple

from tests.cases import certify_case
from tests.faults_training import TRAINING
from tests.mutants import planted, replaced
from torchref.certification import Certificate

NN, LOSSES = "jaxnet/nn/", "jaxnet/losses/"
LOADER = "jaxnet/data/loader.py"


class Fault(NamedTuple):
    """A mistake that people make in a port, and what the certificate must say of it."""

    case: str
    file: str
    old: str
    new: str
    stage: str
    tensor: str
    step: int = 1


FAULTS = {
    "transposed weight": Fault(
        "dropout", "jaxnet/convert/state.py",
        "[path] = check_exact(name, as_array(tensor))",
        "[path] = check_exact(name, as_array(tensor).T.copy())",
        "initial weights", "0.weight", 0,
    ),
    "weight read the other way round": Fault(
        "dropout", NN + "layers.py", "product(jnp.asarray(x), weight)",
        "product(jnp.asarray(x), weight.T if weight.shape == (6, 6) else weight)",
        "outputs", "0",
    ),
    "bias forgotten": Fault(
        "dropout", NN + "layers.py", "y = y + jnp.broadcast_to(bias, y.shape)",
        "y = y + 0 * jnp.broadcast_to(bias, y.shape)", "outputs", "0",
    ),
    "float16 somewhere": Fault(
        "dropout", NN + "layers.py", "product(jnp.asarray(x), weight)",
        "product(jnp.asarray(x).astype('float16').astype('float32'), weight)",
        "outputs", "0",
    ),
    "sum for mean": Fault(
        "dropout", LOSSES + "_arguments.py",
        "jnp.mean(loss, where=where) if reduction == 'mean'".replace("'", '"'),
        "jnp.sum(loss, where=where) if reduction == 'mean'", "loss", "loss",
    ),
    "mask shifted by one element": Fault(
        "dropout", "jaxnet/random/distributions.py",
        "return draw(generator, 2 * count, _Rank(thresholds))",
        "generator, ranks = draw(generator, 2 * count, _Rank(thresholds)); "
        "return generator, jnp.roll(ranks, 1)", "masks", "1",
    ),
    "a port's own mask shifted by one element": Fault(
        "own port", "jaxnet/random/distributions.py",
        "return generator, values.reshape(shape)\n\n\ndef bernoulli_ranks",
        "return generator, jnp.roll(values, 1).reshape(shape)\n\n\ndef bernoulli_ranks",
        "masks", "1",
    ),
    "a run's masks shifted by one element": Fault(
        "dropout", NN + "draws.py", "ranks = ranks.reshape(steps, size)",
        "ranks = jnp.roll(ranks, int(steps > 1)).reshape(steps, size)", "whole run", "loss",
    ),
    "mask turned round": Fault(
        "dropout", NN + "_functions.py", "jnp.where(keep, scale, np.zeros_like(scale))",
        "jnp.where(keep, np.zeros_like(scale), scale)", "masks", "1",
    ),
    "scale of float32(1 / (1 - p))": Fault(
        "dropout", NN + "_functions.py",
        "np.asarray(np.ones((), wide) / np.asarray(1.0 - p, wide), x.dtype)",
        "np.asarray(1.0 / (1.0 - p), x.dtype)", "masks", "1",
    ),
    "scale forgotten": Fault(
        "dropout", NN + "_functions.py", "jnp.where(keep, scale, np.zeros_like(scale))",
        "jnp.where(keep, np.ones_like(scale), np.zeros_like(scale))", "masks", "1",
    ),
    "mask not applied on the way back": Fault(
        "dropout", NN + "_functions.py", "return x * jnp.where(keep, scale, np.zeros_like(scale))",
        "return x + lax.stop_gradient(x * jnp.where(keep, scale, np.zeros_like(scale)) - x)",
        "gradients", "0.bias",
    ),
    "shuffle off by one draw": Fault(
        "dropout", LOADER, "randperm(seed_words(words[-1])",
        "randperm(seed_words(words[-2])", "rows", "batch",
    ),
    "base seed not drawn": Fault(
        "dropout", LOADER, "draw(generator, base + 2)",
        "draw(generator, base)", "rows", "batch",
    ),
    "last batch padded": Fault(
        "dropout", LOADER,
        "return generator, randperm(seed_words(words[-1]), batching.num_examples)[1]",
        "order = randperm(seed_words(words[-1]), batching.num_examples)[1]; "
        "return generator, jax.numpy.concatenate([order, order[:4]])", "rows", "batch", 3,
    ),
    "one draw too many at the end of an epoch": Fault(
        "adamw", LOADER, "return draw(generator, base)[0], None",
        "return draw(generator, base + 1)[0], None", "stream", "generator", 6,
    ),
    "biased running variance": Fault(
        "adamw", NN + "norms.py", "variance * (count / (count - 1))", "variance * (count / count)",
        "buffers", "1.running_var",
    ),
    "momentum the other way round": Fault(
        "adamw", NN + "norms.py", "(1.0 - weight) * old + weight * new",
        "weight * old + (1.0 - weight) * new", "buffers", "1.running_mean",
    ),
    "unbiased variance in the batch": Fault(
        "adamw", NN + "_functions.py", "jnp.sqrt(variance.reshape(across) + eps)",
        "jnp.sqrt(variance.reshape(across) * (8 / 7) + eps)", "outputs", "1",
    ),
    "train mode in evaluation": Fault(
        "adamw", NN + "norms.py", "return running[0].value, running[1].value",
        "return tuple(part.ravel() for part in moments(x, (0, *range(2, x.ndim))))",
        "evaluation", "outputs", 3,
    ),
    "gradient stopped at the statistics": Fault(
        "adamw", NN + "_functions.py",
        "mean = jnp.mean(x, axes, keepdims=True)\n",
        "mean = lax.stop_gradient(jnp.mean(x, axes, keepdims=True))\n", "gradients", "0.bias",
    ),
    "eps outside the root of LayerNorm": Fault(
        "rmsprop", NN + "_functions.py", "/ jnp.sqrt(variance + eps)",
        "/ (jnp.sqrt(variance) + eps)", "outputs", "1",
    ),
    "tanh-GELU for erf": Fault(
        "amsgrad", NN + "_functions.py", "jax.nn.gelu(x, approximate=False)",
        "jax.nn.gelu(x, approximate=True)", "outputs", "1",
    ),
    "erf for tanh-GELU": Fault(
        "adamw", NN + "_functions.py", 'if approximate == "none":',
        'if approximate:', "outputs", "2",
    ),
    "another slope": Fault(
        "nesterov", NN + "_functions.py", "x * negative_slope", "x * 0.01",
        "outputs", "1",
    ),
    "softmax over the wrong axis": Fault(
        "rmsprop", NN + "activations.py",
        'jax.nn.softmax(widen(x), axis=as_axis("dim", self.dim, x.ndim))',
        "jax.nn.softmax(widen(x), axis=0)", "outputs", "4",
    ),
    "beta of softplus forgotten": Fault(
        "adagrad", NN + "_functions.py", "scaled = x * beta", "scaled = x",
        "outputs", "3",
    ),
    "padding counted in the average": Fault(
        "images", NN + "_windows.py", "windows.padding if count_include_pad else 0",
        "windows.padding", "outputs", "4",
    ),
    "kernel turned round": Fault(
        "images", NN + "images.py", "weight.astype(images.dtype)",
        "weight.astype(images.dtype)[:, :, ::-1, ::-1]", "outputs", "0",
    ),
    "padding row trained": Fault(
        "words", NN + "_functions.py", "jnp.where(padding, lax.stop_gradient(rows), rows)", "rows",
        "gradients", "0.weight",
    ),
    "log not clamped": Fault(
        "saturated", LOSSES + "binary.py", "log_not_p = jnp.maximum(jnp.log1p(-probs), -100)",
        "log_not_p = jnp.log1p(-probs)", "loss", "loss",
    ),
    "pos_weight on the wrong class": Fault(
        "dropout", LOSSES + "binary.py", "(pos_weight - 1) * targets + 1",
        "(pos_weight - 1) * (1 - targets) + 1", "loss", "loss",
    ),
    "label smoothing over K - 1": Fault(
        "amsgrad", LOSSES + "classes.py",
        "share = label_smoothing / input.shape[class_axis]\n        loss =",
        "share = label_smoothing / (input.shape[class_axis] - 1)\n        loss =", "loss", "loss",
    ),
    "ignored rows counted in the mean": Fault(
        "nesterov", LOSSES + "classes.py", "jnp.sum(row_weight, where=counted)",
        "jnp.sum(row_weight)", "loss", "loss",
    ),
    "mean over rows instead of their weights": Fault(
        "amsgrad", LOSSES + "classes.py",
        "jnp.sum(loss, where=counted) / jnp.sum(row_weight, where=counted)",
        "jnp.sum(loss, where=counted) / jnp.sum(counted)", "loss", "loss",
    ),
    "groups swapped": Fault(
        "adam", "jaxnet/convert/optimizers.py",
        'str(number): _translate(name, group, rate)',
        'str(len(rates) - 1 - number): _translate(name, group, rate)', "update", "0.weight",
    ),
    "schedule stepped each step": Fault(
        "adamw", "jaxnet/convert/optimizers.py",
        "return factory(rate, steps_per_epoch=steps, **values)",
        "return factory(rate, steps_per_epoch=1, **values)",
        "update", "0.weight", 2,
    ),
    "the last of equal elements": Fault(
        "ties", NN + "_windows.py", "(part > best)", "(part >= best)", "gradients", "0.weight",
    ),
}  # fmt: skip
FAULTS |= {name: Fault(*row) for name, row in TRAINING.items()}

QUICK = (
    "transposed weight",
    "shuffle off by one draw",
    "mask shifted by one element",
    "bias forgotten",
    "biased running variance",
    "sum for mean",
    "gradient stopped at the statistics",
    "dampening ignored",
    "train mode in evaluation",
    "optimizer state not carried by the loop",
    "one draw too many at the end of an epoch",
)
"""One of every stage of a certificate, and of every room."""


def find(fault: Fault) -> Certificate:
    with planted(fault.file, replaced(fault.file, fault.old, fault.new)) as changed:
        assert changed, "no function was changed"
        return certify_case(fault.case)
