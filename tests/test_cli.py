"""The command line from outside: what it prints, writes and returns; and that it needs no torch."""

import dataclasses
import json
import os
import re
import subprocess
import sys

import jax
import pytest
from click.testing import CliRunner

import jaxnet.cli
from jaxnet import lecture

PNG = b"\x89PNG\r\n\x1a\n"

WITHOUT_TORCH = """
import sys
for name in ("torch", "torchvision", "torchref"):
    sys.modules[name] = None  # importing it fails
import pkgutil, importlib, jaxnet
for module in pkgutil.walk_packages(jaxnet.__path__, "jaxnet."):
    if module.name != "jaxnet.__main__":
        importlib.import_module(module.name)
from jaxnet.cli import main
main(["lecture", "--only", "minibatch", "--only", "logits"], prog_name="jaxnet")
"""


def call(*arguments: str):
    return CliRunner().invoke(jaxnet.cli.main, list(arguments), prog_name="jaxnet")


def test_every_module_and_the_lecture_work_where_torch_cannot_be_imported():
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert ".9886/.9953" in done.stdout and ".9577" in done.stdout


def test_lecture_writes_table_json_and_figures(tmp_path):
    results, figures = tmp_path / "new" / "results.json", tmp_path / "figures"
    done = call(
        *("lecture", "--only", "three_class", "--only", "manual_sigmoid"),
        *("--json", str(results), "--figures", str(figures), "--device", "cpu"),
    )
    assert done.exit_code == 0, done.output
    assert "three_class" in done.output and ".9827/.9860 ✓ torch" in done.output
    assert str(figures) in done.output.replace("\n", "")
    records = json.loads(results.read_text())
    assert [record["experiment"] for record in records] == ["three_class", "manual_sigmoid"]
    assert (
        list(records[0])
        == (
            "experiment section seed published train_accuracy test_accuracy reports steps "
            "compile_seconds run_seconds device random precision devices processes"
        ).split()
    )
    assert records[0]["steps"] == 100 and len(records[1]["reports"]) == 10
    assert "precision: parity (float32, full matmul precision)" in done.output
    assert {record["precision"] for record in records} == {"parity"}
    pictures = sorted(figures.iterdir())
    drawn = (
        "codes confusion digits manual_sigmoid multinomial predictions sigmoid three_class weights"
    )
    assert [path.stem for path in pictures] == drawn.split()
    assert all(path.read_bytes().startswith(PNG) for path in pictures)


@pytest.mark.parametrize(
    ("name", "dtype", "meaning"),
    [
        ("fast", "float32", "float32, the backend's own matmul precision"),
        ("float64", "float64", "float64, full matmul precision"),
    ],
)
def test_a_precision_is_obeyed_and_said(name, dtype, meaning, tmp_path, monkeypatch):
    results, kinds = tmp_path / "results.json", []

    def run(*arguments, **options):
        result = lecture.run(*arguments, **options)
        kinds.append(result.history.losses.dtype)
        return result

    monkeypatch.setattr(jaxnet.cli.lecture, "run", run)
    done = call("lecture", "--only", "logits", "--precision", name, "--json", str(results))
    assert done.exit_code == 0, done.output
    assert f"precision: {name} ({meaning})" in done.output and kinds == [dtype]
    assert max(map(len, done.output.splitlines())) <= 80
    assert json.loads(results.read_text())[0]["precision"] == name


def test_a_missed_figure_is_marked_and_makes_the_exit_status_1(tmp_path, monkeypatch):
    short = dataclasses.replace(lecture.EXPERIMENTS["three_class"], epochs=10)
    monkeypatch.setitem(lecture.EXPERIMENTS, "three_class", short)
    results = tmp_path / "results.json"
    done = call("lecture", "--only", "three_class", "--json", str(results))
    assert done.exit_code == 1, done.output
    assert "✗ torch " in done.output and "was not reproduced" in done.output
    assert json.loads(results.read_text())[0]["reports"][-1]["epoch"] == 10


