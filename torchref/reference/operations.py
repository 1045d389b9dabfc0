"""What the reference knows of torch's operations: how sizes go through, where kinks are.

Whatever is not listed here is an elementwise function: its result is one term, rounded once.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch


class Call(NamedTuple):
    """An operation that torch runs, as its dispatcher hands it on."""

    function: Any
    name: str
    """Without its overload: `addmm`, `add_`."""
    args: tuple[Any, ...]
    keywords: dict[str, Any]

    @property
    def base(self) -> str:
        """The name without the underscore of an operation in place."""
        return self.name.rstrip("_")

    def changed(self) -> list[torch.Tensor]:
        """The tensors that it changes in place."""
        if self.name == "native_batch_norm":  # its schema does not say so
            return [a for a in self.args[3:5] if is_float(a) and self.args[5]]
        found = []
        for place, name in _list_written(self.function):
            given = self.args[place] if place < len(self.args) else self.keywords.get(name)
            found += [tensor for tensor in outputs(given) if is_float(tensor)]
        return found

    def tensors(self) -> list[torch.Tensor]:
        """The arguments that are tensors of floating-point numbers."""
        found = []
        for value in (*self.args, *self.keywords.values()):
            found += [t for t in outputs(value) if is_float(t)]
        return found

    def run(self, change: Callable[[Any], Any]) -> Any:
        """The operation with each argument changed."""
        args = [_map(change, value) for value in self.args]
        keywords = {name: _map(change, value) for name, value in self.keywords.items()}
        return self.function(*args, **keywords)


def _map(change: Callable[[Any], Any], value: Any) -> Any:
    return [change(part) for part in value] if isinstance(value, list | tuple) else change(value)


@cache
def _list_written(function: Any) -> list[tuple[int, str]]:
    """Places and names of the arguments that an operation changes."""
    return [
        (place, argument.name)
        for place, argument in enumerate(function._schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    ]


def is_float(value: Any) -> bool:
    """Whether it is a tensor of floating-point numbers."""
    return isinstance(value, torch.Tensor) and value.is_floating_point()


def is_real(call: Call) -> bool:
    """Whether its numbers are torch's own on every side, as what is drawn at random: once."""
    return torch.Tag.nondeterministic_seeded in call.function.tags or call.name in REPLACED


def outputs(result: Any) -> list[Any]:
    """The results of an operation, one or many."""
    return list(result) if isinstance(result, tuple | list) else [result]


PRODUCTS = frozenset(
    "mm bmm addmm baddbmm addbmm addmv addr mv dot convolution convolution_backward cumsum "
    "embedding_dense_backward _embedding_bag_dense_backward".split()
)
"""Sums of products: a result's terms are the products."""

SUMS = frozenset(("sum", "mean", "nansum"))

LINEAR = frozenset(
    "neg clone _to_copy index gather index_select slice_backward select_backward masked_fill "
    "masked_fill_ constant_pad_nd reflection_pad2d reflection_pad1d embedding _unsafe_view repeat "
    "flip roll copy_ slice_scatter select_scatter diagonal_backward unfold_backward "
    "threshold_backward leaky_relu_backward hardtanh_backward nll_loss_backward "
    "max_pool2d_with_indices_backward max_pool3d_with_indices_backward avg_pool1d avg_pool2d "
    "avg_pool2d_backward avg_pool3d avg_pool3d_backward _adaptive_avg_pool2d "
    "_adaptive_avg_pool2d_backward _adaptive_avg_pool3d _adaptive_avg_pool3d_backward "
    "adaptive_max_pool2d_backward upsample_nearest2d upsample_nearest2d_backward "
    "upsample_bilinear2d upsample_bilinear2d_backward reflection_pad2d_backward "
    "index_select_backward value_selecting_reduction_backward".split()
)
"""Linear in the first argument, with terms that it takes over."""

MERGES = frozenset(
    "where cat stack index_put index_put_ scatter scatter_add scatter_add_ index_add index_add_ "
    "_index_put_impl_".split()
)
"""Linear in all of them."""

