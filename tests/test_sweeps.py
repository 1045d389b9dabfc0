"""A sweep's lanes are solo runs, and so torch's; what is written, resumed, drawn, rejected."""

import csv
import re
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch
from click.testing import CliRunner

import jaxnet
import jaxnet.lecture.cli
import jaxnet.lecture.cli.sweep
import torchref.lecture
from jaxnet import nn, optim
from jaxnet.callbacks import Report
from jaxnet.certificate.bounds import SMALL_LOSSES, TRAJECTORY
from jaxnet.data import DataLoader, load_mnist
from jaxnet.lecture import EXPERIMENTS
from jaxnet.lecture.figures.sweep import draw_sweep
from jaxnet.sweep import Sweep, _programs, answer
from tests.helpers import assert_close, assert_same_bits, assert_same_state, each_row
from tests.tiny import ACCURACY, HELD, LINEAR, LOSS, NET, ROWS, X, Y

PLAIN = nn.Sequential([nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 1)])
SGD = optim.sgd()
SEEDS = [5, 0, 2**40 + 3, -1]


def sweep(**changes: Any) -> Sweep:
    arguments: dict[str, Any] = {"loss": LOSS, "optimizer": optim.sgd, "epochs": 3, "seeds": SEEDS}
    data, net = changes.pop("data", (X, Y)), changes.pop("net", NET)
    return jaxnet.run_sweep(net, data, **(arguments | changes))


def assert_lane_is(found: Sweep, lane: int, net: Any = NET, **options: Any) -> None:
    """The lane is what `fit` gives: the stream to the last byte, floats within rounding."""
    data, names = options.pop("data", (X, Y)), ("report_every", "metrics", "report_loader")
    every, metrics, loader = (options.pop(name, None) for name in names)
    if every is not None:
        options["callbacks"] = [Report(every, metrics, bool(loader))]
    state, history = jaxnet.fit(net, data, **({"loss": LOSS, "epochs": 3} | options))
    mine = found.state(lane)
    where = f"lane {lane}"
    generators = (jaxnet.random.get_state(side.generator) for side in (mine, state))
    assert_same_bits(*generators, where=where)
    assert_close(found.losses[lane], history.losses, SMALL_LOSSES, where=where)
    assert int(mine.step) == int(state.step)
    assert jax.tree.structure(mine) == jax.tree.structure(state)
    for one, other in zip(jax.tree.leaves(mine.params), jax.tree.leaves(state.params), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6, err_msg=where)
    for place, report in enumerate(history.reports):
        assert found.reports["epoch"][place] == report.epoch
        for name, value in report.metrics.items():
            assert found.reports[name][lane, place] == pytest.approx(value, rel=1e-6)
    row = found.table[lane]
    assert row["lane"] == lane and row["loss"] == found.losses[lane, -1]
    for part, rows in (("train", data), ("test", HELD)):
        if f"{part}_accuracy" in row:
            expected = jaxnet.evaluate(net, state, rows, metrics=ACCURACY)["accuracy"]
            assert row[f"{part}_accuracy"] == expected


def one_group(monkeypatch, width: int = 1) -> None:
    """All lanes of a program in one group: a core alone computes, so many of them side by side."""
    monkeypatch.setattr(_programs, "_count_workers", lambda: 1)
    monkeypatch.setattr(_programs, "_find_width", lambda: (width, max(width, _programs._GROUP)))


@pytest.mark.parametrize("shuffle, width", [(True, 4)])
def test_a_lane_is_the_solo_run_of_its_seed(shuffle, width, monkeypatch):
    """With minibatches, a short last one, masks and reports; side by side, in turn in the slow
    tier, as the sweeps below are."""
    one_group(monkeypatch, width)
    options: dict[str, Any] = {"batch_size": 8, "shuffle": shuffle, "metrics": ACCURACY}
    options |= {"report_every": 2, "report_loader": True}
    found = sweep(test=HELD, **options)
    for lane, seed in enumerate(SEEDS):
        assert found.table[lane]["seed"] == seed
        assert_lane_is(found, lane, optimizer=SGD, seed=seed, **options)
    assert len(set(found.losses[:, 0].tolist())) == len(SEEDS), "seeds differ"
    assert found.reports["accuracy"].shape == (4, 1)