@pytest.mark.parametrize("seed", [jax.random.key(0), jaxnet.random.manual_seed(0, "cuda")])
def test_a_row_on_other_random_numbers_fails(seed, monkeypatch):
    """Without a figure to miss: the row says whose numbers it used."""
    other = dataclasses.replace(lecture.EXPERIMENTS["logits"], seed=seed)
    monkeypatch.setitem(lecture.EXPERIMENTS, "logits", other)
    done = call("lecture", "--only", "logits")
    assert done.exit_code == 1, done.output
    assert re.search("(jax|torch cuda) ✗", done.output)


def test_show_draws_digits(tmp_path):
    out = tmp_path / "new" / "digits.png"
    done = call("show", "--out", str(out), "--classes", "20")
    assert done.exit_code == 0 and str(out) in done.output
    assert out.read_bytes().startswith(PNG)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lecture", "--only", "full_bach"], "'full_bach' is not one of 'full_batch'"),
        (["lecture", "--onyl", "logits"], "No such option '--onyl'"),
        (["lecture", "--device", "tpu"], "'tpu' is not one of 'cpu', 'gpu'"),
        (
            ["lecture", "--precision", "double"],
            "'double' is not one of 'parity', 'fast', 'float64'",
        ),
        (["doctor", "--json", ""], "the name of the file to write is empty"),
        (["lecture", "--root", "no/such/folder"], "'no/such/folder' does not exist"),
        (["lecture", "--figures", __file__], "is a file"),
        (["show", "--classes", "0x"], "--classes must be digits together, such as 01, not '0x'"),
        (["show", "--classes", "00"], "classes"),
        (["show", "--classes", "³"], "--classes must be digits"),
        (["lecture", "--json", ""], "the name of the file to write is empty"),
        (["sing"], "No such command 'sing'"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_status_2(arguments, message):
    done = call(*arguments)
    assert done.exit_code == 2, done.output
    assert message in " ".join(done.output.split())
    assert "Traceback" not in done.output


def test_no_gpu_is_said(monkeypatch):
    def devices(name=None):
        if name == "gpu":
            raise RuntimeError("Unknown backend gpu")
        return jax_devices(name)

    jax_devices = jax.devices
    monkeypatch.setattr(jax, "devices", devices)
    done = call("lecture", "--device", "gpu", "--only", "logits")
    assert done.exit_code == 2
    assert "--device must be one that JAX finds here (cpu), not gpu" in done.output


def test_digits_that_cannot_be_had_are_said(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in ("torchvision", "torchvision.datasets"):
        monkeypatch.setitem(sys.modules, name, None)
    done = call("show", "--classes", "3", "--out", str(tmp_path / "digits.png"))
    assert done.exit_code == 2, done.output
    assert "pip install" in " ".join(done.output.split())
    assert not (tmp_path / "digits.png").exists()


def test_a_fault_of_our_own_is_not_called_bad_input(monkeypatch):
    monkeypatch.setattr(jaxnet.cli.lecture, "run", lambda *_, **__: int("a bug"))
    done = call("lecture", "--only", "logits")
    assert done.exit_code == 1 and isinstance(done.exception, ValueError)


def test_json_goes_to_what_is_there_already(tmp_path):
    """A link stays a link, and a file keeps its permissions' default."""
    target = tmp_path / "target.json"
    target.write_text("old")
    link = tmp_path / "link.json"
    link.symlink_to(target)
    assert call("lecture", "--only", "logits", "--json", str(link)).exit_code == 0
    assert link.is_symlink() and json.loads(target.read_text())[0]["experiment"] == "logits"
    assert call("lecture", "--only", "logits", "--json", os.devnull).exit_code == 0
    assert not os.path.isfile(os.devnull)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.json", "target.json"]


def test_a_folder_without_the_files_is_said(tmp_path):
    done = call("lecture", "--only", "logits", "--root", str(tmp_path))
    assert done.exit_code == 2 and "train-images-idx3-ubyte" in " ".join(done.output.split())


def test_python_m_jaxnet_is_the_same_command():
    done = subprocess.run(
        [sys.executable, "-m", "jaxnet", "--version"], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert done.stdout.split() == ["jaxnet,", "version", jaxnet.__version__]
