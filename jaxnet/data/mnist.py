"""MNIST as NumPy arrays: bundled digits 0 to 2, IDX files from a folder, or a download."""

import functools
import gzip
import hashlib
import itertools
import math
import operator
import os
import struct
import tempfile
import zlib
from collections.abc import Iterable, Sequence, Set
from pathlib import Path
from typing import NamedTuple, SupportsIndex

import numpy as np
from jaxtyping import Float32, Int32, UInt8
from numpy.typing import ArrayLike

from jaxnet._utils.files import as_path, cache_folder
from jaxnet._utils.validation import INT32

StrPath = str | os.PathLike[str]
SPLITS = {"train": "train", "test": "t10k"}  # how MNIST's file names spell them
# Of the decompressed bytes, so that plain and gzipped files answer to the same digest.
MNIST_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
BUNDLE = Path(__file__).with_name("mnist012.npz")
# From scripts/make_mnist012.py. One array a digit: a load reads and checks only those asked for.
BUNDLE_SHA256 = {
    "train_0": "ac32299b7a58d418c8bcb1e668fa360716ade1a4c81cfdc2ba6914a31d05b8cd",
    "train_1": "8d1ab004905a007f65808105fdb05248e189671173fd4c4ffd06ea8357eb38e0",
    "train_2": "cd4bd073b33ad01acf11d98e7334594667d477619d617ce652e19be49e2ffe0b",
    "test_0": "76e662bbe0db1cfcd75a913f7013ddfa7b22b6d3b5bd6c2ba7290190c64a0f3f",
    "test_1": "f8d7faaf92eb3879f464b8f054dc492532dbf421dae46ab9ac9e032b49b971d8",
    "test_2": "a85ce777f11ec29ef43a88a1a3436354bba1118efd11998903c34417934e849d",
}


class Dataset(NamedTuple):
    """Images with their labels, row by row.

    `images` is (n, 784) float32, pixels in [0, 1], 28 rows of 28 pixels from the top left;
    `labels` is (n,) int32, positions in the `classes` that were asked for.

    torchvision's `MNIST` with `ToTensor` gives one image at a time, shaped (1, 28, 28), and the
    digit itself, a Python int.

    >>> Dataset(np.zeros((1, 784), np.float32), np.array([1], np.int32)).labels
    array([1], dtype=int32)
    """

    images: Float32[np.ndarray, "n 784"]
    labels: Int32[np.ndarray, " n"]


def load_mnist(
    classes: Iterable[SupportsIndex] = (0, 1), root: StrPath | None = None
) -> tuple[Dataset, Dataset]:
    """Give MNIST's train and test rows of the digits in `classes`.

    Rows come grouped: all of `classes[0]` in the file's order, then all of `classes[1]`, ...;
    the label of a row is the position of its digit in `classes`. With `root`, the four IDX files
    (plain or gzipped) are read from that folder or its `MNIST/raw`. Without, digits 0, 1 and 2
    come with the package; others are read from `$XDG_CACHE_HOME/jaxnet` (`~/.cache/jaxnet`),
    which torchvision's download fills at the first call.

    `torchvision.datasets.MNIST` gives all ten digits in the file's order. Pixels have the same
    bits as its images through `ToTensor`: the byte divided by 255 in float32.

    Raises TypeError or ValueError where `classes` is not distinct digits from 0 to 9 in an order,
    TypeError or FileNotFoundError where `root` is not a folder that holds the files, ValueError
    where a file is not MNIST's, ImportError without torchvision, RuntimeError without network.

    >>> train, test = load_mnist()
    >>> train.images.shape, test.images.shape
    ((12665, 784), (2115, 784))
    >>> train.labels[[0, 5922, 5923, -1]]  # there are 5,923 zeros, then the ones
    array([0, 0, 1, 1], dtype=int32)

    Source: http://yann.lecun.com/exdb/mnist/.
    """
    digits = _check_classes(classes)
    if root is not None:
        rows = read_digits(root, digits)
    elif all(f"train_{digit}" in BUNDLE_SHA256 for digit in digits):
        stat = BUNDLE.stat() if BUNDLE.exists() else None
        rows = _read_bundle(BUNDLE, digits, stat and (stat.st_mtime_ns, stat.st_size))
    else:
        rows = read_digits(_fill_cache(digits), digits)
    train, test = (_to_dataset([rows[f"{split}_{d}"] for d in digits]) for split in SPLITS)
    return train, test