def test_a_grid_of_rates_and_dropouts_is_the_solo_runs(monkeypatch):
    """Every row at once; p = 0 draws no masks, and a Dropout in a nested net has p too."""
    one_group(monkeypatch)
    net = nn.Sequential([nn.Sequential([nn.Dropout(0.4), nn.Linear(6, 8)]), nn.Linear(8, 1)])
    grid = {"lr": [0.1, 0.001], "p": [0.0, 0.25]}
    found = sweep(net=net, seeds=[3, 4], grid=grid)
    assert [(row["lr"], row["p"], row["seed"]) for row in found.table] == [
        (lr, p, seed) for lr in (0.1, 0.001) for p in (0.0, 0.25) for seed in (3, 4)
    ]
    for lane in (1, 6):  # each p, rate and seed
        row = found.table[lane]
        inner = nn.Sequential([nn.Dropout(row["p"]), nn.Linear(6, 8)])
        solo = nn.Sequential([inner, nn.Linear(8, 1)])
        assert_lane_is(found, lane, solo, optimizer=optim.sgd(row["lr"]), seed=row["seed"])
    assert found.group_sizes == (4, 4), "a program for each p; lr is an input"


def test_a_function_makes_the_net():
    def make(width, p=0.3):
        return nn.Sequential([nn.Linear(6, width), nn.Dropout(p), nn.Linear(width, 1)])

    found = sweep(net=make, grid={"width": [5], "p": [0.5]}, seeds=[1])
    assert_lane_is(found, 0, make(5, 0.5), optimizer=SGD, seed=1)


def test_a_loader_and_a_precision_are_those_of_fit():
    loader = DataLoader((X, Y), 8, shuffle=True, drop_last=True)
    loader = loader._replace(generator=jaxnet.random.manual_seed(5))
    found = sweep(data=loader, net=LINEAR, seeds=[1, 2])
    options: dict[str, Any] = {"loss": LOSS, "epochs": 3}
    _, history = jaxnet.fit(LINEAR, loader, optimizer=optim.sgd(), seed=2, **options)
    assert_close(found.losses[1], history.losses, SMALL_LOSSES)
    wide = sweep(net=LINEAR, precision="float64", seeds=[1], grid={"lr": [0.1]})
    options |= {"optimizer": optim.sgd(0.1), "seed": 1, "precision": "float64"}
    _, history = jaxnet.fit(LINEAR, (X, Y), **options)
    assert wide.losses.dtype == np.float64
    np.testing.assert_allclose(wide.losses[0], history.losses, rtol=1e-13)


def few_digits(rows: int) -> Any:
    order = np.random.default_rng(1).permutation(10_000)[:rows]
    train, test = load_mnist((0, 1))
    return tuple(
        part._replace(images=part.images[cut], labels=part.labels[cut])
        for part, cut in ((train, order), (test, order[order < 2000]))
    )


def test_a_lane_is_torchs_run(monkeypatch, lane=7):
    """The lecture's `minibatch`, in its own loop, from another seed: every loss, every report, what
    is right at the end, and the stream afterwards."""
    data, seen = few_digits(200), []
    found = jaxnet.lecture.cli.sweep.run_experiment(EXPERIMENTS["minibatch"], data, range(100, 112))
    manual_seed = torch.manual_seed
    monkeypatch.setattr(torch, "manual_seed", lambda _: manual_seed(100 + lane))
    record, _ = torchref.lecture.run(
        "minibatch", data, watch=lambda net, output, loss: seen.append(loss.item())
    )
    assert_close(found.losses[lane].astype(float), np.array(seen), TRAJECTORY)
    assert_same_state(found.state(lane).generator)
    for part in ("train_accuracy", "test_accuracy"):
        assert found.table[lane][part] == record[part]
    reports = [report["accuracy"] for report in record["reports"]]
    np.testing.assert_allclose(found.reports["accuracy"][lane], reports, rtol=1e-12)


