"""The floor: a dense C program for this net alone, and what its core can do at most."""

import ctypes
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path

import numpy as np

from benchmarks.peers.common import NAMES
from benchmarks.task import Contestant, Missing, Prepared, Task, Trained

SOURCE = Path(__file__).with_name("floor.c")
COMPILER = "cc"
# No -ffast-math: what the compiler may reorder, the source has already put in order.
FLAGS = ("-O3", "-march=native", "-shared", "-fPIC")
ALIGNMENT = 64


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
    return loaded


def _align(size: int) -> np.ndarray:
    """`size` bytes that begin on a cache line, as the vectors of the net must."""
    memory = np.zeros(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size]


def prepare_floor(task: Task) -> Prepared:
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


def measure_peak(tries: int = 5) -> float:
    """GFLOP/s of one thread's float32 FMAs on registers.

    The best of `tries`: what other programs took of the core is not its peak.
    """
    library, seed = load_library(), np.ones(1, np.float32)
    rates = []
    for _ in range(tries):
        begin = time.perf_counter()
        operations = library.peak_fma(10**7, seed)
        rates.append(operations / (time.perf_counter() - begin) / 1e9)
    return max(rates)


FLOOR = Contestant("C, one core, no dropout", "fast", prepare_floor, stream="none")
