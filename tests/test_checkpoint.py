"""Runs that are saved, damaged, killed and resumed."""

import random
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnet
import jaxnet.checkpoint.folder
from jaxnet import nn, runs
from jaxnet.checkpoint._contents import Damaged, name_leaves, pack
from jaxnet.checkpoint.folder import Another, Checkpoints, list_epochs
from jaxnet.data.loader import DataLoader

RNG = np.random.default_rng(0)
X = RNG.normal(size=(22, 3)).astype(np.float32)
Y = (X[:, :1] > 0).astype(np.float32)
NET = nn.Sequential([nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1)])
ADAM = jaxnet.optim.adam(1e-2)
BASE: dict[str, Any] = dict(loss=jaxnet.losses.binary_cross_entropy_with_logits, optimizer=ADAM)
SHUFFLED: dict[str, Any] = BASE | dict(batch_size=5, shuffle=True, seed=1, report_every=2)


def assert_same_run(left, right):
    """The same bits in every array of the states, the losses and the reports."""
    arrays, others = (pack(state, history, {})[0] for state, history in (left, right))
    assert arrays.keys() == others.keys()
    for name, array in arrays.items():
        assert array.dtype == others[name].dtype and array.tobytes() == others[name].tobytes(), name
    assert left[1].reports == right[1].reports


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "run"


@pytest.fixture
def saved(folder):
    """A run of five epochs that saved each, and its last state and history."""
    checkpoints = Checkpoints(folder, keep=3, seconds=0)
    options: dict[str, Any] = SHUFFLED | dict(report_every=1)
    return jaxnet.fit(NET, (X, Y), epochs=5, hooks=[checkpoints], **options)


LOADER = DataLoader(
    (X, Y), batch_size=5, shuffle=True, generator=jaxnet.random.manual_seed(7), drop_last=True
)


RESUMED = {
    "shuffled": ((X, Y), SHUFFLED),
    "accuracy": (
        (X, Y),
        SHUFFLED | dict(report_loader=True, metrics={"m": jaxnet.metrics.logit_is_right}),
    ),
    "key": ((X, Y), BASE | dict(seed=jax.random.key(3), batch_size=4, shuffle=True)),
    "rbg": ((X, Y), BASE | dict(seed=jax.random.key(3, impl="rbg"), report_every=3)),
    "float64": ((X, Y), SHUFFLED | dict(precision="float64")),
    "loader": (LOADER, BASE | dict(seed=1, report_every=1)),
}
QUICK = ("shuffled", "key", "loader")
"""The others are resumed in `tests/slow`."""


@pytest.mark.parametrize("name", QUICK)
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(name, folder):
    data, options = RESUMED[name]
    whole = jaxnet.fit(NET, data, epochs=7, **options)
    runs.fit(NET, data, epochs=3, checkpoint=folder, **options)
    assert_same_run(runs.fit(NET, data, epochs=7, checkpoint=folder, resume=True, **options), whole)
    assert_same_run(runs.fit(NET, data, epochs=7, checkpoint=folder, resume=True, **options), whole)


def test_a_state_and_its_history_go_on_without_a_folder():
    whole = jaxnet.fit(NET, (X, Y), epochs=7, **SHUFFLED)
    rest: dict[str, Any] = {name: value for name, value in SHUFFLED.items() if name != "seed"}
    run = jaxnet.fit(NET, (X, Y), epochs=3, **SHUFFLED)
    assert_same_run(jaxnet.fit(NET, (X, Y), epochs=7, state=run, **rest), whole)


def test_at_most_one_save_a_second_and_the_last_one_always(folder):
    saves = []

    class Counted(Checkpoints):
        def save(self, epoch, state, history):
            saves.append(epoch)
            return super().save(epoch, state, history)

    jaxnet.fit(NET, (X, Y), epochs=50, hooks=[Counted(folder)], **{**SHUFFLED, "report_every": 1})
    assert saves[0] == 1 and saves[-1] == 50 and len(saves) < 10


def test_as_many_stay_as_are_kept(saved, folder):
    assert Checkpoints(folder).list_epochs() == [3, 4, 5]


def _list_files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)


