"""What several devices send is read from the program; the model of what it costs is its formula."""

import math
from pathlib import Path
from typing import Any

import pytest

from benchmarks import scaling
from benchmarks.collectives import Collective, count_bytes, count_runs, list_collectives
from benchmarks.figures import draw_scaling
from benchmarks.scaling import (
    ALONE,
    DEVICES,
    H100,
    LECTURE,
    MASK,
    MASKS,
    PLAIN,
    V5P,
    VECTORS,
    WIDE,
    Case,
    Link,
    Model,
    Work,
)
from benchmarks.scaling_tables import list_scaling, say_scaling
from benchmarks.scaling_worker import start_workers

HLO = """HloModule jit_run, entry_computation_layout={(f32[4]{0})->f32[4]{0}}

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%step.1 (carry: (s32[], f32[32,784])) -> (s32[], f32[32,784]) {
  %carry = (s32[], f32[32,784]{1,0}) parameter(0)
  %weights = f32[32,784]{1,0} get-tuple-element(%carry), index=1
  %loss = f32[] constant(0)
  %kept = pred[16,8]{1,0} constant({...})
  %half = bf16[3]{0} constant({...})
  %all-reduce.2 = (f32[32,784]{1,0}, /*index=1*/f32[]) all-reduce(%weights, /*index=1*/%loss), to_apply=%add
  %all-gather-start = (pred[16,8]{1,0}, pred[64,8]{1,0}) all-gather-start(%kept), dimensions={0}
  %all-gather-done = pred[64,8]{1,0} all-gather-done(%all-gather-start)
  %unlike = bf16[3]{0} conditional(%loss), branch_computations={%there, %not.there}
  ROOT %next = (s32[], f32[32,784]{1,0}) tuple(%half, %weights)
}

%there (half: bf16[3]) -> bf16[3] {
  %half.1 = bf16[3]{0} parameter(0)
  ROOT %permuted = bf16[3]{0} collective-permute(%half.1), source_target_pairs={{0,1}}
}

%not.there (half.2: bf16[3]) -> bf16[3] {
  ROOT %half.2 = bf16[3]{0} parameter(0)
}

%epoch (state: (s32[], f32[32,784])) -> (s32[], f32[32,784]) {
  %state = (s32[], f32[32,784]{1,0}) parameter(0)
  ROOT %steps = (s32[], f32[32,784]{1,0}) while(%state), condition=%c, body=%step.1, backend_config={"known_trip_count":{"n":"791"}}
}

ENTRY %main (x: f32[4]) -> f32[4] {
  %x = f32[4]{0} parameter(0)
  %begin = (s32[], f32[32,784]{1,0}) tuple(%x, %x)
  %epochs = (s32[], f32[32,784]{1,0}) while(%begin), condition=%c, body=%epoch
  ROOT %last = f32[4]{0} reduce-scatter(%x), dimensions={0}, to_apply=%add
}
"""  # noqa: E501


def test_collectives_are_found_in_the_loops_that_they_stand_in():
    found = list_collectives(HLO)
    assert found == [
        Collective("all-reduce", 2, 4 * (32 * 784 + 1), (None, 791)),
        Collective("all-gather", 1, 16 * 8, (None, 791)),
        Collective("collective-permute", 1, 2 * 3, (None, 791)),
        Collective("reduce-scatter", 1, 16, ()),
    ]
    assert count_runs(found) == 3 * 791 + 1 and count_runs(found, times=2) == 6 * 791 + 1
    assert count_bytes(found) == 791 * (4 * 25_089 + 128 + 6) + 16
    with pytest.raises(ValueError, match="ENTRY"):
        list_collectives("no module")


@pytest.fixture(scope="module")
def told() -> dict[str, dict[str, Any]]:
    """What four devices compile for three batches of the lecture's net, and spread weights."""
    narrow = WIDE._replace(widths=(784, 8, 8, 10))
    cases = {
        "lecture": Case(LECTURE, 16, 12_665),
        "whole": Case(LECTURE, 30, 60),
        "all rows": Case(LECTURE, 64, 64),
        "spread": Case(narrow, 8, 32, spread=True),
    }
    with start_workers(four={"devices": 4}) as workers:
        facts = {
            name: workers["four"].ask("step", name, **scaling._say(case))
            for name, case in cases.items()
        }
        for seconds in (workers["four"].ask("time", name) for name in cases):
            assert 0 < seconds < 60
    return {name: scaling.describe(cases[name], 4, facts[name]) for name in cases}


def test_the_lecture_sends_its_gradients_and_its_loss(told):
    lecture = told["lecture"]
    assert lecture["agree"] and lecture["weights"] == LECTURE.weights == 25_153
    assert lecture["kinds"] == {"all-reduce": 1} and lecture["tensors"] == LECTURE.tensors == 5
    assert lecture["bytes"] == LECTURE.bytes == 100_616
    assert (lecture["steps"], lecture["epoch_runs"]) == (792, 791)  # the last has 9 rows
    assert lecture["epoch_bytes"] == 791 * 100_616


