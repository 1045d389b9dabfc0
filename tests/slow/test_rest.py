"""The rows of the default tier's tables that it leaves out: each compiles programs of its own."""

import jax
import pytest

from tests import (
    test_checkpoint,
    test_convert_optimizers,
    test_draws,
    test_ecosystem,
    test_loops,
    test_masks,
    test_memory,
    test_precision,
    test_programs,
    test_streaming,
    test_sweeps,
    test_teeth,
    test_traced,
    test_train,
)
from tests.cases import CASES
from tests.test_streaming import no_thread_stays, small_blocks

__all__ = ["no_thread_stays", "small_blocks"]  # fixtures


def rest(table, quick):
    return [row for row in table if row not in quick]


def test_a_linen_net_that_is_seen_inside_leaks_nothing():
    test_traced.see_inside(jax.checking_leaks())


@pytest.mark.parametrize(("apply", "noise", "dropout", "layer"), test_loops.DRAWING[2:])
def test_whatever_is_drawn_is_given_to_the_port(apply, noise, dropout, layer):
    test_loops.test_whatever_is_drawn_is_given_to_the_port(apply, noise, dropout, layer)


@pytest.mark.parametrize("name", rest(CASES, test_teeth.QUICK_CASES))
def test_the_cases_agree_as_they_are(name):
    test_teeth.test_the_cases_agree_as_they_are(name)


@pytest.mark.parametrize("name", ["nesterov", "dropout", "adam", "words", "amsgrad"])
def test_a_second_certificate_compiles_nothing(name):
    test_programs.assert_compiled_once(name)


@pytest.mark.parametrize("batch_size, shuffle", [(1, True), (41, False)])
def test_minibatches_follow_a_torch_script(batch_size, shuffle):
    test_train.test_minibatches_follow_a_torch_script(batch_size, shuffle, False)


@pytest.mark.parametrize("drop_last, own", [(True, False), (False, True)])
def test_a_data_loader_follows_a_torch_script(drop_last, own):
    test_train.test_a_data_loader_follows_a_torch_script(True, drop_last, own)


@pytest.mark.parametrize("name", ["parity", "float64"])
def test_the_lectures_last_figures_are_computed_as_its_run(name):
    test_precision.test_the_lectures_last_figures_are_computed_as_its_run(name)


@pytest.mark.parametrize("name", ["one", "two alike"])
def test_one_draw_is_many(name):
    test_masks.test_one_draw_is_many(name)


@pytest.mark.parametrize("seed", [1, 2**40 + 3])
def test_a_users_script(seed):
    test_draws.test_a_users_script(seed)


@pytest.mark.parametrize("name", rest(test_ecosystem.OPTIMIZERS, test_ecosystem.QUICK))
def test_any_optimizer_of_optaxs_is_that_of_a_loop_by_hand(name):
    test_ecosystem.test_any_optimizer_of_optaxs_is_that_of_a_loop_by_hand(name)


HANDED = [(name, own) for name in test_convert_optimizers.HANDED for own in (False, True)]


@pytest.mark.parametrize("name, own", rest(HANDED, test_convert_optimizers.QUICK))
def test_a_run_is_handed_over_between_epochs_and_back(name, own, tmp_path):
    test_convert_optimizers.test_a_run_is_handed_over_between_epochs_and_back(name, own, tmp_path)


@pytest.mark.parametrize("name", rest(test_checkpoint.RESUMED, test_checkpoint.QUICK))
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(name, tmp_path):
    test_checkpoint.test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(name, tmp_path / "run")


@pytest.mark.parametrize("case", rest(test_streaming.CASES, test_streaming.QUICK))
def test_a_streamed_run_is_the_one_from_memory(case, tmp_path):
    test_streaming.test_a_run_is_the_one_from_memory(case, tmp_path)


@pytest.mark.parametrize("options", test_memory.WAYS[1:], ids=str)
def test_there_is_one_copy_of_the_data(options, tmp_path):
    for kind in ("numpy", "jax"):
        test_memory.test_there_is_one_copy_of_the_data(kind, tmp_path / kind, options)


@pytest.mark.parametrize("shuffle, width", [(False, 4), (False, 1), (True, 1)])
def test_a_lane_is_the_solo_run_of_its_seed(shuffle, width, monkeypatch):
    test_sweeps.test_a_lane_is_the_solo_run_of_its_seed(shuffle, width, monkeypatch)


def test_the_lecture_in_float64():
    test_precision.test_the_lecture_in_float64("minibatch")