def test_no_changed_bit_is_restored(saved, folder):
    """A few bits of every file of a checkpoint: it is skipped, or what it restores is right."""
    files, picks = _list_files(folder / "5"), random.Random(0)
    state, history = saved
    skipped = set()
    for path in files:
        whole = path.read_bytes()
        for _ in range(4):
            changed = bytearray(whole)
            changed[picks.randrange(len(whole))] ^= 1 << picks.randrange(8)
            path.write_bytes(changed)
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                found = Checkpoints(folder).restore(like=state)
            assert found is not None
            if told:
                assert f"{folder}/5 cannot be read" in str(told[0].message)
                assert len(found[1].losses) == 4 * 5
                skipped.add(path)
            else:
                assert_same_run(found, saved)
        path.write_bytes(whole)
    assert any(path.stat().st_size > 1000 for path in skipped)  # where the arrays are


def test_the_digest_covers_arrays_and_record(saved, folder, monkeypatch):
    """Even where Orbax reads other numbers without a word."""
    import orbax.checkpoint as ocp

    read = ocp.CheckpointManager.restore
    for part, name in [("arrays", "params['0']['weight']"), ("record", "run_seconds")]:

        def change(self, epoch, args, part=part, name=name):
            found = read(self, epoch, args=args)
            if epoch == 5:
                found[part][name] = found[part][name] * 1.001
            return found

        monkeypatch.setattr(ocp.CheckpointManager, "restore", change)
        with pytest.warns(UserWarning, match="run/5 cannot be read: its SHA-256 digest"):
            found = Checkpoints(folder).restore(like=saved[0])
        assert found is not None and len(found[1].losses) == 4 * 5


def _truncate(folder):
    for path in _list_files(folder):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _empty(folder):
    for path in _list_files(folder):
        path.unlink()


def _put_foreign(folder):
    import shutil

    import orbax.checkpoint as ocp

    shutil.rmtree(folder)
    with ocp.CheckpointManager(folder.parent) as manager:
        manager.save(int(folder.name), args=ocp.args.StandardSave({"step": np.arange(3)}))


@pytest.mark.parametrize("damage", [_truncate, _empty, _put_foreign])
def test_what_cannot_be_read_is_named_and_skipped(damage, saved, folder):
    damage(folder / "5")
    options: dict[str, Any] = SHUFFLED | dict(report_every=1)
    checkpoints = Checkpoints(folder, keep=1, seconds=0)
    with pytest.warns(UserWarning, match="run/5 cannot be read: .*; it is skipped"):
        found = checkpoints.restore(like=saved[0])
    assert found is not None and len(found[1].losses) == 4 * 5
    rest: dict[str, Any] = {name: value for name, value in options.items() if name != "seed"}
    again = jaxnet.fit(NET, (X, Y), epochs=5, state=found, hooks=[checkpoints], **rest)
    assert_same_run(again, saved)
    assert checkpoints.list_epochs() == [5]
    assert [path for path in folder.iterdir() if path.name.endswith(".unreadable")]
    restored = Checkpoints(folder).restore(like=saved[0])
    assert restored is not None
    assert_same_run(restored, saved)


def test_where_none_can_be_read_that_is_said(saved, folder):
    for epoch in (3, 4, 5):
        _truncate(folder / str(epoch))
    with pytest.warns(UserWarning), pytest.raises(Damaged, match="no checkpoint that can be read"):
        Checkpoints(folder).restore(like=saved[0])


def other_loss(outputs, y):
    """Another one of the same name."""
    return 2 * BASE["loss"](outputs, y)


other_loss.__module__, other_loss.__qualname__ = BASE["loss"].__module__, BASE["loss"].__qualname__
A_STEP = "what a step computes, its loss and its optimizer: "


@pytest.mark.parametrize(
    "net, data, options, message",
    [
        (NET, (X, Y), dict(optimizer=jaxnet.optim.adam(2e-2)), A_STEP),
        (NET, (X, Y), dict(loss=other_loss), A_STEP),
        (NET, (X, Y), dict(report_every=1), "report_every: 2 in the checkpoint, 1 in this run"),
        (NET, (X, Y), dict(precision="fast"), "precision: parity in the checkpoint, fast in this"),
        (NET, (X, Y), dict(seed=2), r"seed: 1 in the checkpoint, 2 in this run"),
        (NET, (2 * X, Y), {}, r"x: .*SHA-256"),
        (NET, (X, Y), dict(batch_size=6), r"batches: .*batch_size=5.*batch_size=6"),
        (NET, (X, Y), dict(optimizer=jaxnet.optim.sgd()), r"opt_state.*exp_avg.*nothing in this"),
        (
            nn.Sequential([nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Dropout(0.5), nn.Linear(5, 1)]),
            (X, Y),
            {},
            r"params\['0'\]\['weight'\]: float32 \(4, 3\) in the checkpoint, float32 \(5, 3\)",
        ),
        (
            nn.Sequential([nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.4), nn.Linear(4, 1)]),
            (X, Y),
            {},
            r"net: p = 0.5 in the checkpoint, p = 0.4 in this run",
        ),
    ],
)
def test_another_run_is_refused_with_the_differences(net, data, options, message, folder):
    runs.fit(NET, (X, Y), epochs=2, checkpoint=folder, **SHUFFLED)
    before = _list_files(folder)
    with pytest.raises(Another, match=message):
        runs.fit(net, data, epochs=2, checkpoint=folder, resume=True, **SHUFFLED | options)
    assert _list_files(folder) == before


