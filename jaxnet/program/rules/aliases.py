"""Operators that torch has under several names."""

from jaxnet.program.registry import RULES, rule

ALIASES = {
    "abs.default": "absolute.default",
    "neg.default": "negative.default",
    "sub.Tensor": "subtract.Tensor",
    "sub.Scalar": "subtract.Scalar",
    "mul.Tensor": "multiply.Tensor",
    "mul.Scalar": "multiply.Scalar",
    "div.Tensor": "divide.Tensor true_divide.Tensor",
    "div.Scalar": "divide.Scalar true_divide.Scalar",
    "div.Tensor_mode": "divide.Tensor_mode",
    "div.Scalar_mode": "divide.Scalar_mode",
    "trunc.default": "fix.default",
    "gt.Tensor": "greater.Tensor",
    "gt.Scalar": "greater.Scalar",
    "ge.Tensor": "greater_equal.Tensor",
    "ge.Scalar": "greater_equal.Scalar",
    "lt.Tensor": "less.Tensor",
    "lt.Scalar": "less.Scalar",
    "le.Tensor": "less_equal.Tensor",
    "le.Scalar": "less_equal.Scalar",
    "ne.Tensor": "not_equal.Tensor",
    "ne.Scalar": "not_equal.Scalar",
    "asin.default": "arcsin.default",
    "acos.default": "arccos.default",
    "atan.default": "arctan.default",
    "asinh.default": "arcsinh.default",
    "acosh.default": "arccosh.default",
    "atanh.default": "arctanh.default",
    "atan2.default": "arctan2.default",
    "exp2.default": "special_exp2.default",
    "expm1.default": "special_expm1.default",
    "log1p.default": "special_log1p.default",
    "erf.default": "special_erf.default",
    "erfc.default": "special_erfc.default",
    "erfinv.default": "special_erfinv.default",
    "lgamma.default": "special_gammaln.default",
    "digamma.default": "special_digamma.default",
    "sinc.default": "special_sinc.default",
    "logit.default": "special_logit.default",
    "logsumexp.default": "special_logsumexp.default",
    "xlogy.Tensor": "special_xlogy.default",
    "clamp.default": "clip.default",
    "clamp.Tensor": "clip.Tensor",
    "transpose.int": "swapaxes.default swapdims.default",
    "movedim.int": "moveaxis.int",
    "movedim.intlist": "moveaxis.intlist",
    "cat.default": "concat.default concatenate.default",
    "vstack.default": "row_stack.default",
    "matmul.default": "linalg_matmul.default",
    "outer.default": "ger.default",
    "split.Tensor": "unsafe_split.Tensor",
    "split_with_sizes.default": "unsafe_split_with_sizes.default",
    "chunk.default": "unsafe_chunk.default",
}
"""The names, by the one under which the rule stands."""


def register() -> None:
    """Once the rules themselves are registered."""
    for name, others in ALIASES.items():
        for other in others.split():
            rule(f"aten.{other}")(RULES[f"aten.{name}"].function)