def test_rows_that_do_not_divide_send_nothing(told):
    assert told["whole"]["agree"] and told["whole"]["kinds"] == {}
    assert told["whole"]["epoch_bytes"] == 0
    assert told["all rows"]["agree"] and told["all rows"]["epoch_bytes"] == 100_616


def test_spread_weights_are_gathered(told):
    spread = told["spread"]
    assert spread["kinds"]["all-gather"] >= 1 and spread["bytes"] > 4 * spread["weights"]


def test_what_is_not_expected_is_not_agreed():
    """Two all-reduces instead of one, or a byte too few."""
    sent = ["all-reduce", LECTURE.tensors, LECTURE.bytes, [None, 2]]
    facts = {"full": 2, "steps": 2, "weights": LECTURE.weights}
    case = Case(LECTURE, 16, 32)

    def agrees(*collectives):
        return scaling.describe(case, 4, {**facts, "collectives": list(collectives)})["agree"]

    assert agrees(sent)
    assert not agrees(sent, sent) and not agrees()
    assert not agrees([*sent[:2], LECTURE.bytes - 4, sent[3]])


def test_another_stream_or_loss_is_not_agreed():
    facts = {"losses": [0.7, 0.5], "stream": [3, 1]}
    assert scaling.judge(facts, facts)["agree"]
    assert not scaling.judge(facts | {"stream": [4, 1]}, facts)["agree"]
    assert not scaling.judge(facts | {"losses": [0.7, 0.500001]}, facts)["agree"]


def test_a_workers_error_is_told():
    with (
        start_workers(one={"devices": 1}) as workers,
        pytest.raises(RuntimeError, match="KeyError: 'absent'"),
    ):
        workers["one"].ask("time", "absent")


MODEL = Model(
    2,
    1e-9,
    {LECTURE.name: Work(10e-6, 1.5e-6), WIDE.name: Work(1e-3, 1e-4)},
    {"devices": Link(10e-6, 5e9, "shared"), "processes": Link(1e-3, 1e9, "ring")},
)


def test_a_step_costs_what_the_formula_says():
    def predict(net, batch, devices, place="devices"):
        return scaling.predict_step(MODEL, net, batch, devices, place)

    draws = 32 * 16 * 1e-9
    alone = 10e-6 + 16 * 1.5e-6 + draws
    assert predict(LECTURE, 16, 1) == pytest.approx(alone)
    two = 10e-6 + 8 * 1.5e-6 + draws + 2 * (10e-6 * 5 + 100_616 / 5e9)
    assert predict(LECTURE, 16, 2) == pytest.approx(two)
    four = 2 * (10e-6 + 4 * 1.5e-6 + draws) + 4 * (10e-6 * 5 + 100_616 / 5e9)
    assert predict(LECTURE, 16, 4) == pytest.approx(four)
    ring = two - 2 * (10e-6 * 5 + 100_616 / 5e9) + 2 * 5e-3 + 100_616 / 1e9
    assert predict(LECTURE, 16, 2, "processes") == pytest.approx(ring)
    whole = 4 * (10e-6 + 9 * 1.5e-6 + 32 * 9 * 1e-9)
    assert predict(LECTURE, 9, 8) == pytest.approx(whole)  # nothing is sent, two cores compute


def test_a_net_counts_what_it_multiplies_and_draws():
    assert LECTURE.flops * 16 == 2 * 16 * (2 * 784 * 32 + 3 * 32)
    assert (LECTURE.masked, PLAIN.masked, WIDE.masked) == (32, 0, 0)
    assert WIDE.weights == 1_863_690 and WIDE.tensors == 7


def make_rows() -> list[dict[str, Any]]:
    """Rows as if they had been measured, of a machine that obeys `MODEL`."""
    rows: list[dict[str, Any]] = [
        {"kind": "draws", "cores": 2, "agree": True, "seconds": [MASK * MASKS * 1e-9]}
    ]
    for net, counts in ALONE.items():
        for count in counts:
            seconds = MODEL.work[net.name].of(count) + 1e-9 * net.masked * count
            row = {"net": net.name, "rows": count, "agree": True, "seconds": [seconds]}
            rows.append({"kind": "alone", **row})
    places = [("devices", count) for count in DEVICES[1:]] + [("processes", 2)]
    for sizes in VECTORS:
        for place, count in places:
            tensors, size = len(sizes), 4 * sum(sizes)
            seconds = scaling.reduce_seconds(MODEL.links[place], tensors, size, count)
            row = {"place": place, "devices": count, "tensors": tensors, "bytes": size}
            rows.append({"kind": "all_reduce", **row, "agree": True, "seconds": [seconds]})
    for net, batch in ((LECTURE, 16), (LECTURE, 4096), (WIDE, 16), (WIDE, 1024)):
        row = {"net": net.name, "batch": batch, "spread": False, "loss_gap": 0.0, "agree": True}
        rows.append(
            {"kind": "step", **row, "place": "devices", "devices": 1, "seconds": [1e-3] * 3}
        )
        for place, count in places:
            seconds = 1.3 * scaling.predict_step(MODEL, net, batch, count, place)
            where = {"place": place, "devices": count, "seconds": [seconds] * 3}
            rows.append({"kind": "step", **row, **where})
            sent = {"kinds": {"all-reduce": 1}, "tensors": net.tensors, "bytes": net.bytes}
            epoch = {"weights": net.weights, "steps": 3, "epoch_runs": 3, "epoch_bytes": 12}
            if place == "devices":
                rows.append({"kind": "communication", **row, **where, **sent, **epoch})
    return rows


