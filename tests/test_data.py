"""MNIST as the lecture's torchvision pipeline gives it; all that is not it is rejected clearly.

Set JAXNET_MNIST to a folder that holds the real four IDX files to test on all ten digits as well.
"""

import gzip
import hashlib
import importlib
import itertools
import os
import re
import runpy
import struct
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch

from jaxnet.data import mnist
from tests.helpers import assert_same_bits, each_row

SCRIPT = Path(__file__).parents[1] / "scripts" / "make_mnist012.py"
ROOT = os.environ.get("JAXNET_MNIST")


def idx_bytes(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


def tiny_files() -> dict[str, bytes]:
    """The four files with 40 and 20 random images; the labels go round all ten digits."""
    files = {}
    for split, count in (("train", 40), ("t10k", 20)):
        images = np.random.default_rng(count).integers(0, 256, (count, 28, 28))
        images[:, :16, :16] = np.arange(256).reshape(16, 16)  # every value a byte has
        files[f"{split}-images-idx3-ubyte"] = idx_bytes(images)
        files[f"{split}-labels-idx1-ubyte"] = idx_bytes(np.arange(count) * 7 % 10)
    return files


def assert_same_digits(pairs, others) -> None:
    for one, other in zip(pairs, others, strict=True):
        assert_same_bits(one.images, other.images)
        assert_same_bits(one.labels, other.labels)


def write_files(folder: Path, ending: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in tiny_files().items():
        content = gzip.compress(content) if ending else content
        (folder / f"{name}{ending}").write_bytes(content)
    return folder


@pytest.fixture
def tiny(monkeypatch):
    """Has the reader take the tiny files for MNIST."""
    digests = {name: hashlib.md5(content).hexdigest() for name, content in tiny_files().items()}
    monkeypatch.setattr(mnist, "MNIST_MD5", digests)


@pytest.fixture
def cache(monkeypatch, tmp_path) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # no bug may reach the real one
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "jaxnet"


@pytest.fixture(autouse=True, scope="module")
def pipeline() -> Any:
    """torchvision's reading, before any test puts something else in torchvision's place."""
    return importlib.import_module("tests.pipeline")


@pytest.mark.parametrize(
    "classes, train_rows, test_rows",
    [
        ((0, 1), 12_665, 2_115),
        ((0, 1, 2), 18_623, 3_147),
        ([2, 0], 11_881, 2_012),
        (np.array([1]), 6_742, 1_135),
    ],
)
def test_bundled_rows(pipeline, classes, train_rows, test_rows):
    with np.load(mnist.BUNDLE) as bundle:
        counts = {"train": train_rows, "test": test_rows}
        for (split, rows), dataset in zip(counts.items(), mnist.load_mnist(classes), strict=True):
            assert dataset.images.shape == (rows, 784) and dataset.labels.shape == (rows,)
            assert dataset.images.dtype == np.float32 and dataset.labels.dtype == np.int32
            assert dataset.images.min() == 0 and dataset.images.max() == 1
            for position, digit in enumerate(classes):
                of_digit = dataset.images[dataset.labels == position]
                pixels = bundle[f"{split}_{digit}"]
                assert of_digit.shape == pixels.shape
                for row in (0, 1, len(pixels) // 2, len(pixels) - 1):
                    assert_same_bits(of_digit[row], pipeline.to_tensor(pixels[row]))
            assert np.all(np.diff(dataset.labels) >= 0)


def test_a_flipped_bit_never_passes(monkeypatch, tmp_path, tiny):
    root = write_files(tmp_path)
    arrays: dict[str, Any] = mnist.read_digits(root, (0, 1))
    digests = {name: hashlib.sha256(rows.tobytes()).hexdigest() for name, rows in arrays.items()}
    monkeypatch.setattr(mnist, "BUNDLE", tmp_path / "tiny.npz")
    monkeypatch.setattr(mnist, "BUNDLE_SHA256", digests)
    np.savez_compressed(mnist.BUNDLE, **arrays)
    content, expected = mnist.BUNDLE.read_bytes(), mnist.load_mnist()
    assert_same_digits(expected, mnist.load_mnist((0, 1)))
    refused, places = 0, range(0, len(content), 19)
    for place in places:
        byte = bytes([content[place] ^ (1 << place % 8)])
        mnist.BUNDLE.write_bytes(content[:place] + byte + content[place + 1 :])
        try:
            loaded = mnist.load_mnist()
        except ValueError:
            refused += 1
        else:  # a date, a flag: nothing that the arrays depend on
            assert_same_digits(loaded, expected)
    assert refused > 0.9 * len(places)


SHAPES = [(5,), (0, 3), (2, 3), (2, 3, 4), (2, 1, 3, 2), ()]


@each_row("shape, zipped", itertools.product(SHAPES, [False, True]))
def test_read_idx(pipeline, tmp_path, shape, zipped):
    array = np.random.default_rng(len(shape)).integers(0, 256, shape, np.uint8)
    content = idx_bytes(np.asarray(array))
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(content) if zipped else content)
    read = mnist.read_idx(str(path))
    assert_same_bits(read, array)
    if not zipped and 1 <= len(shape) <= 3 and array.size:
        assert_same_bits(read, pipeline.read_sn3_pascalvincent_tensor(str(path)))


WHOLE = idx_bytes(np.arange(6).reshape(2, 3))


@each_row(
    "content, match",
    [
        (b"\x01\x08\0\0" + WHOLE[4:], r"starts with b'\\x01\\x08"),  # the other byte order
        (WHOLE[:4] + struct.pack("<2I", 2, 3) + WHOLE[12:], "6 bytes of data; expected"),
        (gzip.compress(WHOLE, mtime=0)[:-6] + b"\0\0\0\0\0\0", "damaged gzip"),
        (gzip.compress(WHOLE, mtime=0)[:10] + b"\xff" * 9, "damaged gzip"),
        (gzip.compress(WHOLE[:-1], mtime=0), "5 bytes of data; expected 6"),
    ],
)
def test_read_idx_rejects(tmp_path, content, match):
    """Beside what tests/bad_calls has."""
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{re.escape(str(path))} .*{match}"):
        mnist.read_idx(path)


@pytest.mark.parametrize(
    ("below", "ending"), [("", ""), ("MNIST/raw", ".gz"), ("MNIST/raw", ""), ("", ".gz")]
)
def test_root_as_torchvision_reads_it(pipeline, tmp_path, tiny, below, ending):
    write_files(tmp_path / "torchvision" / "MNIST" / "raw")
    write_files(tmp_path / "root" / below, ending)
    for classes in ((7, 0, 3), (0, 1)):  # not the bundle's
        pipeline.assert_is_torchvision(tmp_path / "root", tmp_path / "torchvision", classes)


@pytest.mark.parametrize("name", ["t10k-labels-idx1-ubyte", "train-images-idx3-ubyte"])
def test_files_that_are_not_mnist_are_rejected(tmp_path, tiny, monkeypatch, name):
    write_files(tmp_path)
    monkeypatch.setitem(mnist.MNIST_MD5, name, "0" * 32)
    digest = hashlib.md5(tiny_files()[name]).hexdigest()
    with pytest.raises(ValueError, match=f"{name} is not MNIST's .* {digest}, expected {'0' * 32}"):
        mnist.load_mnist((3,), tmp_path)


def set_torchvision(monkeypatch, download) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.datasets", SimpleNamespace(MNIST=download))


def refuse_download(folder, download):
    raise AssertionError("nothing is to be downloaded")


def test_download_fills_the_cache_once(pipeline, monkeypatch, tmp_path, cache, tiny):
    def download(folder, download):
        assert download
        write_files(Path(folder, "MNIST", "raw"))
        write_files(Path(folder, "MNIST", "raw"), ".gz")

    set_torchvision(monkeypatch, download)
    first = mnist.load_mnist((3, 0))
    assert sorted(path.name for path in cache.iterdir()) == sorted(tiny_files())
    set_torchvision(monkeypatch, refuse_download)
    assert_same_digits(first, mnist.load_mnist((3, 0)))
    write_files(tmp_path / "MNIST" / "raw")
    pipeline.assert_is_torchvision(cache, tmp_path, (3, 0))


def test_the_cache_lies_in_the_home_folder_and_bundled_digits_need_none(
    monkeypatch, tmp_path, tiny
):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    set_torchvision(monkeypatch, refuse_download)
    mnist.load_mnist((2, 1))
    assert not (tmp_path / ".cache").exists()
    write_files(tmp_path / ".cache" / "jaxnet" / "MNIST" / "raw")
    assert mnist.load_mnist((9,))[0].images.shape == (4, 784)


@pytest.mark.parametrize("error", [RuntimeError("Tried,\ngot b"), URLError("no route")])
def test_a_failed_download_leaves_nothing(monkeypatch, cache, error):
    def download(folder, download):
        raw = write_files(Path(folder, "MNIST", "raw"))
        (raw / "t10k-labels-idx1-ubyte").unlink()
        raise error

    set_torchvision(monkeypatch, download)
    match = rf"^downloading MNIST into {re.escape(str(cache))} failed .*: check the network.*root="
    with pytest.raises(RuntimeError, match=match) as caught:
        mnist.load_mnist((0, 3))
    assert caught.value.__cause__ is error and "\n" not in str(caught.value)
    assert not list(cache.iterdir())


def test_a_download_of_something_else_leaves_nothing(monkeypatch, cache):
    set_torchvision(monkeypatch, lambda folder, download: write_files(Path(folder)))
    with pytest.raises(RuntimeError, match="is not MNIST's train-images-idx3-ubyte"):
        mnist.load_mnist((0, 3))
    assert not list(cache.iterdir())


def test_a_download_needs_torchvision(monkeypatch, cache):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    with pytest.raises(ImportError, match=r"classes is \(0, 3\), .*'\.\[torch\]'.*root=") as caught:
        mnist.load_mnist((0, 3))
    assert isinstance(caught.value.__cause__, ImportError)
    assert not cache.exists()


@each_row("shape, count", itertools.product([(7,), (0,), (2, 3), ()], [None, 3, 5]))
def test_one_hot(shape, count):
    labels = np.random.default_rng(0).integers(0, 3, shape)
    if labels.size or count is not None:  # else there is nothing to count from, in torch neither
        expected = torch.nn.functional.one_hot(torch.tensor(labels), -1 if count is None else count)
        assert_same_bits(mnist.one_hot(labels, count), expected.float())


@each_row("dtype", [np.int8, np.uint8, np.int32, np.uint64])
def test_one_hot_of_any_integers(dtype):
    expected = np.array([[0, 1, 0], [1, 0, 0]], np.float32)
    assert_same_bits(mnist.one_hot(np.array([1, 0], dtype), np.int64(3)), expected)
    assert mnist.one_hot(np.array([255], np.uint8), 300).argmax() == 255


def run_script(monkeypatch, capsys, root, out: Path) -> dict[str, str]:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), str(root), "--out", str(out)])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    return dict(re.findall(r'"(\w+)": "(\w{64})",', capsys.readouterr().out))


