"""The floor: a dense C program for this net alone, and what its core can do at most."""

import ctypes
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.peers.common import NAMES
from benchmarks.task import Contestant, Missing, Task, Trained

SOURCE = Path(__file__).with_name("floor.c")
COMPILER = "cc"
# No -ffast-math: what the compiler may reorder, the source has already put in order.
FLAGS = ("-O3", "-march=native", "-shared", "-fPIC")
ALIGNMENT = 64


class Peaks(NamedTuple):
    """What one thread reaches: float32 FMAs on registers, and a copy from memory to memory."""

    fma_gflops: float
    copy_gbytes: float
    """Read and written bytes together."""


@cache
def load_library(*flags: str) -> ctypes.CDLL:
    """Compile `floor.c` and load it: for this machine, unless more `flags` name another target."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "floor.so"
        try:
            command = [COMPILER, *FLAGS, *flags, str(SOURCE), "-o", str(library), "-lm"]
            subprocess.run(command, check=True, capture_output=True, text=True)
        except FileNotFoundError as error:
            raise Missing(f"no C compiler: install one as `{COMPILER}`") from error
        except subprocess.CalledProcessError as error:
            raise Missing(f"`{COMPILER}` did not compile {SOURCE.name}: {error.stderr}") from error
        loaded = ctypes.CDLL(str(library))  # stays mapped when the folder is gone
    floats, net = np.ctypeslib.ndpointer(np.float32, flags="C"), ctypes.c_void_p
    loaded.set_weights.argtypes = loaded.get_weights.argtypes = [net, *[floats] * 4]
    loaded.train.argtypes = [
        net, floats, floats, *[ctypes.c_int] * 3, ctypes.c_float, floats,
    ]  # fmt: skip
    loaded.peak_fma.argtypes, loaded.peak_fma.restype = [ctypes.c_long, floats], ctypes.c_double
    loaded.copy.argtypes = [floats, floats, ctypes.c_long]
    return loaded


def _align(size: int) -> np.ndarray:
    """`size` bytes that begin on a cache line, as the vectors of the net must."""
    memory = np.zeros(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size]


def prepare_floor(task: Task) -> tuple[Callable[[], Any], Callable[[Any], Trained]]:
    """Train without dropout, whatever `task.p`."""
    library = load_library()
    if task.batch_size > library.max_batch():
        raise Missing(f"a batch of at most {library.max_batch()} rows")
    x, y = (np.ascontiguousarray(array, np.float32) for array in (task.x, task.y))
    net = _align(library.net_bytes())
    initial = [np.ascontiguousarray(task.params[name]) for name in NAMES]

    def train():
        losses = np.empty(task.steps, np.float32)
        library.set_weights(net.ctypes.data, *initial)
        library.train(net.ctypes.data, x, y, len(x), task.batch_size, task.epochs, task.lr, losses)
        return losses

    def read(losses):
        weights = [np.empty_like(array) for array in initial]
        library.get_weights(net.ctypes.data, *weights)
        return Trained(dict(zip(NAMES, weights, strict=True)), losses)

    return train, read


def measure_peaks(tries: int = 5) -> Peaks:
    """The best of `tries` of each: what other programs took of the core is not its peak."""
    library = load_library()
    seed = np.ones(1, np.float32)
    source = np.ones(2**25, np.float32)  # 128 MiB, several times a last-level cache
    target = np.zeros_like(source)
    return Peaks(
        max(_rate(lambda: library.peak_fma(10**7, seed)) for _ in range(tries)) / 1e9,
        max(_rate(lambda: _copy(library, target, source)) for _ in range(tries)) / 1e9,
    )


def _copy(library: ctypes.CDLL, target: np.ndarray, source: np.ndarray) -> int:
    library.copy(target, source, source.size)
    return 2 * source.nbytes


def _rate(work: Callable[[], float]) -> float:
    begin = time.perf_counter()
    amount = work()
    return amount / (time.perf_counter() - begin)


FLOOR = Contestant("C, one core, no dropout", "fast", prepare_floor, stream="none")