def test_the_size_of_a_group_is_found_from_what_one_lane_needs(monkeypatch):
    """XLA's own figure for one lane, divided into the memory; two programs are compiled at most."""
    one_group(monkeypatch, 40)
    compiled: list[tuple[int, int]] = []
    compile_group = _programs._compile

    def note(program, task, arrays, size, width, mesh):
        group = compile_group(program, task, arrays, size, width, mesh)
        compiled.append((size, group.bytes))
        return group

    monkeypatch.setattr(_programs, "_compile", note)
    options: dict[str, Any] = {"net": LINEAR, "seeds": range(40)}
    whole = sweep(**options)
    (one, needs), (size, together) = compiled
    assert (one, size, whole.group_sizes) == (1, 40, (40,)) and needs < together
    for lanes, groups in ((7, 6), (39, 2)):
        compiled.clear()
        found = sweep(memory=lanes * needs + needs // 2, **options)
        assert found.group_sizes == (-(-40 // groups),), "groups as even as can be"
        assert all(need <= lanes * needs for _, need in compiled), "what was divided is enough"
        np.testing.assert_allclose(found.losses, whole.losses, rtol=SMALL_LOSSES.rtol)
    message = f"memory is {needs - 1} bytes, but one lane needs {needs}"
    with pytest.raises(ValueError, match=message):
        sweep(memory=needs - 1, **options)


def test_the_budget_is_a_share_of_what_is_free():
    with open("/proc/meminfo", encoding="ascii") as file:
        (free,) = [int(line.split()[1]) for line in file if line.startswith("MemAvailable")]
    assert _programs.find_budget() == pytest.approx(_programs.SHARE * 1024 * free, rel=0.2)


def test_a_lane_that_becomes_nan_disturbs_no_other(tmp_path, monkeypatch):
    one_group(monkeypatch, 4)
    grid = {"lr": [0.1, 1e38]}
    options: dict[str, Any] = {"net": PLAIN, "test": HELD}
    found = sweep(grid=grid, seeds=[1, 2], metrics=ACCURACY, **options)
    assert np.isnan([row["loss"] for row in found.table]).tolist() == [False, False, True, True]
    assert found.group_sizes == (4,)
    assert_lane_is(found, 1, PLAIN, optimizer=optim.sgd(0.1), seed=2)
    assert found.to_csv().splitlines()[3].split(",")[3] == "nan"
    assert "2 ended in nan" in answer([0.9, np.nan, np.nan], 0.9)
    assert len(draw_sweep(found, tmp_path, "test_accuracy", 0.9)) == 2


def test_the_table_is_csv_and_the_states_are_resumed_by_fit(tmp_path):
    found = sweep(net=LINEAR, grid={"lr": [0.1]}, metrics=ACCURACY, test=HELD)
    found.to_csv(tmp_path / "it.csv")
    with open(tmp_path / "it.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["lane", "seed", "lr", "loss", "train_accuracy", "test_accuracy"]
    for row, same in zip(rows, found.table, strict=True):
        assert {name: float(value) for name, value in row.items()} == same
    options: dict[str, Any] = {"loss": LOSS, "optimizer": optim.sgd(0.1)}
    _, last = jaxnet.fit(LINEAR, (X, Y), epochs=2, state=found.state(1), **options)
    _, whole = jaxnet.fit(LINEAR, (X, Y), epochs=5, seed=SEEDS[1], **options)
    assert_close(last.losses, whole.losses[3:], SMALL_LOSSES)
    assert jaxnet.predict(LINEAR, found.state(0), X).shape == (ROWS, 1)


def resumed(directory: Path, **options: Any) -> Sweep:
    grid = {"lr": [0.1, 0.2]}
    what: dict[str, Any] = {"net": PLAIN, "epochs": 2, "seeds": range(12), "grid": grid}
    return sweep(directory=directory, **(what | options))


@each_row(
    "values, figure, said",
    [
        ([0.99] * 41 + [0.97] * 23, 0.99, r"41 of 64 seeds reach .9900 .*\(median .9900,.*: no\."),
        ([0.97] * 99 + [0.99], 0.98, "Was .9800 luck[?] 1 of 100 seeds .*: yes."),
        ([0.99] * 99 + [0.97], 0.98, "99 of 100 seeds .*: no, rather bad luck."),
        ([0.97] * 5, 0.98, "0 of 5 seeds .*: 5 are too few to tell."),
        ([0.98596], 0.986, "1 of 1 seeds reach"),  # to four places, as it was published
        ([np.nan] * 30, 0.98, "0 of 30 seeds .*30 ended in nan.*: yes."),
    ],
)
def test_the_plain_answer(values, figure, said):
    assert re.search(said, answer(values, figure)), answer(values, figure)


def call(*arguments: str):
    return CliRunner().invoke(jaxnet.lecture.cli.main, ["sweep", *arguments], prog_name="jaxnet")


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(jaxnet.lecture.cli.sweep, "load_mnist", lambda *_: few_digits(200))


def test_the_figure_asked_about_is_the_published_one_or_the_own_seeds(few):
    done = call("full_batch", "--seeds", "1:4", "--epochs", "3")
    assert done.exit_code == 0 and "is what the lecture's own seed, 1, gives" in done.output
    data, command = few_digits(200), jaxnet.lecture.cli.sweep
    expected = {"full_batch": ("test_accuracy", 0.9986), "three_class": ("train_accuracy", 0.9827)}
    for name, figure in expected.items():
        assert command.find_figure(EXPERIMENTS[name], data)[:2] == figure