def read_digits(root: StrPath, digits: Sequence[int]) -> dict[str, UInt8[np.ndarray, "_ 784"]]:
    """The images of each digit in the IDX files in `root`, (n, 784): `train_D` and `test_D`."""
    files = _locate_files(root)
    rows = {}
    for split, prefix in SPLITS.items():
        images = _read_mnist_file(files, f"{prefix}-images-idx3-ubyte").reshape(-1, 784)
        labels = _read_mnist_file(files, f"{prefix}-labels-idx1-ubyte")
        rows |= {f"{split}_{digit}": images[labels == digit] for digit in digits}
    return rows


def read_idx(path: StrPath) -> UInt8[np.ndarray, "..."]:
    """Read one IDX file of unsigned bytes, plain or gzipped, as a read-only array of its rank.

    The format (http://yann.lecun.com/exdb/mnist/) is 0, 0, the type 8, the rank r, r big-endian
    32-bit sizes, then the bytes, last axis fastest. torchvision's `read_sn3_pascalvincent_tensor`
    reads other types too, but no gzip.

    Raises ValueError where the header or the length is not that, or the gzip stream is damaged;
    OSError where the file cannot be read.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "tiny-idx2-ubyte")
    ...     _ = path.write_bytes(bytes([0, 0, 8, 2, 0, 0, 0, 1, 0, 0, 0, 3]) + b"abc")
    ...     read_idx(path)
    array([[97, 98, 99]], dtype=uint8)
    """
    return _parse_idx(_read_bytes(as_path(path)), path)


def one_hot(
    labels: ArrayLike, num_classes: int | np.integer | None = None
) -> Float32[np.ndarray, "*shape num_classes"]:
    """Turn integer labels into rows of zeros with a single one.

    `labels` has any shape, (n,) as a rule, and holds 0 to `num_classes` - 1; the answer has that
    shape and a last axis of `num_classes`, which is the greatest label + 1 where None.

    `torch.nn.functional.one_hot` gives int64, not float32, and spells None as -1. For traced
    arrays under jit there is `jax.nn.one_hot`, which turns a label out of range into zeros.

    Raises TypeError where `labels` or `num_classes` is not made of integers; ValueError where
    `num_classes` is not positive, a label is out of range, or there is no label to count from.

    >>> one_hot([2, 0])
    array([[0., 0., 1.],
           [1., 0., 0.]], dtype=float32)
    """
    try:
        labels = np.asarray(labels)
    except ValueError as error:  # rows of several lengths
        raise TypeError(f"labels is {labels!r}; expected an array of integers") from error
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(f"labels has dtype {labels.dtype}; expected integers")
    if num_classes is None:
        if labels.size == 0:
            raise ValueError("labels is empty; expected num_classes with it, or at least one label")
        num_classes = max(int(labels.max()), 0) + 1
    elif isinstance(num_classes, bool) or not isinstance(num_classes, int | np.integer):
        raise TypeError(f"num_classes is {num_classes!r}; expected a positive integer or None")
    if not 1 <= num_classes <= INT32:
        raise ValueError(f"num_classes is {num_classes}; expected 1 to {INT32} or None")
    wrong = labels[(labels < 0) | (labels >= num_classes)]
    if wrong.size:
        raise ValueError(f"labels holds {wrong[0]}; expected integers from 0 to {num_classes - 1}")
    return (labels[..., None] == np.arange(num_classes)).astype(np.float32)


def _check_classes(classes: Iterable[SupportsIndex]) -> tuple[int, ...]:
    message = f"classes is {classes!r}; expected distinct digits from 0 to 9, such as (0, 1)"
    try:
        items = tuple(classes)
        digits = tuple(operator.index(item) for item in items)
    except TypeError as error:
        raise TypeError(message) from error
    # A set has no order to count positions by; bytes and booleans would pass for integers.
    if isinstance(classes, str | bytes | Set) or any(isinstance(item, bool) for item in items):
        raise TypeError(message)
    if not digits or len(set(digits)) < len(digits) or not set(digits) <= set(range(10)):
        raise ValueError(message)
    return digits


def _locate_files(root: StrPath) -> dict[str, Path]:
    """The path of each of the four files; FileNotFoundError names those missing."""
    expected = "expected a folder that holds MNIST's four IDX files, itself or in its MNIST/raw"
    try:
        folder = Path(root).expanduser()
    except TypeError as error:
        raise TypeError(f"root is {root!r}; {expected}, as a str or os.PathLike") from error
    if not folder.is_dir():
        state = "is not a folder" if folder.exists() else "does not exist"
        raise FileNotFoundError(f"root is {str(folder)!r}, which {state}; {expected}")
    files = _find_files(folder)
    if missing := [name for name in MNIST_MD5 if name not in files]:
        raise FileNotFoundError(
            f"root is {str(folder)!r}, which lacks {', '.join(missing)}, plain or .gz; {expected}"
        )
    return files


