"""A generator's state as the bytes in which torch keeps it."""

from typing import Any

import jax
import jax.core
import numpy as np
from jaxtyping import UInt8

from jaxnet.random.mt19937 import BLOCK, Generator, check_concrete, manual_seed

# at::CPUGeneratorImplState of torch 1.7 and later, little-endian.
_LAYOUT = np.dtype(
    [
        ("seed", "<u8"),
        ("left", "<i4"),
        ("seeded", "<i4"),
        ("next", "<u8"),
        ("words", "<u8", (BLOCK,)),
        ("normal_x", "<f8"),
        ("normal", "<f8"),
        ("normal_rho", "<f8"),
        ("has_normal", "<i4"),
        ("padding", "<i4"),
        ("float_normal", "<f4"),
        ("has_float_normal", "<u4"),
    ]
)


def get_state(generator: Generator) -> UInt8[np.ndarray, "5056"]:
    """The bytes of `torch.get_rng_state()` in the same state: hand them to `torch.set_rng_state`.

    The whole CPU state is in them: seed, words, position, and the normal number kept for the next
    call. A GPU's stream has its own state in torch, and is not in them.

    Raises:
      TypeError: `generator` is traced.

    >>> import jaxnet
    >>> state = jaxnet.random.get_state(jaxnet.random.manual_seed(258))
    >>> print(state.shape, state[:8])
    (5056,) [2 1 0 0 0 0 0 0]

    Source: `torch.get_rng_state`, `torch.Generator.get_state`.
    """
    check_concrete(generator)
    key, position = np.asarray(generator.key), int(generator.position)
    seed, sample = (np.asarray(w, "<u4") for w in (generator.seed, generator.next_normal_sample))
    state = np.zeros((), _LAYOUT)
    state["seed"] = seed.view("<u8")[0]
    state["left"] = BLOCK + 1 - position
    state["seeded"] = 1
    # torch counts a block as used up both when its words are drawn and before the first one is.
    fresh = position == BLOCK and np.array_equal(key, manual_seed(state["seed"]).key)
    state["next"] = 0 if fresh else position
    state["words"] = key
    state["normal"] = sample[1:].view("<f8")[0]
    state["has_normal"] = sample[0]
    return np.frombuffer(state.tobytes(), np.uint8).copy()


def set_state(state: Any) -> Generator:
    """The generator in the state that `torch.get_rng_state()` returned: 5056 bytes.

    Args:
      state: uint8 numbers of shape (5056,), or bytes; `get_rng_state().numpy()` will do.

    Raises:
      TypeError: `state` is neither, or is traced.
      ValueError: it has another length, or is not a state that torch writes.

    >>> import jaxnet
    >>> generator, _ = jaxnet.random.randperm(jaxnet.random.manual_seed(1), 10)
    >>> again = jaxnet.random.set_state(jaxnet.random.get_state(generator))
    >>> int(again.position), int(generator.position)
    (9, 9)

    Source: `torch.set_rng_state`, `torch.Generator.set_state`.
    """
    if isinstance(state, jax.core.Tracer):
        raise TypeError("state must be concrete, not traced by jit, scan or vmap")
    if isinstance(state, bytes | bytearray | memoryview):
        state = np.frombuffer(state, np.uint8)
    state = np.asarray(state)
    if state.dtype != np.uint8:
        raise TypeError(f"state must hold uint8 numbers or be bytes, not {state.dtype}")
    if state.shape != (_LAYOUT.itemsize,):
        raise ValueError(f"state must have shape ({_LAYOUT.itemsize},), not {state.shape}")
    fields = np.frombuffer(state.tobytes(), _LAYOUT)[0]
    left, following = int(fields["left"]), int(fields["next"])
    begun = left + following == BLOCK + 1 and 1 <= left <= BLOCK
    fresh = left == 1 and following == 0
    known = fields["seeded"] == 1 and fields["has_normal"] in (0, 1)
    strange = fields["has_float_normal"] or (fields["words"] >> 32).any()
    if not (begun or fresh) or not known or strange:
        raise ValueError("state must be one that torch.get_rng_state returned: this one is damaged")
    sample = np.zeros(3, np.uint32)
    if fields["has_normal"]:
        sample[0], sample[1:] = 1, np.array([fields["normal"]], "<f8").view("<u4")
    return Generator(
        fields["words"].astype(np.uint32),
        np.asarray(BLOCK if fresh else following, np.int32),
        np.array([fields["seed"]], "<u8").view("<u4").astype(np.uint32),
        sample,
    )
