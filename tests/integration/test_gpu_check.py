"""The check of a graphics card runs whole on a CPU, sees what is wrong, and says where none is."""

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import jaxnet.random
from benchmarks import gpu_check
from benchmarks.__main__ import main
from benchmarks.gpu_check import Place, Sizes, check_certificate, check_speed, make_place

TINY = Sizes(turns=1, epochs=1, rows=16, seconds=0.0, names=("logits",))
CARD = {"name": "NVIDIA (TM) Test 9000"}
H200 = SimpleNamespace(
    name="NVIDIA H200", multi_processor_count=132, max_threads_per_multi_processor=2048, major=9,
    minor=0, total_memory=2**37,
)  # fmt: skip


@pytest.fixture
def cpu(monkeypatch, tmp_path) -> Place:
    """The CPU in a card's place, little to do, and a folder for what is written."""
    place = make_place("cpu")._replace(card=CARD)
    monkeypatch.setattr(gpu_check, "make_place", lambda: place)
    monkeypatch.setattr(gpu_check, "list_shapes", lambda place: [(5, 2)])
    monkeypatch.setattr(gpu_check, "SIZES", TINY)
    monkeypatch.setattr(gpu_check, "RESULTS", tmp_path)
    return place


def run(*options: str) -> Any:
    return CliRunner().invoke(main, ["--gpu-check", *options])


def test_what_agrees_is_written_with_the_cards_name(cpu, monkeypatch, tmp_path):
    for part in ("check_certificate", "check_speed"):
        row = {"agree": True, "found": f"{part} ran"}
        monkeypatch.setattr(gpu_check, part, lambda *_, row=row: row)
    path = tmp_path / "new" / "results.json"
    done = run("--json", str(path))
    assert done.exit_code == 0, done.output
    assert CARD["name"] in done.output and done.output.count(" agrees ") == 4, done.output
    assert "check_certificate ran" in done.output and "check_speed ran" in done.output
    results = json.loads(path.read_text())
    assert results["agree"] and results["card"] == CARD and results["machine"]["versions"]["torch"]
    assert [row["part"] for row in results["rows"]] == ["masks", "masks", "certificates", "speed"]
    assert results["rows"][0]["numbers"] == 2 * 3 * 10


@pytest.mark.parametrize("wrong", [1.01, np.nan])
def test_losses_that_differ_are_not_timed(wrong, cpu, monkeypatch):
    history = SimpleNamespace(losses=np.full(10, wrong), run_seconds=1.0)
    monkeypatch.setattr(gpu_check, "train_jaxnet", lambda *_: history)
    row = check_speed(cpu, "logits", TINY)
    assert not row["agree"] and "not timed" in row["found"] and "seconds" not in row


def test_an_experiment_is_certified_and_timed(cpu):
    row = check_certificate(cpu, "full_batch", TINY)
    assert row["agree"] and row["found"].startswith("AGREE: 1 steps"), row
    assert row["found"].endswith("16 rows.") and row["text"][0].startswith("AGREE")
    row = check_speed(cpu, "logits", TINY)
    assert row["agree"] and row["steps"] == 10 and row["loss_gap"] <= 1e-6, row
    paces = {side: 10 / np.median(seconds) for side, seconds in row["seconds"].items()}
    assert row["steps_per_second"] == paces and f"torch {paces['torch']:,.0f}," in row["found"]


def test_one_wrong_number_of_a_mask_is_seen(cpu, monkeypatch, tmp_path):
    draw, calls = jaxnet.random.dropout_mask, []

    def flip(generator, p, shape):
        generator, keep = draw(generator, p, shape)
        calls.append(p)
        keep = np.array(keep)
        keep[3, 1] ^= len(calls) == 2
        return generator, keep

    monkeypatch.setattr(gpu_check.random, "dropout_mask", flip)
    monkeypatch.setattr(gpu_check, "SIZES", TINY._replace(names=()))
    done = run()
    assert done.exit_code == 1 and "DIFFERS" in done.output
    results = json.loads((tmp_path / "gpu-nvidia-tm-test-9000.json").read_text())
    wrong, right = results["rows"]
    assert not results["agree"] and wrong["differing"] == 1 and right["agree"]
    assert wrong["found"].endswith("1 differ, first element 7 of (5, 2), p=0.5, seed 1, call 1")


def test_another_stream_gives_other_masks(cpu):
    """That of a card, beside torch's on the CPU: the part does compare."""
    card = cpu._replace(stream={"device": "cuda", "multiprocessors": 2})
    assert gpu_check.check_masks(cpu, [(5, 2)], 1)["agree"]
    assert gpu_check.check_masks(card, [(5, 2)], 1)["differing"] > 6


def test_what_fails_is_told_and_the_others_run(cpu, monkeypatch, tmp_path):
    def fail(*arguments, **options):
        raise RuntimeError("[no] room on the card\nfor it")

    monkeypatch.setattr(gpu_check, "certify_experiment", fail)
    monkeypatch.setattr(gpu_check, "check_speed", lambda *_: {"agree": True, "found": "it ran"})
    done = run()
    assert done.exit_code == 1 and "RuntimeError: [no] room on the card" in done.output
    assert "it ran" in done.output
    (path,) = tmp_path.iterdir()
    results = json.loads(path.read_text())
    assert [row["agree"] for row in results["rows"]] == [True, True, False, True]
    assert results["rows"][2]["name"] == "logits" and not results["agree"]
    assert results["rows"][2]["error"] == "RuntimeError: [no] room on the card\nfor it"


def test_what_there_is_no_time_for_does_not_pass():
    row = gpu_check.attempt(("speed", "logits", lambda: {"agree": True}), late=True)
    assert not row["agree"] and row["error"] == "not begun: the time was over"


@pytest.mark.parametrize(
    ("card_jax", "card_torch", "sentence"),
    [
        (None, None, "JAX sees no NVIDIA card, and torch sees no NVIDIA card."),
        (None, H200, "JAX sees no NVIDIA card, and torch sees the NVIDIA H200."),
        ("H200", None, "JAX sees the H200, and torch sees no NVIDIA card."),
    ],
)
def test_without_a_card_one_sentence_says_who_sees_none(
    card_jax, card_torch, sentence, monkeypatch, tmp_path
):
    device = card_jax and SimpleNamespace(device_kind=card_jax)
    monkeypatch.setattr(gpu_check, "see_cards", lambda: (device, card_torch))
    done = run("--json", str(tmp_path / "it.json"))
    assert done.exit_code == 2 and done.output == f"Nothing was checked: {sentence}\n"
    assert not any(tmp_path.iterdir())


def test_a_card_gives_its_stream_and_shapes_of_several_turns(monkeypatch):
    device = SimpleNamespace(device_kind="NVIDIA H200")
    monkeypatch.setattr(gpu_check, "see_cards", lambda: (device, H200))
    place = make_place()
    size = {"multiprocessors": 132, "threads_per_multiprocessor": 2048}
    assert place.torch == "cuda" and place.stream == {"device": "cuda", **size}
    assert place.card["name"] == "NVIDIA H200"
    shapes = gpu_check.list_shapes(place)
    assert (8 * 132 * 2048 + 1,) in shapes
    assert {int(np.gcd(np.prod(shape), 16)) for shape in shapes} == {1, 2, 4, 8, 16}


def test_other_options_are_rejected():
    done = run("--quick")
    assert done.exit_code == 2 and "--gpu-check goes with --json and --quiet alone" in done.output
