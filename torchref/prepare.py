"""A port beside a plan: jaxnet's translation of the net, or one that somebody wrote."""

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

import jaxnet
from jaxnet import convert
from jaxnet.program import TorchNet
from torchref.batch import Batch
from torchref.candidate import OwnPort
from torchref.forms import Form, explain_call, open_port
from torchref.hooks import has_hooks
from torchref.matching.linear import FunctionMap, WeightMap
from torchref.matching.moves import make_move
from torchref.matching.search import match
from torchref.names import leaves, name_parts
from torchref.own_comparison import OwnComparison
from torchref.plan import Plan
from torchref.steps import Named, copy_named
from torchref.user_comparison import UserComparison
from torchref.user_port import UserPort
from torchref.user_update import check_known

_ROWS = 8
"""Rows from which it is seen how the outputs move with each tensor."""


class Options(NamedTuple):
    """Which port is compared, and how."""

    port: Any = None
    """A user's; None for jaxnet's own."""
    port_from_torch: Callable[[Any], Any] | None = None
    known: Collection[str] = ()
    time: bool = False
    progress: Callable[[int], Any] | None = None
    """Called with the number of each step before it is compared."""


def prepare_own(plan: Plan, loss: Any, options: Options) -> OwnComparison:
    """jaxnet's translation, whose generator begins where torch's is.

    Raises:
      jaxnet.convert.Unsupported: there is none.
    """
    if plan.dropout == "off":
        raise ValueError('dropout must be "torch": without port, jaxnet draws torch\'s masks')
    generator = jaxnet.random.set_state(torch.get_rng_state().numpy())
    net, variables = translate(plan)
    jax_loss = find_loss(loss)
    tensors: dict[str, Any] = {
        "named": (copy_named(plan.net.named_parameters()), copy_named(plan.net.named_buffers())),
        "layers": list_layers(plan, net),
    }
    if plan.scope:
        port = OwnPort(net, variables, optax.identity(), jax_loss, **tensors)
    else:
        port = _translate_optimizer(plan, net, variables, jax_loss, tensors, loss)
    own = {"generator": generator, "net": net, "loss": jax_loss, "progress": options.progress}
    return OwnComparison(plan, port, **own)


def translate(plan: Plan) -> tuple[Any, Any]:
    """jaxnet's port of a plan's net, exported from a batch of it where it has to be."""
    example = jax.tree.map(lambda rows: rows[: plan.batching.size], plan.data)
    rows, size = plan.data.num_examples, plan.batching.size
    sizes = {rows % size or size, rows}  # a short last batch; and all, which are evaluated at once
    net, variables = convert.from_torch(
        plan.net, *example.args, batch_sizes=sizes, **example.keywords
    )
    if not isinstance(net, TorchNet) and (plan.data.keywords or len(plan.data.args) != 1):
        raise ValueError(f"data must be (X, y) with one X, not {plan.data.names}")
    return net, variables


def list_layers(plan: Plan, net: Any) -> list[str]:
    """The names of the layers whose outputs the port shows."""
    if isinstance(net, TorchNet):
        return [name for name, _ in net.port.train.layers]
    layers = set(leaves(plan.net))
    modules = plan.net.named_modules(remove_duplicate=False)
    return [name for name, module in modules if name and module in layers]


def _translate_optimizer(
    plan: Plan, net: Any, variables: Any, jax_loss: Callable, tensors: Any, loss: Any
) -> OwnPort:
    if has_hooks(plan.optimizer):
        raise convert.Unsupported(["optimizer has step hooks, which have no translation"])
    steps = plan.batching.steps if plan.interval == "epoch" else 1
    optimizer = convert.optimizer_from_torch(
        plan.optimizer,
        plan.net,
        scheduler=plan.scheduler,
        steps_per_epoch=steps,
        epochs=plan.epochs * plan.batching.steps // steps,
    )
    shared = not isinstance(loss, tuple)
    port = OwnPort(net, variables, optimizer, jax_loss, **tensors, shared=shared)
    done = 0 if plan.scheduler is None else plan.scheduler.last_epoch * steps
    port.opt_state = convert.opt_state_from_torch(
        plan.optimizer, plan.net, port.opt_state, count=done
    )
    return port


def prepare_user(plan: Plan, loss: Any, options: Options) -> UserComparison:
    """A port that somebody wrote.

    Raises:
      TypeError: it has a form that is not taken.
      ValueError: it fails on these inputs, or the optimizer has a state.
    """
    known = check_known(options.known)
    if any(float(state.get("step", 1)) > 0 for state in plan.optimizer.state.values()):
        raise ValueError("optimizer must be fresh beside a port of your own: it has a state")
    form = open_port(options.port)
    form = form._replace(
        params=jax.tree.map(_copy, form.params), state=jax.tree.map(_copy, form.state)
    )
    if plan.scope:
        form = form._replace(optimizer=None)
    elif form.optimizer is None:
        raise ValueError("port must have an optimizer, as torch's run has; its own is None")
    batch = jax.tree.map(lambda tensor: tensor[:_ROWS].numpy(), plan.data)
    _try(form, batch)
    ours = UserPort(form, find_loss(loss), find_maps(plan, form, batch, options.port_from_torch))
    plan = plan._replace(scaled=ours.drops(batch))
    return UserComparison(plan, ours, known=known, progress=options.progress)


def _copy(leaf: Any) -> Any:
    """An array of its own: what a user took from torch may be torch's memory, which is trained."""
    keyed = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return leaf if keyed or not hasattr(leaf, "dtype") else np.array(leaf)


def find_loss(loss: Any) -> Callable:
    """The JAX loss beside torch's."""
    if isinstance(loss, tuple):
        return loss[1]
    return _mean if loss is None else convert.loss_from_torch(loss)


def _mean(outputs: Any, y: Any) -> Any:
    return sum(part.mean() for part in name_parts(outputs).values())


def _try(form: Form, batch: Batch) -> None:
    """Call a port once, without computing anything."""
    if form.names_masks:
        return
    inputs = batch[:2]
    for train in (True, False):
        call = partial(form.apply, train=train)
        try:
            jax.eval_shape(call, form.params, form.state, *inputs)
        except Exception as error:  # whatever a library raises of it
            raise explain_call(error, form, inputs) from error


def find_maps(
    plan: Plan, form: Form, batch: Batch, function: Callable | None
) -> tuple[WeightMap, WeightMap]:
    """How a port's parameters and its other state hold torch's tensors."""
    named, buffers = copy_named(plan.net.named_parameters()), copy_named(plan.net.named_buffers())
    if function is not None:
        weights: WeightMap = FunctionMap(_take_params(function, named, buffers), named, form.params)
    else:
        weights = match(named, form.params, make_move(plan, form, batch, named))
    return weights, match(buffers, form.state, beside=weights)


def _take_params(function: Callable, named: Named, buffers: Named) -> Callable[[Any], Any]:
    """The caller's function of a state_dict as one of the parameters, to the port's parameters."""
    others = {name: jnp.asarray(array) for name, array in buffers.items()}
    made = jax.eval_shape(lambda: function({**others, **jax.tree.map(jnp.asarray, named)}))
    whole = isinstance(made, Mapping) and "params" in made
    return lambda named: (
        function({**others, **named})["params"] if whole else function({**others, **named})
    )
