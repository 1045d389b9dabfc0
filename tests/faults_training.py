"""Mistakes in optimizers and in the loop: rows of `tests/faults.py`."""

OPTIM, TRAIN = "jaxnet/optim/", "jaxnet/train/"

TRAINING = {
    "masks shifted by one element in the loop": (
        "dropout", TRAIN + "epoch.py", "draws = self.layout.replicate(draws)",
        "draws = self.layout.replicate(jax.tree.map(lambda keep: jnp.roll(keep, 1), draws))",
        "whole run", "loss",
    ),
    "eps inside the root": (
        "adamw", OPTIM + "adam.py", "(jnp.sqrt(square) + eps * root)",
        "jnp.sqrt(square + (eps * root) ** 2)", "update", "0.weight",
    ),
    "bias correction missing": (
        "adam", OPTIM + "adam.py", "return -jnp.expm1(step * math.log(beta))",
        "return jnp.ones(()) * 1.0", "update", "0.weight",
    ),
    "eps not corrected": (
        "adamw", OPTIM + "adam.py", "+ eps * root)", "+ eps)", "update", "0.weight",
    ),
    "decoupled decay for L2": (
        "adam", OPTIM + "adam.py",
        "optax.add_decayed_weights(weight_decay) if weight_decay != 0 else None,\n"
        "        _scale_by_adam(betas, eps, amsgrad),",
        "_scale_by_adam(betas, eps, amsgrad),\n"
        "        optax.add_decayed_weights(weight_decay) if weight_decay != 0 else None,",
        "update", "0.weight",
    ),
    "L2 for decoupled decay": (
        "adamw", OPTIM + "adam.py",
        "_scale_by_adam(betas, eps, amsgrad),\n"
        "        optax.add_decayed_weights(weight_decay) if weight_decay != 0 else None,",
        "optax.add_decayed_weights(weight_decay) if weight_decay != 0 else None,\n"
        "        _scale_by_adam(betas, eps, amsgrad),",
        "update", "0.weight",
    ),
    "largest second moment forgotten": (
        "amsgrad", OPTIM + "adam.py", "largest if amsgrad else exp_avg_sq,\n        )",
        "exp_avg_sq,\n        )", "update", "0.weight", 2,
    ),
    "dampening ignored": (
        "dropout", OPTIM + "sgd.py", "jnp.where(state.started, 1.0 - dampening, 1.0)",
        "jnp.where(state.started, 1.0, 1.0)", "update", "0.weight", 2,
    ),
    "first gradient dampened": (
        "dropout", OPTIM + "sgd.py", "jnp.where(state.started, 1.0 - dampening, 1.0)",
        "jnp.where(state.started, 1.0 - dampening, 1.0 - dampening)", "update", "0.weight",
    ),
    "nesterov left out": (
        "nesterov", OPTIM + "sgd.py", "optax.trace(momentum, nesterov)",
        "optax.trace(momentum, False)", "update", "0.weight",
    ),
    "weight decay forgotten": (
        "dropout", OPTIM + "sgd.py",
        "optax.add_decayed_weights(weight_decay) if weight_decay != 0 else None",
        "None", "update", "0.weight",
    ),
    "sign of maximize": (
        "nesterov", OPTIM + "sgd.py", "optax.scale(-1.0) if maximize", "None if maximize",
        "update", "0.weight",
    ),
    "eps inside the root of RMSprop": (
        "rmsprop", OPTIM + "rmsprop.py", "(jnp.sqrt(var) + eps)", "jnp.sqrt(var + eps)",
        "update", "0.weight",
    ),
    "not centered": (
        "rmsprop", OPTIM + "rmsprop.py", "square - average * average", "square",
        "update", "0.weight",
    ),
    "lr_decay a step early": (
        "adagrad", OPTIM + "adagrad.py", "1 / (1 + state.step * lr_decay)",
        "1 / (1 + (state.step + 1) * lr_decay)", "update", "0.weight",
    ),
    "schedule an epoch early": (
        "nesterov", OPTIM + "schedules.py", "epoch_of(count) // step_size",
        "(epoch_of(count) + (count > 0)) // step_size", "update", "0.weight", 2,
    ),
    "optimizer state not carried by the loop": (
        "adam", TRAIN + "step.py", "opt_state=opt_state", "opt_state=state.opt_state",
        "whole run", "loss", 3,
    ),
    "the first batch taken twice": (
        "relu", TRAIN + "epoch.py", "jnp.arange(batching.full, dtype=jnp.int32) * size",
        "jnp.maximum(jnp.arange(batching.full, dtype=jnp.int32) - 1, 0) * size",
        "whole run", "loss", 2,
    ),
    "short batch taken from the rows before": (
        "adam", TRAIN + "epoch.py", "jnp.full(1, batching.full * size, jnp.int32)",
        "jnp.full(1, batching.full * size - size, jnp.int32)",
        "whole run", "loss", 3,
    ),
    "optimizer state not carried, where the loss goes to 0": (
        "converged", TRAIN + "step.py", "opt_state=opt_state", "opt_state=state.opt_state",
        "whole run", "loss", 3,
    ),
    "labels off by one in the short batch": (
        "short", TRAIN + "epoch.py",
        "jax.tree.map(lambda a: lax.dynamic_slice_in_dim(a, begin, count), arrays)",
        "tuple(lax.dynamic_slice_in_dim(a, begin - (off and count != size), count)"
        " for off, a in enumerate(arrays))",
        "whole run", "loss", 4,
    ),
    "optimizer state not carried, in the README's net": (
        "README", TRAIN + "step.py", "opt_state=opt_state", "opt_state=state.opt_state",
        "whole run", "loss", 3,
    ),
    "updates 1% short, in the README's net": (
        "README", TRAIN + "step.py", "optax.apply_updates(state.params, updates)",
        "optax.apply_updates(state.params, jax.tree.map(lambda u: 0.99 * u, updates))",
        "whole run", "loss", 2,
    ),
    "a step's masks used twice, in the README's net": (
        "README", TRAIN + "epoch.py", "lax.scan(body, state, (batches, draws))",
        "lax.scan(body, state, (batches, jax.tree.map(lambda r: r[jnp.arange(len(r)) // 2],"
        " draws)))",
        "whole run", "loss", 2,
    ),
    "running statistics not carried by the loop": (
        "adamw", TRAIN + "step.py", "model_state=model_state,", "model_state=state.model_state,",
        "whole run", "1.num_batches_tracked", 6,
    ),
}  # fmt: skip