def test_what_another_jax_wrote_is_not_another_run(monkeypatch, folder):
    """How a step is written down is JAX's own affair, which changes between its versions."""
    runs.fit(NET, (X, Y), epochs=2, checkpoint=folder, **SHUFFLED)
    monkeypatch.setattr(runs.jax, "__version__", "0.99")
    monkeypatch.setattr(runs, "digest_text", lambda text: "another" * 9)
    _, history = runs.fit(NET, (X, Y), epochs=3, checkpoint=folder, resume=True, **SHUFFLED)
    assert len(history.losses) == 3 * 5


def test_a_hooks_numbers_of_jax_and_numpy_are_saved_as_numbers(folder):
    def add(chunk):
        chunk.report.metrics.update(norm=jnp.float32(0.5), rows=np.int64(22))

    def fit(epochs, **more):
        options: dict[str, Any] = SHUFFLED | dict(report_every=1, hooks=[add]) | more
        return runs.fit(NET, (X, Y), epochs=epochs, checkpoint=folder, **options)[1]

    first = fit(2)
    assert fit(3, resume=True).reports[:2] == first.reports


def test_bfloat16_is_saved_and_restored(tmp_path, folder):
    x = jnp.asarray(X, jnp.bfloat16)

    def fit(epochs, folder, **more):
        return runs.fit(NET, (x, Y), epochs=epochs, checkpoint=folder, **SHUFFLED, **more)

    fit(2, folder)
    assert_same_run(fit(4, folder, resume=True), fit(4, tmp_path / "whole"))


def test_an_epoch_that_cannot_be_saved_again_stays(saved, folder, monkeypatch):
    """Resumed from before it, as after damage that went away: what was there is put back."""
    checkpoints = Checkpoints(folder, seconds=0)
    assert checkpoints.restore(like=saved[0]) is not None
    checkpoints.saved = 4
    with monkeypatch.context() as patch:
        patch.setattr(jaxnet.checkpoint.folder, "_write", _fail)
        with pytest.warns(UserWarning, match="epoch 5 could not be saved in .*: OSError: full"):
            assert not checkpoints.save(5, *saved)
    assert checkpoints.list_epochs() == [3, 4, 5] == list_epochs(folder)
    found = Checkpoints(folder).restore(like=saved[0])
    assert found is not None
    assert_same_run(found, saved)
    assert checkpoints.save(5, *saved) and sorted(p.name for p in folder.iterdir()) == list("345")


def _fail(*_):
    raise OSError("full")


def test_a_full_folder_is_not_begun_anew(saved, folder):
    with pytest.raises(ValueError, match=r"up to epoch 5: resume=True goes on"):
        runs.fit(NET, (X, Y), epochs=2, checkpoint=folder, **SHUFFLED)
    with pytest.raises(ValueError, match="of a run that was not restored"):
        Checkpoints(folder).save(6, *saved)
    assert Checkpoints(folder).list_epochs() == [3, 4, 5]


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(keep=0), "keep must be an integer of at least 1, not 0"),
        (dict(seconds=-1), "seconds must be a number of at least 0, not -1"),
    ],
)
def test_refusals(options, message, folder):
    with pytest.raises(ValueError, match=message):
        Checkpoints(folder, **options)
    assert not folder.exists()


def test_a_folder_that_cannot_be_written_is_refused_before_the_run(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        runs.fit(NET, (X, Y), epochs=1, checkpoint=tmp_path / "file" / "run", **SHUFFLED)


def test_the_names_of_a_states_arrays_are_its_own():
    state, _ = jaxnet.fit(NET, (X, Y), epochs=1, **SHUFFLED)
    assert len(name_leaves(state)) == len(jax.tree.leaves(state))
