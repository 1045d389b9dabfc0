"""The benchmarks run in a small size, show no time where sides disagree, and fill the pages."""

import json
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from click.testing import CliRunner

import benchmarks.__main__
from benchmarks import contest, growth, memory, processes, readme, runs
from benchmarks.__main__ import main
from benchmarks.peers import contestants, floor
from benchmarks.peers.floor import measure_peak
from benchmarks.tables import LAYOUTS, list_tables
from benchmarks.task import Contestant, Task, Trained
from benchmarks.timing import interleave
from jaxnet.data import load_mnist
from tests.integration import run_python

KEPT = json.loads(readme.RESULTS.read_text(encoding="utf-8"))
LIGHT = ["jaxnet.fit", "torch, sliced by hand", "NumPy, backward by hand", contest.NAMES[-1]]


@pytest.fixture(scope="module")
def task() -> Task:
    """Two epochs of 330 rows, both digits in every batch, the last of 10."""
    train, _ = load_mnist((0, 1))
    mixed = np.random.default_rng(0).permutation(len(train.labels))[:330]
    return contest.make_task(train._replace(images=train.images[mixed], labels=train.labels[mixed]))


def run(*options: str) -> Any:
    return CliRunner().invoke(main, list(options))


def measure(folder: Path, *options: str) -> Any:
    """What is written of these parts, as they agree."""
    path = folder / "new" / "results.json"
    done = run(*options, "--rounds", "1", "--json", str(path), "--figures", str(folder))
    assert done.exit_code == 0, done.output
    return json.loads(path.read_text())


def test_peers_are_told_with_what_they_compute(tmp_path):
    results = measure(tmp_path, *(word for name in LIGHT for word in ("--peers", name)))
    assert [row["name"] for row in results["peers"]] == LIGHT
    assert all(row["agree"] and len(row["seconds"]) == 3 for row in results["peers"])
    assert results["peers"][0]["ratio"] == 1.0 and results["peers"][0]["loss_gap"] <= 1e-6
    assert results["machine"]["cores"] >= 1 and results["machine"]["versions"]["torch"]
    assert (tmp_path / "peers.png").stat().st_size > 10_000


# Those that compile for half a minute are tests/slow's.
QUICK = [form for form in contestants() if form.name not in contest.SLOW_TO_COMPILE]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("form", QUICK, ids=lambda form: form.name)
def test_every_contestant_trains_the_same_net(form, task):
    """Without dropout the losses and weights of all are torch's, whatever their streams."""
    for found in judge_runs(form, task):
        assert found["agree"], found


def judge_runs(form: Contestant, task: Task) -> list[dict[str, Any]]:
    """How far two runs of a contestant, each from the beginning, are from torch's."""
    plain = task._replace(p=0.0)
    reference = contest.train_once(contest.LECTURE, plain)
    with jax.numpy_rank_promotion("allow"):  # Keras and others do as they like
        train, read = form.prepare(plain)
        return [contest.judge("none", read(train()), reference, plain) for _ in range(2)]


@pytest.mark.parametrize("stream", ["torch", "none", "own"])
def test_a_contestant_that_is_wrong_is_not_timed(stream, task, monkeypatch):
    """Weights a tenth too large and losses that show it."""

    def prepare(task):
        train, read = contest.LECTURE.prepare(task._replace(p=0.0 if stream == "none" else task.p))

        def read_wrongly(trained):
            params, losses = read(trained)
            assert losses is not None
            wrong = {name: 1.1 * value for name, value in params.items()}
            return Trained(wrong, losses * 1.01)

        return train, read_wrongly

    wrong = Contestant("wrong", "fast", prepare, stream=stream)
    ours = contestants()[0]
    monkeypatch.setattr(contest, "contestants", lambda: [ours, wrong])
    mine, row = contest.compare_peers(task, 1)
    assert mine["agree"] and not row["agree"] and not row["seconds"]
    monkeypatch.setattr(benchmarks.__main__, "compare_peers", lambda *_: [mine, row])
    done = run("--only", "peers")
    assert done.exit_code == 1 and "DIFFER" in done.output


