"""What the optimizers are put together with."""

import optax


def chain(*parts: optax.GradientTransformation | None) -> optax.GradientTransformation:
    """One part after another; those that are None are left out."""
    return optax.chain(*(part for part in parts if part is not None))


def lerp(start, end, weight: float):
    """`torch.lerp`: of its two forms each is exact where the other loses `end` or `start`."""
    if weight < 0.5:
        return start + weight * (end - start)
    return end - (1 - weight) * (end - start)
