"""The folder of a sweep: what is damaged, another sweep's, or no sweep at all."""

import functools
import os
from pathlib import Path
from typing import Any

import jax
import pytest

from jaxnet import optim
from jaxnet._utils.files import write_whole
from jaxnet._utils.locks import LOCK
from jaxnet.sweep import Progress, _folder
from tests.test_sweeps import resumed
from tests.tiny import HELD, LOSS, X, Y


def test_a_folder_of_half_a_file_is_as_good_as_empty(tmp_path):
    """A sweep that was killed while it wrote its very first file, which was locked. Nobody's files
    are deleted."""
    (tmp_path / "mine.part").write_text("{")
    (tmp_path / LOCK).write_text("process 1 on another since 1970")
    assert resumed(tmp_path).to_csv() == resumed(tmp_path, resume=True).to_csv()
    assert not (tmp_path / LOCK).exists()
    assert (tmp_path / "mine.part").read_text() == "{"
    assert os.fspath(tmp_path) not in (tmp_path / "sweep.json").read_text(), "is the machine's own"


def test_a_sweep_that_starts_in_the_folder_of_another_is_told(tmp_path):
    def begin_another(seen):
        with pytest.raises(BlockingIOError, match=f"in use by process {os.getpid()} on"):
            resumed(tmp_path, resume=True)

    found = resumed(tmp_path, hooks=[begin_another])
    assert found.to_csv() == resumed(tmp_path, resume=True).to_csv()


def test_another_jax_is_named_where_a_sweep_is_resumed(tmp_path, monkeypatch):
    resumed(tmp_path)
    here = jax.__version__
    monkeypatch.setattr(jax, "__version__", "0.99")
    with pytest.warns(UserWarning, match=f"was written with jax {here} and now 0.99"):
        assert not resumed(tmp_path, resume=True).group_sizes
    with pytest.raises(ValueError, match="another sweep: optimizer.lr was nothing, not 0.2"):
        resumed(tmp_path, resume=True, optimizer=functools.partial(optim.sgd, lr=0.2))


def fill_disk(monkeypatch, groups: int) -> None:
    """After so many groups, whichever come first, no file of a group can be written."""
    written = []

    def write(path: Path, content: Any, **options: Any) -> None:
        if path.stem.startswith("group"):
            if len(written) == groups:
                raise OSError(28, "No space left on device", str(path))
            written.append(path)
        write_whole(path, content, **options)

    monkeypatch.setattr(_folder, "write_whole", write)


def test_a_disk_that_fills_up_ends_no_sweep(tmp_path, monkeypatch):
    seen: list[Progress] = []
    with monkeypatch.context() as patch, pytest.warns(UserWarning, match="not all .*No space left"):
        fill_disk(patch, 1)
        found = resumed(tmp_path, hooks=[seen.append])
    assert len(found.table) == 24 and not seen[0].failure
    assert "not all of the sweep could be saved: " in str(seen[-1].failure)
    again = resumed(tmp_path, resume=True)
    assert again.to_csv() == found.to_csv() == (tmp_path / "lanes.csv").read_text()
    assert again.group_sizes, "what could not be saved is computed again"


def test_a_damaged_group_is_named_and_computed_again(tmp_path):
    found = resumed(tmp_path)
    first, second, *_ = sorted(tmp_path.glob("group-*.safetensors"))
    content = bytearray(first.read_bytes())
    content[len(content) // 2] ^= 1
    first.write_bytes(content)
    second.write_bytes(second.read_bytes()[:100])
    with pytest.warns(UserWarning, match="is damaged and its lanes are computed again") as said:
        again = resumed(tmp_path, resume=True)
    assert {name in str([w.message for w in said]) for name in (first.name, second.name)} == {True}
    assert again.to_csv() == found.to_csv() and again.group_sizes


def other_loss(outputs, y):
    return LOSS(outputs, y) + 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"epochs": 3}, "epochs was 2, not 3"),
        ({"seeds": range(13)}, r"seeds was \[0, 1,"),
        ({"data": (X + 1, Y)}, "data.0 was float32"),
        ({"grid": {"lr": [0.1, 0.3]}}, "another sweep: grid.1.lr was 0.2, not 0.3$"),
        (
            {"loss": other_loss},
            "loss was jaxnet.binary.*, not tests.*.other_loss$",
        ),
        ({"optimizer": optim.adam}, "another sweep: optimizer was jaxnet.sgd, not jaxnet.adam$"),
        ({"test": HELD}, "test was None"),
    ],
)
def test_the_folder_of_another_sweep_is_rejected(changes, said, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp() / "one-sweep"
    if not folder.exists():
        resumed(folder)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ValueError, match=said):
        resumed(folder, resume=True, **changes)
    with pytest.raises(FileExistsError, match="holds files"):
        resumed(folder, **changes)
    assert before == {path: path.read_bytes() for path in folder.iterdir()}


def test_a_folder_of_other_things_is_rejected(tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(FileExistsError, match="no sweep to resume"):
        resumed(tmp_path, resume=True)
    with pytest.raises(FileExistsError, match="is a file"):
        resumed(tmp_path / "letter.txt")
    (tmp_path / "sweep.json").write_text("{")
    with pytest.raises(ValueError, match=r"sweep\.json is damaged"):
        resumed(tmp_path, resume=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["letter.txt", "sweep.json"]