COMPOSITE = frozenset(
    "native_batch_norm native_batch_norm_backward native_layer_norm native_layer_norm_backward "
    "native_group_norm native_group_norm_backward _fused_rms_norm _fused_rms_norm_backward "
    "_softmax _safe_softmax _softmax_backward_data _log_softmax _log_softmax_backward_data "
    "mse_loss mse_loss_backward binary_cross_entropy binary_cross_entropy_backward "
    "binary_cross_entropy_with_logits smooth_l1_loss smooth_l1_loss_backward huber_loss "
    "huber_loss_backward sigmoid_backward tanh_backward gelu gelu_backward silu silu_backward "
    "log_sigmoid_backward softplus_backward elu_backward logaddexp logsumexp var "
    "var_mean std std_mean".split()
)
"""Their terms cancel inside: they are taken apart as `torch._decomp` takes them apart."""

REPLACED = frozenset(("resize_", "set_"))
"""What they give comes from elsewhere: it is torch's own number on every side."""

VIEWS = frozenset(
    "t view detach expand transpose permute unsqueeze squeeze select slice alias as_strided split "
    "split_with_sizes chunk unbind _reshape_alias lift_fresh unfold diagonal t_ transpose_ "
    "squeeze_ unsqueeze_ swapaxes_ swapdims_ as_strided_".split()
)
"""They change how a tensor sees its storage, and no number."""

STEPS = frozenset("round floor ceil trunc".split())

_EDGES = {
    **dict.fromkeys("relu relu_ leaky_relu leaky_relu_ elu elu_ abs sign sgn".split(), (0.0,)),
    **dict.fromkeys("hardsigmoid hardswish hardswish_".split(), (-3.0, 3.0)),
    "hardtanh": (-1.0, 1.0),
    "hardtanh_": (-1.0, 1.0),
    **dict.fromkeys("clamp clamp_ clamp_min clamp_min_ clamp_max clamp_max_".split(), ()),
    **dict.fromkeys("threshold gt ge lt le".split(), ()),
}


def edges(call: Call) -> tuple[float, ...]:
    """Where an elementwise function of its first argument has a kink."""
    if call.name not in _EDGES:
        return ()
    given = tuple(
        a for a in (*call.args[1:], *call.keywords.values()) if isinstance(a, int | float)
    )
    if not _EDGES[call.name] or call.base == "hardtanh":
        return tuple(map(float, given)) or _EDGES[call.name]
    return _EDGES[call.name]


def select(call: Call, real: Any, value: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """The result of an operation that chooses among its numbers, as torch has chosen; else None.

    `value` gives the numbers in place of a tensor's own.
    """
    name, args = call.base, call.args
    if name in ("max_pool2d_with_indices", "max_pool3d_with_indices", "adaptive_max_pool2d"):
        spatial = 3 if "3d" in name else 2
        flat = value(args[0]).flatten(-spatial)
        return flat.gather(-1, real[1].flatten(-spatial)).view(real[1].shape), real[1]
    if (
        name in ("max", "min", "sort", "topk", "kthvalue", "median", "mode")
        and len(outputs(real)) == 2
    ):
        place = 1 if name in ("max", "min", "sort", "median", "mode") else 2
        dim = call.keywords.get("dim", args[place] if len(args) > place else -1)
        index = real[1] if real[1].dim() == args[0].dim() else real[1].unsqueeze(dim)
        return value(args[0]).gather(dim, index).reshape(real[0].shape), real[1]
    if name in ("maximum", "minimum"):
        first = args[0] >= args[1] if name == "maximum" else args[0] <= args[1]
        return torch.where(first, value(args[0]), value(args[1]))
    return real.double() if name in STEPS else None


def count_terms(call: Call, result: torch.Tensor) -> int:
    """How many terms a sum has."""
    name, args = call.base, call.args
    if name in SUMS:
        return max(1, args[0].numel() // max(1, result.numel()))
    if name in ("mm", "bmm", "mv", "dot"):
        return args[0].shape[-1]
    if name in ("addmm", "baddbmm", "addbmm", "addmv"):
        return args[1].shape[-1] + 1
    if name == "convolution":
        return args[1][0].numel() + 1
    if name == "convolution_backward":  # toward the input: a kernel's; else rows and places
        return args[2][:, 0].numel() if result.shape == args[1].shape else args[0][:, 0].numel()
    if name == "embedding_dense_backward":
        return max(1, args[1].numel() // max(1, args[2]))
    return max(1, args[0].shape[-1] if args[0].dim() else 1)
