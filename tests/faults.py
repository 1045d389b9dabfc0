"""Mistakes that people make in a port, planted in jaxnet's code, and what a certificate says.

`QUICK` are planted by every run of the suite, the others by `make test-slow`.
"""

from typing import NamedTuple

from tests.cases import certify_case
from tests.mutants import planted, replaced
from torchref.certification import Certificate

NN, LOSSES, OPTIM, TRAIN = "jaxnet/nn/", "jaxnet/losses/", "jaxnet/optim/", "jaxnet/train/"
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
        "collections.setdefault(collection, {})[path] = _to_jax(name, as_array(tensor))",
        "collections.setdefault(collection, {})[path] = _to_jax(name, as_array(tensor).T.copy())",
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
    "masks shifted by one element in the loop": Fault(
        "dropout", TRAIN + "epoch.py", "draws = self.layout.replicate(draws)",
        "draws = self.layout.replicate(jax.tree.map(lambda keep: jnp.roll(keep, 1), draws))",
        "whole run", "loss",
    ),
    "mask turned round": Fault(
        "dropout", NN + "layers.py", "jnp.where(keep, scale, np.zeros_like(scale))",
        "jnp.where(keep, np.zeros_like(scale), scale)", "masks", "1",
    ),
    "scale of float32(1 / (1 - p))": Fault(
        "dropout", NN + "layers.py",
        "np.asarray(np.ones((), wide) / np.asarray(1.0 - self.p, wide), x.dtype)",
        "np.asarray(1.0 / (1.0 - self.p), x.dtype)", "masks", "1",
    ),
    "scale forgotten": Fault(
        "dropout", NN + "layers.py", "jnp.where(keep, scale, np.zeros_like(scale))",
        "jnp.where(keep, np.ones_like(scale), np.zeros_like(scale))", "masks", "1",
    ),
    "mask not applied on the way back": Fault(
        "dropout", NN + "layers.py", "return x * jnp.where(keep, scale, np.zeros_like(scale))",
        "return x + lax.stop_gradient(x * jnp.where(keep, scale, np.zeros_like(scale)) - x)",
        "gradients", "0.bias",
    ),
    "shuffle off by one draw": Fault(
        "dropout", LOADER, "randperm(seed_words(words[-1])",
        "randperm(seed_words(words[-2])", "rows", "batch",
    ),
    "base seed not drawn": Fault(
        "dropout", LOADER, "draw(generator, _BASE_SEED + 2)",
        "draw(generator, _BASE_SEED)", "rows", "batch",
    ),
    "last batch padded": Fault(
        "dropout", LOADER,
        "return generator, randperm(seed_words(words[-1]), batching.num_examples)[1]",
        "order = randperm(seed_words(words[-1]), batching.num_examples)[1]; "
        "return generator, jax.numpy.concatenate([order, order[:4]])", "rows", "batch", 3,
    ),
    "one draw too many at the end of an epoch": Fault(
        "adamw", LOADER, "return draw(generator, _BASE_SEED)[0], None",
        "return draw(generator, _BASE_SEED + 1)[0], None", "stream", "generator", 6,
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
        "adamw", NN + "norms.py", "scale = scale / jnp.sqrt(variance + self.eps)",
        "scale = scale / jnp.sqrt(variance * (8 / 7) + self.eps)", "outputs", "1",
    ),
    "train mode in evaluation": Fault(
        "adamw", NN + "norms.py", "return running[0].value, running[1].value",
        "return tuple(part.ravel() for part in _moments(x, (0, *range(2, x.ndim))))",
        "evaluation", "outputs", 3,
    ),
    "gradient stopped at the statistics": Fault(
        "adamw", NN + "norms.py",
        "mean = jnp.mean(x, axes, keepdims=True)\n",
        "mean = lax.stop_gradient(jnp.mean(x, axes, keepdims=True))\n", "gradients", "0.bias",
    ),
    "eps outside the root of LayerNorm": Fault(
        "rmsprop", NN + "norms.py", "/ jnp.sqrt(variance + self.eps)\n        if self.elementwise",
        "/ (jnp.sqrt(variance) + self.eps)\n        if self.elementwise", "outputs", "1",
    ),
    "tanh-GELU for erf": Fault(
        "amsgrad", NN + "activations.py", "jax.nn.gelu(wide, approximate=False)",
        "jax.nn.gelu(wide, approximate=True)", "outputs", "1",
    ),
    "erf for tanh-GELU": Fault(
        "adamw", NN + "activations.py", 'if self.approximate == "none":',
        'if self.approximate:', "outputs", "2",
    ),
    "another slope": Fault(
        "nesterov", NN + "activations.py", "wide * self.negative_slope", "wide * 0.01",
        "outputs", "1",
    ),
    "softmax over the wrong axis": Fault(
        "rmsprop", NN + "activations.py",
        'jax.nn.softmax(widen(x), axis=as_axis("dim", self.dim, x.ndim))',
        "jax.nn.softmax(widen(x), axis=0)", "outputs", "4",
    ),
    "beta of softplus forgotten": Fault(
        "adagrad", NN + "activations.py", "scaled = wide * self.beta", "scaled = wide",
        "outputs", "3",
    ),
    "padding counted in the average": Fault(
        "images", NN + "pools.py", "windows.padding if self.count_include_pad else 0",
        "windows.padding", "outputs", "4",
    ),
    "kernel turned round": Fault(
        "images", NN + "images.py", "weight.astype(images.dtype)",
        "weight.astype(images.dtype)[:, :, ::-1, ::-1]", "outputs", "0",
    ),
    "padding row trained": Fault(
        "words", NN + "layers.py", "jnp.where(padding, lax.stop_gradient(rows), rows)", "rows",
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
    "eps inside the root": Fault(
        "adamw", OPTIM + "adam.py", "(jnp.sqrt(square) + eps * root)",
        "jnp.sqrt(square + (eps * root) ** 2)", "update", "0.weight",
    ),
    "bias correction missing": Fault(
        "adam", OPTIM + "adam.py", "return -jnp.expm1(step * math.log(beta))",
        "return jnp.ones(()) * 1.0", "update", "0.weight",
    ),
    "eps not corrected": Fault(
        "adamw", OPTIM + "adam.py", "+ eps * root)", "+ eps)", "update", "0.weight",
    ),
    "decoupled decay for L2": Fault(
        "adam", OPTIM + "adam.py",
        "optax.add_decayed_weights(weight_decay) if weight_decay != 0 else None,\n"
        "        _scale_by_adam(betas, eps, amsgrad),",
        "_scale_by_adam(betas, eps, amsgrad),\n"
        "        optax.add_decayed_weights(weight_decay) if weight_decay != 0 else None,",
        "update", "0.weight",
    ),
    "L2 for decoupled decay": Fault(
        "adamw", OPTIM + "adam.py",
        "_scale_by_adam(betas, eps, amsgrad),\n"
        "        optax.add_decayed_weights(weight_decay) if weight_decay != 0 else None,",
        "optax.add_decayed_weights(weight_decay) if weight_decay != 0 else None,\n"
        "        _scale_by_adam(betas, eps, amsgrad),",
        "update", "0.weight",
    ),
    "largest second moment forgotten": Fault(
        "amsgrad", OPTIM + "adam.py", "largest if amsgrad else exp_avg_sq,\n        )",
        "exp_avg_sq,\n        )", "update", "0.weight", 2,
    ),
    "dampening ignored": Fault(
        "dropout", OPTIM + "sgd.py", "jnp.where(state.started, 1.0 - dampening, 1.0)",
        "jnp.where(state.started, 1.0, 1.0)", "update", "0.weight", 2,
    ),
    "first gradient dampened": Fault(
        "dropout", OPTIM + "sgd.py", "jnp.where(state.started, 1.0 - dampening, 1.0)",
        "jnp.where(state.started, 1.0 - dampening, 1.0 - dampening)", "update", "0.weight",
    ),
    "nesterov left out": Fault(
        "nesterov", OPTIM + "sgd.py", "optax.trace(momentum, nesterov)",
        "optax.trace(momentum, False)", "update", "0.weight",
    ),
    "weight decay forgotten": Fault(
        "dropout", OPTIM + "sgd.py",
        "optax.add_decayed_weights(weight_decay) if weight_decay != 0 else None",
        "None", "update", "0.weight",
    ),
    "sign of maximize": Fault(
        "nesterov", OPTIM + "sgd.py", "optax.scale(-1.0) if maximize", "None if maximize",
        "update", "0.weight",
    ),
    "eps inside the root of RMSprop": Fault(
        "rmsprop", OPTIM + "rmsprop.py", "(jnp.sqrt(var) + eps)", "jnp.sqrt(var + eps)",
        "update", "0.weight",
    ),
    "not centered": Fault(
        "rmsprop", OPTIM + "rmsprop.py", "square - average * average", "square",
        "update", "0.weight",
    ),
    "lr_decay a step early": Fault(
        "adagrad", OPTIM + "adagrad.py", "1 / (1 + state.step * lr_decay)",
        "1 / (1 + (state.step + 1) * lr_decay)", "update", "0.weight",
    ),
    "groups swapped": Fault(
        "adam", "jaxnet/convert/optimizers.py",
        'str(number): _translate(name, group, rate)',
        'str(len(rates) - 1 - number): _translate(name, group, rate)', "update", "0.weight",
    ),
    "schedule an epoch early": Fault(
        "nesterov", OPTIM + "schedules.py", "epoch_of(count) // step_size",
        "(epoch_of(count) + (count > 0)) // step_size", "update", "0.weight", 2,
    ),
    "schedule stepped each step": Fault(
        "adamw", "jaxnet/convert/optimizers.py",
        "return factory(rate, steps_per_epoch=steps, **values)",
        "return factory(rate, steps_per_epoch=1, **values)",
        "update", "0.weight", 2,
    ),
    "optimizer state not carried by the loop": Fault(
        "adam", TRAIN + "step.py", "opt_state=opt_state", "opt_state=state.opt_state",
        "whole run", "loss", 3,
    ),
    "optimizer state not carried, with ReLU": Fault(
        "relu", TRAIN + "step.py", "opt_state=opt_state", "opt_state=state.opt_state",
        "whole run", "loss", 3,
    ),
    "a step's masks used twice": Fault(
        "relu", TRAIN + "epoch.py", "lax.scan(body, state, (batches, draws))",
        "lax.scan(body, state, (batches, jax.tree.map(lambda r: r[jnp.arange(len(r)) // 2],"
        " draws)))",
        "whole run", "loss", 2,
    ),
    "the first batch taken twice": Fault(
        "relu", TRAIN + "epoch.py", "jnp.arange(batching.full, dtype=jnp.int32) * size",
        "jnp.maximum(jnp.arange(batching.full, dtype=jnp.int32) - 1, 0) * size",
        "whole run", "loss", 2,
    ),
    "updates 1% short in the loop": Fault(
        "relu", TRAIN + "step.py", "optax.apply_updates(state.params, updates)",
        "optax.apply_updates(state.params, jax.tree.map(lambda u: 0.99 * u, updates))",
        "whole run", "loss", 2,
    ),
    "short batch taken from the rows before": Fault(
        "adam", TRAIN + "epoch.py", "jnp.full(1, batching.full * size, jnp.int32)",
        "jnp.full(1, batching.full * size - size, jnp.int32)",
        "whole run", "loss", 3,
    ),
    "running statistics not carried by the loop": Fault(
        "adamw", TRAIN + "step.py", "model_state=model_state,", "model_state=state.model_state,",
        "whole run", "1.num_batches_tracked", 6,
    ),
    "the last of equal elements": Fault(
        "ties", NN + "pools.py", "(part > best)", "(part >= best)", "gradients", "0.weight",
    ),
}  # fmt: skip


QUICK = (
    "transposed weight",
    "shuffle off by one draw",
    "mask shifted by one element",
    "a port's own mask shifted by one element",
    "scale forgotten",
    "bias forgotten",
    "tanh-GELU for erf",
    "padding counted in the average",
    "kernel turned round",
    "biased running variance",
    "sum for mean",
    "log not clamped",
    "label smoothing over K - 1",
    "gradient stopped at the statistics",
    "padding row trained",
    "bias correction missing",
    "dampening ignored",
    "not centered",
    "lr_decay a step early",
    "groups swapped",
    "schedule an epoch early",
    "train mode in evaluation",
    "a run's masks shifted by one element",
    "optimizer state not carried by the loop",
    "one draw too many at the end of an epoch",
)
"""At least one of every stage of a certificate, and of every room."""


def find(fault: Fault) -> Certificate:
    """The certificate of the fault's case where the fault is planted."""
    with planted(fault.file, replaced(fault.file, fault.old, fault.new)) as changed:
        assert changed, "no function was changed"
        return certify_case(fault.case)
