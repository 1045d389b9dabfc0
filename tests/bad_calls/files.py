"""Small files, whole and damaged, and the nets and states that the calls need."""

import functools
import gzip
import struct
from pathlib import Path

import jax
import numpy as np
import safetensors.numpy

import jaxnet
from jaxnet import nn
from jaxnet.callbacks import Checkpoint
from jaxnet.data import Dataset
from jaxnet.data.mnist import BUNDLE, MNIST_MD5
from jaxnet.train import TrainState

LIKE = {"params": {"0": {"weight": np.ones((1, 2), np.float32)}}}
"""Variables of the safetensors files."""

X = np.arange(8, dtype=np.float32).reshape(4, 2) / 8
Y = np.array([[0.0], [1.0], [1.0], [0.0]], np.float32)
OPTIMIZER = jaxnet.optim.sgd()
DIGITS = Dataset(np.ones((2, 784), np.float32), np.array([0, 1], np.int32))


@functools.cache
def generator() -> jaxnet.random.Generator:
    return jaxnet.random.manual_seed(0)


@functools.cache
def net() -> nn.Sequential:
    return nn.Sequential([nn.Linear(2, 1), nn.Sigmoid()])


@functools.cache
def state() -> TrainState:
    stream, variables = jaxnet.init(net(), generator())
    return jaxnet.train.start(OPTIMIZER, variables, stream)


def fit(**changes):
    """A call of `fit` that is right but for what is changed in it."""
    good = {"net": net(), "data": (X, Y), "loss": jaxnet.losses.binary_cross_entropy}
    arguments = good | {"optimizer": OPTIMIZER, "epochs": 1, "seed": 0} | changes
    return jaxnet.fit(arguments.pop("net"), arguments.pop("data"), **arguments)


def run(**changes):
    """The same of `train.run`, of a step without a net."""

    def step(weight, batch, draws):
        return weight, (weight * batch[0]).mean()

    good = {"step": step, "state": np.float32(1), "source": (X, Y), "epochs": 1, "seed": 0}
    return jaxnet.train.run(**good | changes)


def replaced(array: np.ndarray, place, value) -> np.ndarray:
    copy = array.copy()
    copy[place] = value
    return copy


@functools.cache
def key():
    return jax.random.key(0)


def make_files(folder: Path) -> None:
    """Everything that the calls read; they write nothing."""
    (folder / "empty").mkdir()
    (folder / "file").write_text("not a folder")
    _make_idx(folder)
    _make_mnist(folder)
    _make_npz(folder)
    _make_safetensors(folder)
    _make_checkpoints(folder)


def idx(*shape: int) -> bytes:
    sizes = struct.pack(f">{len(shape)}I", *shape)
    return bytes([0, 0, 8, len(shape)]) + sizes + bytes(int(np.prod(shape)))


def _make_idx(folder: Path) -> None:
    whole = idx(2, 3)
    (folder / "short-idx2-ubyte").write_bytes(whole[:-1])
    (folder / "long-idx2-ubyte").write_bytes(whole + b"\0")
    (folder / "header-idx2-ubyte").write_bytes(whole[:9])
    (folder / "nothing-idx2-ubyte").write_bytes(b"")
    (folder / "floats-idx2-ubyte").write_bytes(b"\0\0\x0d" + whole[3:])
    (folder / "cut-idx2-ubyte.gz").write_bytes(gzip.compress(whole)[:-9])


def _make_mnist(folder: Path) -> None:
    """Folders with four files of the right names: other digits, a wrong shape, one cut short."""
    for name in ("other", "shape", "cut"):
        (folder / name).mkdir()
        for file in MNIST_MD5:
            shape = (1, 28, 28) if "images" in file else (1,)
            (folder / name / file).write_bytes(idx(*shape))
    (folder / "shape" / "train-images-idx3-ubyte").write_bytes(idx(1, 27, 28))
    (folder / "cut" / "train-images-idx3-ubyte").write_bytes(idx(1, 28, 28)[:-5])


def _make_npz(folder: Path) -> None:
    (folder / "cut.npz").write_bytes(BUNDLE.read_bytes()[:5000])
    (folder / "text.npz").write_text("no archive")
    names = ("train_0", "train_1", "test_0", "test_1")
    rows = {name: np.zeros((1, 784), np.uint8) for name in names}
    np.savez(folder / "other.npz", **rows)  # pyright: ignore[reportArgumentType]
    np.savez(folder / "less.npz", train_0=rows["train_0"])


def _make_safetensors(folder: Path) -> None:
    def write(name: str, tensors: dict[str, np.ndarray]) -> bytes:
        data = safetensors.numpy.save(tensors)
        (folder / name).write_bytes(data)
        return data

    whole = write("whole.safetensors", {"0.weight": np.ones((1, 2), np.float32)})
    (folder / "cut.safetensors").write_bytes(whole[:-3])
    (folder / "pickle.safetensors").write_bytes(b"\x80\x04\x95" + bytes(40))
    write("shape.safetensors", {"0.weight": np.ones((2, 2), np.float32)})
    jaxnet.convert.save_train_state(folder / "state.safetensors", state())
    data = (folder / "state.safetensors").read_bytes()
    (folder / "cut-state.safetensors").write_bytes(data[:-3])
    tensors = safetensors.numpy.load(data)
    tensors["generator"] = np.zeros_like(tensors["generator"])
    write("stream.safetensors", tensors)


def _make_checkpoints(folder: Path) -> None:
    """Runs of one and two epochs, and one whose every file is cut."""
    for name, epochs in (("saved", 1), ("long", 2), ("cut-run", 1)):
        fit(epochs=epochs, callbacks=[Checkpoint(folder / name)])
    for path in (folder / "cut-run").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:10])