def test_the_model_is_found_again_without_the_steps():
    rows = [row for row in make_rows() if row["kind"] != "step"]
    found = scaling.fit_model(rows)
    assert found.cores == 2 and found.draw == pytest.approx(1e-9)
    for net in ALONE:
        assert found.work[net.name] == pytest.approx(MODEL.work[net.name], rel=1e-6)
    for place, link in MODEL.links.items():
        assert found.links[place][:2] == pytest.approx(link[:2], rel=1e-6)
        assert found.links[place].shape == link.shape


def test_the_page_says_how_far_the_model_is_off(tmp_path: Path):
    results = {"scaling": make_rows()}
    said, tables = say_scaling(results), list_scaling(results)
    assert (
        "Of 16 steps that the model predicts, 0 within a factor of 1.25, 16 " in said["agreement"]
    )
    ratios = list(tables["scaling"].columns[8].cells)
    assert [ratio for ratio in ratios if ratio] == ["1.30"] * 16
    draw_scaling(results["scaling"], tmp_path / "scaling.png")
    assert (tmp_path / "scaling.png").stat().st_size > 10_000
    assert list_scaling({}) == say_scaling({}) == {}


def test_a_step_that_disagrees_shows_no_time():
    rows = make_rows()
    wrong = next(row for row in rows if row["kind"] == "step" and row["devices"] == 4)
    wrong |= {"agree": False, "seconds": [123.456] * 3}
    results = {"scaling": rows}
    cells = [cell for column in list_scaling(results)["scaling"].columns for cell in column.cells]
    assert cells.count("DIFFER") == 1 and not any("123,456" in str(cell) for cell in cells)
    assert "Of 15 steps" in say_scaling(results)["agreement"]


def test_an_all_reduce_over_accelerators_is_a_chain_in_the_node_and_a_tree_between_nodes():
    assert scaling.reduce_far(H100, 1e9, 1) == 0
    start, hop, far = 6.8e-6, 0.6e-6, 5e-6
    assert scaling.reduce_far(H100, 0, 8) == pytest.approx(start + 14 * hop)
    assert scaling.reduce_far(H100, 0, 4096) == pytest.approx(start + 14 * hop + 2 * 9 * far)
    inside, between = 2 * 7 / 8 * 1e9 / 450e9, 2 * 7 / 8 * 1e9 / 8 / 50e9
    empty = start + 14 * hop + 2 * 3 * far
    assert scaling.reduce_far(H100, 1e9, 64) == pytest.approx(empty + (inside + between) / 0.8)
    assert scaling.reduce_far(V5P, 0, 4096) == pytest.approx(3 * 16 * 1e-6)


def test_a_step_on_accelerators_is_launches_products_masks_and_the_all_reduce():
    products = 128 * LECTURE.flops / 33.5e12
    memory = 24 * LECTURE.weights / (3.35e12 / 2)
    assert products > memory
    masks = 16 * 32 / 624 * 16e-6
    alone = scaling.step_far(H100, LECTURE, 16, 1)
    assert alone == pytest.approx(40e-6 + products + masks)
    eight = alone + scaling.reduce_far(H100, LECTURE.bytes, 8)  # two rows fill a tile as 16 do
    assert scaling.step_far(H100, LECTURE, 16, 8) == pytest.approx(eight)
    assert scaling.step_far(H100, LECTURE, 16, 64) == alone  # rows do not divide
    assert scaling.step_far(H100, PLAIN, 16, 1) == pytest.approx(alone - masks)


@pytest.mark.parametrize("device", [H100, V5P], ids=lambda device: device.name)
def test_the_lecture_never_pays_and_a_wide_net_does(device):
    for count in (2, 4, 8, 16, 64, 512, 4096):
        alone, spread = (scaling.step_far(device, LECTURE, 16, devices) for devices in (1, count))
        assert spread >= alone
        assert scaling.find_batch(device, LECTURE, count, 1.1) is None
        batch = scaling.find_batch(device, WIDE, count, 1.1)
        assert batch is not None
        fast, slow = (scaling.step_far(device, WIDE, rows, count) for rows in (batch, batch // 2))
        assert scaling.step_far(device, WIDE, batch, 1) > 1.1 * fast
        assert batch == count or scaling.step_far(device, WIDE, batch // 2, 1) <= 1.1 * slow
    assert math.log2(scaling.find_batch(device, WIDE, 8, 4) or 0) % 1 == 0