def test_peers_whose_packages_are_absent_say_so():
    """In an interpreter that finds none of them."""
    code = """
import sys
for name in ("torch", "equinox", "keras", "sklearn"):
    sys.modules[name] = None
from benchmarks.peers import contestants
from benchmarks.task import Missing, Task
import numpy as np
task = Task(np.zeros((4, 784), np.float32), np.zeros((4, 1), np.float32), {})
for contestant in contestants():
    if contestant.name.startswith(("torch", "Equinox", "Keras", "scikit-learn")):
        try:
            contestant.prepare(task)
        except Missing as missing:
            print(missing)
"""
    said = run_python("-c", code)
    assert said.count("is not installed: pip install '.[bench]'") == 10, said
    absent = KEPT["peers"][0] | {"missing": said.partition("\n")[0]}
    cells = [*list_tables(KEPT | {"peers": [absent]})["peers"].columns[4].cells]
    assert cells == [absent["missing"]]


def test_an_experiment_agrees_and_is_written(tmp_path):
    (row,) = measure(tmp_path, "--only", "logits")["experiments"]
    assert row["agree"] and row["accuracies_torch"] == row["accuracies_jaxnet"]
    assert row["ratio"] == row["seconds_torch"][0] / row["seconds_jaxnet"][0]


def test_growth_is_of_the_same_runs(monkeypatch, tmp_path):
    sweep = [growth.Setting(rows=100, batch_size=32, width=8, depth=depth) for depth in (1, 2)]
    monkeypatch.setattr(growth, "SWEEPS", {"depth": sweep})
    rows = measure(tmp_path, "--only", "growth")["growth"]
    assert [row["size"] for row in rows] == [1, 2]
    assert all(row["agree"] and row["loss_gap"] < 1e-5 for row in rows)
    assert (tmp_path / "growth.png").stat().st_size > 10_000


@pytest.mark.parametrize("rate, agrees", [(1.0, True), (1.01, False)])
def test_growth_sees_a_gradient_that_is_a_hundredth_too_large(rate, agrees, task, monkeypatch):
    """One step of all rows, whose loss alone would show nothing."""
    sgd = growth.jaxnet.optim.sgd
    monkeypatch.setattr(growth.jaxnet.optim, "sgd", lambda lr: sgd(lr * rate))
    row = growth.compare_setting(growth.Setting(rows=330, batch_size=330), task.x, task.y, 1)
    assert row["loss_gap"] < 1e-6 and row["agree"] == agrees


def test_runs_in_another_way_are_the_same_runs():
    """A sweep's lanes, a saved run, rows that are read: briefly."""
    train, test = load_mnist((0, 1))
    few = train._replace(images=train.images[:64], labels=train.labels[:64])
    lane = runs.compare_lanes((few, test), 2, lanes=3)
    saved = runs.compare_saving("minibatch", few, 1, seconds=0.05)
    read = runs.compare_streaming(few, 1, (16,))
    assert [row["run"].partition(",")[0] for row in read] == ["memmap", "MapDataset"]
    for row in (lane, saved, *read):
        assert row["agree"] and row["loss_gap"] <= 1e-6, row
    assert len(lane["seconds"]) == len(lane["seconds_other"]) == 2 and saved["loss_gap"] == 0


def test_runs_that_differ_do_not_agree():
    row = runs.compare(
        "one", "other", lambda: (np.ones(2), 1.0), lambda: (np.array([1, 1.1]), 2.0), 1, 1e-6
    )
    assert not row["agree"] and (row["seconds"], row["seconds_other"]) == ([1.0], [2.0])


def test_memory_is_of_a_process_of_its_own(task):
    torch, jaxnet, *_ = memory.compare_memory(task._replace(batch_size=110))
    for row in (torch, jaxnet):
        assert row["agree"] and row["imported"] <= row["loaded"] <= row["peak"]
        assert row["data"] == (task.x.nbytes + task.y.nbytes) / 2**20
    assert jaxnet["imported"] < torch["imported"]


def test_the_script_of_the_lecture_ends_where_the_command_line_does(tmp_path):
    digits = tmp_path / "digits.npz"
    processes.write_digits(digits)
    said = run_python(str(processes.SCRIPT), str(digits))
    assert processes.find_accuracies(said) == [".9886", ".9953"]


def test_turns_are_taken_by_all():
    order: list[str] = []

    def note(name):
        order.append(name)
        return float(len(order))

    calls = {name: lambda name=name: note(name) for name in "abc"}
    seconds = interleave(calls, 3, warm=True)
    assert order == list("abcbcacab") and seconds["a"] == [1.0, 6.0, 8.0]
    interleave(calls, 0)
    assert order[-3:] == list("abc")


