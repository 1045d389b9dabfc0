"""What several devices send is read from the program; a step unlike one device's shows no time."""

from typing import Any

import numpy as np
import pytest

from benchmarks import scaling
from benchmarks.scaling import LECTURE, WIDE, Case, count_bytes, list_collectives

HLO = """HloModule jit_run, entry_computation_layout={(f32[4]{0})->f32[4]{0}}

%step.1 (carry: (s32[], f32[32,784])) -> (s32[], f32[32,784]) {
  %carry = (s32[], f32[32,784]{1,0}) parameter(0)
  %weights = f32[32,784]{1,0} get-tuple-element(%carry), index=1
  %loss = f32[] constant(0)
  %kept = pred[16,8]{1,0} constant({...})
  %half = bf16[3]{0} constant({...})
  %all-reduce.2 = (f32[32,784]{1,0}, /*index=1*/f32[]) all-reduce(%weights, /*index=1*/%loss), to_apply=%add
  %all-gather-start = (pred[16,8]{1,0}, pred[64,8]{1,0}) all-gather-start(%kept), dimensions={0}
  %all-gather-done = pred[64,8]{1,0} all-gather-done(%all-gather-start)
  ROOT %permuted = bf16[3]{0} collective-permute(%half), source_target_pairs={{0,1}}
}
"""  # noqa: E501


def test_collectives_are_found_with_what_they_send():
    assert list_collectives(HLO) == [
        ("all-reduce", 2, 4 * (32 * 784 + 1)),
        ("all-gather", 1, 16 * 8),
        ("collective-permute", 1, 2 * 3),
    ]
    assert count_bytes("(f32[32]{0}, pred[4]{0})") == 4 * 32 + 4


NARROW = WIDE._replace(widths=(784, 8, 8, 10))
CASES = (
    *(Case(LECTURE, *sizes) for sizes in ((16, 12_665), (30, 60), (64, 64))),
    *(Case(NARROW, 8, 32, weights=weights) for weights in ("replicated", "sharded")),
)


@pytest.fixture(scope="module")
def parts() -> dict[str, list[dict[str, Any]]]:
    """Batches of the lecture's net, and sharded weights, on one device and on four."""
    return scaling.compare_scaling(1, CASES, (1, 4))


def test_losses_and_the_random_stream_are_those_of_one_device(parts):
    steps = parts["scaling"]
    assert len(steps) == 9 and all(row["agree"] for row in steps), steps
    assert all(0 < row["seconds"][0] < 60 for row in steps)
    alone = [row for row in steps if row["devices"] == 1]
    assert all(row["seconds"] == row["seconds_other"] for row in alone)


def test_what_four_devices_send(parts):
    """Gradients and loss in one operation; nothing where a batch does not divide."""
    lecture, whole, all_rows, narrow, sharded = parts["communication"]
    assert all(row["agree"] for row in parts["communication"])
    assert lecture["collectives"] == "1 all-reduce" and lecture["tensors"] == LECTURE.tensors == 5
    assert lecture["bytes"] == all_rows["bytes"] == LECTURE.bytes == 4 * (25_153 + 1)
    assert (whole["collectives"], whole["bytes"]) == ("", 0)
    assert narrow["tensors"] == NARROW.tensors == 7 and narrow["bytes"] == NARROW.bytes
    assert "all-gather" in sharded["collectives"] and sharded["bytes"] > narrow["bytes"]


def test_what_is_not_expected_is_not_agreed():
    """Two all-reduces instead of one, or a byte too few."""
    sent, case = ("all-reduce", LECTURE.tensors, LECTURE.bytes), Case(LECTURE, 16, 32)
    for found, agrees in (
        ([sent], True),
        ([sent, sent], False),
        ([], False),
        ([(*sent[:2], LECTURE.bytes - 4)], False),
    ):
        assert scaling.describe(case, 4, found)["agree"] == agrees


def test_another_stream_or_loss_is_not_agreed():
    facts: dict[str, Any] = {"losses": np.array([0.7, 0.5]), "stream": [3, 1]}
    assert scaling.judge(facts, facts)["agree"]
    assert not scaling.judge(facts | {"stream": [4, 1]}, facts)["agree"]
    assert not scaling.judge(facts | {"losses": np.array([0.7, 0.500001])}, facts)["agree"]
