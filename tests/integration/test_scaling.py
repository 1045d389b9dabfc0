"""What several devices send is read from the program; a step unlike one device's shows no time."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks import scaling
from benchmarks.collectives import Collective, count_bytes, count_runs, list_collectives
from benchmarks.figures import draw_scaling
from benchmarks.scaling import DEVICES, LECTURE, WIDE, Case
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
    assert count_runs(found) == 3 * 791 + 1
    assert count_bytes(found) == 791 * (4 * 25_089 + 128 + 6) + 16
    with pytest.raises(ValueError, match="ENTRY"):
        list_collectives("no module")


NARROW = WIDE._replace(widths=(784, 8, 8, 10))
CASES = (
    *(Case(LECTURE, *sizes) for sizes in ((16, 12_665), (30, 60), (64, 64))),
    *(Case(NARROW, 8, 32, sharded=sharded) for sharded in (False, True)),
)


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    """Batches of the lecture's net, and sharded weights, on one device and on four."""
    return scaling.compare_scaling(1, CASES, (1, 4))


@pytest.fixture(scope="module")
def told(rows) -> dict[str, dict[str, Any]]:
    """What the four devices send."""
    sent = [row for row in rows if row["kind"] == "communication"]
    return dict(zip(("lecture", "whole", "all rows", "narrow", "sharded"), sent, strict=True))


def test_losses_and_the_random_stream_are_those_of_one_device(rows):
    steps = [row for row in rows if row["kind"] == "step"]
    assert len(steps) == 9 and all(row["agree"] for row in steps), steps
    assert all(0 < row["seconds"][0] < 60 for row in steps)


def test_the_lecture_sends_its_gradients_and_its_loss(told):
    lecture = told["lecture"]
    assert lecture["agree"] and lecture["weights"] == LECTURE.weights == 25_153
    assert lecture["kinds"] == {"all-reduce": 1} and lecture["tensors"] == LECTURE.tensors == 5
    assert lecture["bytes"] == LECTURE.bytes == 100_616
    assert (lecture["steps"], lecture["epoch_runs"]) == (792, 791)  # the last has 9 rows
    assert lecture["epoch_bytes"] == 791 * 100_616


def test_a_batch_that_does_not_divide_sends_nothing(told):
    assert told["whole"]["agree"] and told["whole"]["kinds"] == {}
    assert told["whole"]["epoch_bytes"] == 0
    assert told["all rows"]["agree"] and told["all rows"]["epoch_bytes"] == 100_616


def test_sharded_weights_are_gathered(told):
    narrow, sharded = told["narrow"], told["sharded"]
    assert narrow["agree"] and narrow["tensors"] == NARROW.tensors == 7
    assert sharded["kinds"]["all-gather"] >= 1 and sharded["bytes"] > 4 * sharded["weights"]
    assert sharded["weights"] == narrow["weights"] == NARROW.weights


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
    with start_workers([1]) as (worker,), pytest.raises(RuntimeError, match="KeyError: 'absent'"):
        worker.ask("time", "absent")


def make_rows() -> list[dict[str, Any]]:
    """Rows as if they had been measured: 1 ms a step, on several devices 1.3 or, of WIDE, 0.5."""
    rows = []
    for net, batch in ((LECTURE, 16), (LECTURE, 4096), (WIDE, 16), (WIDE, 1024)):
        for devices in DEVICES:
            row = {"net": net.name, "batch": batch, "sharded": False, "devices": devices}
            seconds = 1e-3 * (1 if devices == 1 else 0.5 if net is WIDE else 1.3)
            step = {"agree": True, "loss_gap": 0.0, "seconds": [seconds] * 3}
            rows.append({"kind": "step", **row, **step})
            sent = {"kinds": {"all-reduce": 1}, "tensors": net.tensors, "bytes": net.bytes}
            epoch = {"weights": net.weights, "steps": 3, "epoch_runs": 3, "epoch_bytes": 12}
            if devices > 1:
                rows.append({"kind": "communication", **row, "agree": True, **sent, **epoch})
    return rows


def test_the_page_says_what_was_gained(tmp_path: Path):
    results = {"scaling": make_rows()}
    said, tables = say_scaling(results), list_scaling(results)
    assert said["gained"].startswith("Of 12 measured") and said["gained"].count("2.00 times") == 6
    assert "The slowest: lecture's net, 16 rows, 2 devices, 1 times as long" in said["gained"]
    gains = list(tables["scaling"].columns[7].cells)
    assert [gain for gain in gains if gain] == ["0.77"] * 6 + ["2.00"] * 6
    assert tables["communication"].row_count == 4
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
    assert "Of 11 measured" in say_scaling(results)["gained"]