def test_make_mnist012(monkeypatch, tmp_path, capsys, tiny):
    root = write_files(tmp_path, ".gz")
    digests = run_script(monkeypatch, capsys, root, tmp_path / "one.npz")
    assert digests == run_script(monkeypatch, capsys, root, tmp_path / "two.npz")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    monkeypatch.setattr(mnist, "BUNDLE", tmp_path / "one.npz")
    monkeypatch.setattr(mnist, "BUNDLE_SHA256", digests)
    assert_same_digits(mnist.load_mnist((2, 0, 1)), mnist.load_mnist((2, 0, 1), root))


@pytest.mark.skipif(ROOT is None, reason="JAXNET_MNIST names no folder of MNIST's four IDX files")
def test_real_mnist(monkeypatch, tmp_path, capsys):
    train, test = mnist.load_mnist(range(10), ROOT)
    assert train.images.shape == (60_000, 784) and test.images.shape == (10_000, 784)
    assert set(train.labels) == set(test.labels) == set(range(10))
    for bundled, whole in zip(mnist.load_mnist((0, 1, 2)), (train, test), strict=True):
        assert_same_bits(bundled.images, whole.images[whole.labels < 3])
        assert_same_bits(bundled.labels, whole.labels[whole.labels < 3])
    assert run_script(monkeypatch, capsys, ROOT, tmp_path / "made.npz") == mnist.BUNDLE_SHA256