def test_the_pages_show_the_results_that_are_kept():
    pages = [page.read_text(encoding="utf-8") for page in readme.PAGES]
    for text in pages:
        assert readme.fill(text, KEPT) == text, "python -m benchmarks.readme"
        assert len(re.findall("<!-- benchmark: ", text)) == text.count("<!-- end -->") >= 3
    assert all(row["agree"] is not False for part in LAYOUTS for row in KEPT[part])
    with pytest.raises(ValueError, match="'peers', which the results do not hold"):
        readme.fill(pages[0], {key: value for key, value in KEPT.items() if key != "peers"})
    for text, pictures in zip(pages, (("peers", "growth"), ("scaling",)), strict=True):
        for picture in pictures:
            assert f"gallery/{picture}.png" in text and (readme.GALLERY / f"{picture}.png").exists()


@pytest.mark.parametrize("part", LAYOUTS)
def test_rows_that_disagree_show_no_time(part):
    """And the others show all."""
    right = list_tables(KEPT)[part]
    wrong = list_tables(KEPT | {part: [row | {"agree": False} for row in KEPT[part]]})[part]
    first = len(LAYOUTS[part].words) + len(LAYOUTS[part].numbers)
    last = first + len(LAYOUTS[part].timed)
    cells = [[*column.cells] for column in wrong.columns]
    assert set(cells[first]) == {"DIFFER"} and not any(map(any, cells[first + 1 : last]))
    assert all(all(column.cells) for column in right.columns[first : first + 1])
    for shown, same in zip(cells[:first] + cells[last:], right.columns, strict=False):
        assert len(shown) == len([*same.cells]) == right.row_count


TARGETS = {  # by gcc's name: what a processor must have to run it, of /proc/cpuinfo
    "x86-64": set(),
    "haswell": {"avx2", "fma", "bmi1", "bmi2", "movbe"},
    "skylake-avx512": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
}


def read_features() -> set[str]:
    """What this processor can, by its names in /proc/cpuinfo."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return set(next(line for line in lines if line.startswith("flags")).split())


@pytest.fixture(scope="module")
def thirteen(task) -> tuple[Task, Any]:
    """Batches of 13 rows, the last of 5, and torch's run: every target has blocks of all sizes.

    Every pixel has a value, so that every weight changes: the digits' edges are empty.
    """
    x = np.random.default_rng(0).random(task.x.shape, np.float32)
    plain = task._replace(x=x, p=0.0, batch_size=13)
    return plain, contest.train_once(contest.LECTURE, plain)


@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="x86's targets")
@pytest.mark.parametrize("target", TARGETS)
def test_the_floor_trains_in_vectors_of_every_width(target, thirteen, monkeypatch):
    """Of 4, 8 and 16 floats: each compiles without a warning, and trains where it can run."""
    accepts = [floor.COMPILER, f"-march={target}", "-E", "-x", "c", "/dev/null"]
    if subprocess.run(accepts, capture_output=True).returncode:
        pytest.skip(f"{floor.COMPILER} knows no {target}")
    library = floor.load_library(f"-march={target}", "-Wall", "-Wextra", "-Werror")
    if not TARGETS[target] <= read_features():
        pytest.skip(f"it compiles, and this processor runs no {target}")
    monkeypatch.setattr(floor, "load_library", lambda: library)
    assert 1 < measure_peak(tries=1) < 1000
    plain, reference = thirteen
    train, read = floor.prepare_floor(plain)
    found = contest.judge("none", read(train()), reference, plain)
    assert found["agree"], found


def test_more_than_all_of_a_peak_is_an_error(monkeypatch, tmp_path):
    """No row says "717% of peak": the run ends in an error, its results kept to look at."""
    path = tmp_path / "results.json"
    row = KEPT["experiments"][0]
    monkeypatch.setattr(benchmarks.__main__, "compare", lambda *_: row)
    monkeypatch.setattr(benchmarks.__main__, "_find_peak", lambda: 0.5)
    done = run("--only", row["experiment"], "--rounds", "1", "--json", str(path))
    assert done.exit_code == 1 and "nothing can reach more than all of it" in done.output
    assert f"{row['ratio']:.2f}" not in done.output and path.exists()