def _find_files(root: Path) -> dict[str, Path]:
    """Those of the four files that are there; of several of one name, the one in the last place."""
    found = {}
    places = (("MNIST/raw", ".gz"), ("MNIST/raw", ""), (".", ".gz"), (".", ""))
    # Some unpackers write a dot: train-images.idx3-ubyte.
    for (folder, end), dash in itertools.product(places, (".idx", "-idx")):
        paths = {name: root / folder / (name.replace("-idx", dash) + end) for name in MNIST_MD5}
        found |= {name: path for name, path in paths.items() if path.is_file()}
    return found


def _read_bytes(path: Path) -> bytes:
    data = path.read_bytes()
    if not data.startswith(b"\x1f\x8b"):
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is a damaged gzip file ({error}); fetch it again") from error


def _parse_idx(data: bytes, path: StrPath) -> UInt8[np.ndarray, "..."]:
    if len(data) < 4 or data[:3] != b"\0\0\x08":
        raise ValueError(f"{path} starts with {data[:4]!r}; expected IDX's 0, 0, 8 and the rank")
    offset = 4 + 4 * data[3]
    if len(data) < offset:
        raise ValueError(f"{path} ends within its header; expected {data[3]} dimensions")
    shape = struct.unpack(f">{data[3]}I", data[4:offset])
    length, expected = len(data) - offset, math.prod(shape)
    if length != expected:
        raise ValueError(f"{path} holds {length} bytes of data; expected {expected} for {shape}")
    return np.frombuffer(data, np.uint8)[offset:].reshape(shape)


def _read_mnist_file(files: dict[str, Path], name: str) -> UInt8[np.ndarray, "..."]:
    data = _read_bytes(path := files[name])
    array = _parse_idx(data, path)
    pixels = (28, 28) if "images" in name else ()
    if array.shape[1:] != pixels:
        raise ValueError(f"{path} has shape {array.shape}; expected {('n', *pixels)}")
    digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if digest != MNIST_MD5[name]:
        raise ValueError(
            f"{path} is not MNIST's {name}: the MD5 digest of its bytes, decompressed, is "
            f"{digest}, expected {MNIST_MD5[name]}; fetch it again"
        )
    return array


@functools.lru_cache(maxsize=2)  # to unzip and to check a bundle takes longer than to copy it
def _read_bundle(
    path: Path, digits: tuple[int, ...], written: tuple[int, int] | None
) -> dict[str, UInt8[np.ndarray, "_ 784"]]:
    del written  # when, and how large: a file that has changed is read again
    names = [f"{split}_{digit}" for split in SPLITS for digit in digits]
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as bundle:
            rows = {name: bundle[name].reshape(-1, 784) for name in names}
        for name in names:
            if (digest := hashlib.sha256(rows[name].tobytes()).hexdigest()) != BUNDLE_SHA256[name]:
                raise ValueError(f"SHA-256 of {name}: {digest}, expected {BUNDLE_SHA256[name]}")
    # Damage surfaces as whatever zip, zlib or the npy header trips over first.
    except Exception as error:
        raise ValueError(f"{path} is not whole ({error}); install jaxnet again") from error
    return rows


def _to_dataset(parts: Sequence[UInt8[np.ndarray, "_ 784"]]) -> Dataset:
    # Division, not multiplication by 1/255, which rounds differently for half of the 256 values.
    images = np.concatenate(parts) / np.float32(255)
    labels = np.repeat(np.arange(len(parts), dtype=np.int32), [len(part) for part in parts])
    return Dataset(images, labels)


def _fill_cache(digits: Sequence[int]) -> Path:
    """The cache folder, holding the four files: downloaded unless they are there already."""
    cache = cache_folder()
    if len(_find_files(cache)) == len(MNIST_MD5):
        return cache
    instead = "or pass root=, a folder that holds the four IDX files of MNIST"
    try:
        from torchvision.datasets import MNIST
    except ImportError as error:
        raise ImportError(
            f"classes is {tuple(digits)}, of which not all are bundled, and their download needs "
            f"torchvision: run pip install '.[torch]' in the checkout, {instead}"
        ) from error
    try:
        cache.mkdir(parents=True, exist_ok=True)
        # Beside the cache, so that a move is atomic and what breaks off leaves nothing behind.
        with tempfile.TemporaryDirectory(prefix="download-", dir=cache) as folder:
            MNIST(folder, download=True)
            files = _locate_files(folder)
            for name in files:
                _read_mnist_file(files, name)
            for name, path in files.items():
                os.replace(path, cache / name)
    except Exception as error:
        reason = " ".join(str(error).split())  # torchvision's has a line for each mirror
        raise RuntimeError(
            f"downloading MNIST into {cache} failed ({reason}): check the network, {instead}"
        ) from error
    return cache
