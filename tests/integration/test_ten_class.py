"""The ten-digit experiment: on a small set of made-up digits everywhere, and on MNIST's own first
epoch where JAXNET_MNIST names a folder that holds the four files.
"""

import hashlib
import os
import re
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import jaxnet.lecture.cli
import jaxnet.lecture.cli.sweep
import torchref.cli
import torchref.lecture
from jaxnet import data, lecture
from jaxnet.certificate import bounds
from tests.helpers import assert_same_bits
from tests.test_data import idx_bytes
from torchref.certification import Certificate, certify_script

TEN = lecture.find("ten_class")
HOME = Path(__file__).parents[2]
ROOT = os.environ.get("JAXNET_MNIST")


@lru_cache
def made_up_files() -> dict[str, bytes]:
    """1,000 and 300 images: of each digit a picture of its own, under noise that hides it in part.

    No pixel is the same in all of them: a weight whose gradient is rounding alone would be moved by
    Adam as far as any other, and no two frameworks would move it alike.
    """
    rng = np.random.default_rng(0)
    pictures, files = rng.integers(0, 256, (10, 28, 28)), {}
    for split, count in (("train", 1000), ("t10k", 300)):
        labels = rng.integers(0, 10, count)
        images = 0.15 * pictures[labels] + 0.85 * rng.integers(0, 256, (count, 28, 28))
        files[f"{split}-images-idx3-ubyte"] = idx_bytes(images)
        files[f"{split}-labels-idx1-ubyte"] = idx_bytes(labels)
    return files


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """A folder of made-up digits, which the reader takes for MNIST."""
    folder = tmp_path / "mnist"
    folder.mkdir()
    for name, content in made_up_files().items():
        (folder / name).write_bytes(content)
    digests = {name: hashlib.md5(content).hexdigest() for name, content in made_up_files().items()}
    monkeypatch.setattr("jaxnet.data.mnist.MNIST_MD5", digests)
    return folder


def certify_rows(train: data.Dataset) -> Certificate:
    """The experiment's first epoch of these rows."""

    def build():
        return *torchref.lecture.build_ten_class(), (train.images, TEN.targets(train))

    return certify_script(build, batch_size=TEN.batch_size, shuffle=TEN.shuffle, seed=TEN.seed)


def test_the_lecture_alone_needs_no_other_digits():
    assert all(set(experiment.classes) <= {0, 1, 2} for experiment in lecture.EXPERIMENTS.values())
    assert not set(lecture.BEYOND) & set(lecture.EXPERIMENTS)
    assert [lecture.find(name).id for name in lecture.EXPERIMENTS] == list(lecture.EXPERIMENTS)


def test_ten_epochs_beside_torch(root):
    """Every report, the last accuracies, and the stream with its orders and masks."""
    rows = data.load_mnist(TEN.classes, root)
    result_jax, result_torch = lecture.run(TEN, rows), torchref.lecture.run("ten_class", rows)
    stream = torch.get_rng_state()
    record_jax, record_torch = result_jax.record, result_torch.record
    assert record_jax["steps"] == record_torch["steps"] == 10 * 16
    for part in ("train_accuracy", "test_accuracy"):
        assert record_jax[part] == record_torch[part]
    for ours, theirs in zip(record_jax["reports"], record_torch["reports"], strict=True):
        assert (ours["epoch"], ours["accuracy"]) == (theirs["epoch"], theirs["accuracy"])
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=bounds.TRAJECTORY.rtol)
    accuracies = [report["accuracy"] for report in record_jax["reports"]]
    assert 0.1 < accuracies[0] < accuracies[-1] < 1  # a job on which rows could differ
    assert_same_bits(jaxnet.random.get_state(result_jax.state.generator), stream)


def test_the_pages_command_certifies_the_example(root, monkeypatch):
    text = (HOME / "docs/experiments.md").read_text(encoding="utf-8").replace("\\\n", "")
    (command,) = re.findall(r"^JAXNET_MNIST=FOLDER python -m torchref (.*)$", text, re.MULTILINE)
    monkeypatch.setenv("JAXNET_MNIST", str(root))
    monkeypatch.chdir(HOME)
    done = CliRunner().invoke(torchref.cli.main, command.split())
    assert done.exit_code == 0, done.output
    assert done.output.startswith("AGREE: 16 steps; ")
    assert "rows 1000, epochs 1, batch_size 64, shuffle True, seed 1" in done.output


def test_it_is_swept_over_seeds(root, tmp_path):
    done = CliRunner().invoke(
        jaxnet.lecture.cli.main,
        ["sweep", "ten_class", "--seeds", "0:3", "--epochs", "2", "--root", str(root)]
        + ["--out", str(tmp_path / "sweep")],
    )
    assert done.exit_code == 0 and "of 3 seeds reach" in done.output, done.output
    assert len((tmp_path / "sweep" / "lanes.csv").read_text().splitlines()) == 4


def test_without_a_folder_or_a_network_one_sentence(tmp_path, monkeypatch):
    def mnist(folder, download):
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz:\nTried https://a.test/")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("torchvision.datasets.MNIST", mnist)
    done = CliRunner().invoke(jaxnet.lecture.cli.main, ["lecture", "--only", "ten_class"])
    assert done.exit_code == 2, done.output
    assert "check the network, or pass root=" in " ".join(done.output.split())
    assert "Traceback" not in done.output


@pytest.mark.skipif(ROOT is None, reason="JAXNET_MNIST names no folder of MNIST's four IDX files")
def test_real_mnist_for_100_steps():
    train, _ = data.load_mnist(TEN.classes, ROOT)
    picked = np.random.default_rng(0).permutation(len(train.labels))[: 100 * 64]
    found = certify_rows(data.Dataset(train.images[picked], train.labels[picked]))
    assert found.agrees and found.steps == 100, str(found)
