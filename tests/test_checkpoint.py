"""Runs that are saved, damaged, killed and resumed."""

import random
import shutil
import sys
import time
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from click.testing import CliRunner

import jaxnet
import jaxnet.checkpoint.folder
import jaxnet.lecture.cli
from jaxnet import nn
from jaxnet.callbacks import Checkpoint, Report
from jaxnet.checkpoint import CheckpointMismatchError, Checkpoints
from jaxnet.checkpoint._contents import pack
from jaxnet.data import DataLoader

RNG = np.random.default_rng(0)
X = RNG.normal(size=(22, 3)).astype(np.float32)
Y = (X[:, :1] > 0).astype(np.float32)


def make_net(width: int = 4, p: float = 0.5) -> nn.Sequential:
    layers = [nn.Linear(3, width), nn.BatchNorm1d(width), nn.Dropout(p), nn.Linear(width, 1)]
    return nn.Sequential(layers)


NET, LINEAR = make_net(), nn.Sequential([nn.Linear(3, 1)])
ADAM = jaxnet.optim.adam(1e-2)
BASE: dict[str, Any] = dict(loss=jaxnet.losses.binary_cross_entropy_with_logits, optimizer=ADAM)
SHUFFLED: dict[str, Any] = BASE | dict(batch_size=5, shuffle=True, seed=1)


def fit(epochs: int, *around: Any, **options: Any):
    """A shuffled run with a report every two epochs, and a checkpoint where a folder is given."""
    options = SHUFFLED | {"net": NET, "data": (X, Y), "report": Report(2)} | options
    report = options.pop("report")
    around = (*around, *([] if report is None else [report]))
    net, data = options.pop("net"), options.pop("data")
    return jaxnet.fit(net, data, epochs=epochs, callbacks=around, **options)


def save_each(checkpoints: Checkpoints):
    """A callback that saves a run after each of its chunks."""

    def save(chunk):
        checkpoints.save(chunk.epoch, chunk.state, chunk.history)

    return save


def resume(folder: Any, **options: Any) -> Checkpoint:
    return Checkpoint(folder, resume=True, **options)


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


@pytest.fixture(scope="module")
def five_epochs(tmp_path_factory):
    """The folder of a run that saved each of its epochs, and its last state and history."""
    place = tmp_path_factory.mktemp("saved") / "run"
    checkpoints = Checkpoints(place)
    run = fit(5, save_each(checkpoints), report=Report())
    checkpoints.close()
    return place, run


@pytest.fixture
def saved(five_epochs, folder):
    """The same run, in a folder of the test's own."""
    place, run = five_epochs
    shutil.copytree(place, folder)
    return run


@pytest.fixture
def damaged(monkeypatch):
    """For tests that damage files: reads of other arrays find Orbax's event loop closed, and say
    so in their threads."""
    hook = sys.unraisablehook

    def tell(what):
        if "Event loop is closed" not in str(what.exc_value):
            hook(what)

    monkeypatch.setattr(sys, "unraisablehook", tell)
    yield
    time.sleep(0.1)  # for the threads to be done with it


LOADER = DataLoader(
    (jnp.asarray(X, jnp.bfloat16), Y), 5, True, True, generator=jaxnet.random.manual_seed(7)
)
SCHEDULED = jaxnet.optim.sgd(jaxnet.optim.cosine_annealing_lr(0.5, T_max=30))
PLAIN: dict[str, Any] = dict(batch_size=None, shuffle=False, report=None)
RESUMED: dict[str, dict[str, Any]] = {
    "shuffled": {},
    "accuracy": dict(report=Report(2, {"m": jaxnet.metrics.logit_is_right}, loader=True)),
    "key": dict(seed=jax.random.key(3), net=LINEAR, report=None),
    "rbg": PLAIN | dict(seed=jax.random.key(3, impl="rbg"), report=Report(3)),
    "float64": dict(precision="float64"),
    "loader": PLAIN | dict(data=LOADER, report=Report(), net=LINEAR, optimizer=SCHEDULED),
}
QUICK = ("shuffled", "key", "loader")
"""The others are resumed in `tests/slow`."""


@pytest.mark.parametrize("name", QUICK)
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(name, folder):
    options = RESUMED[name]
    whole = fit(7, **options)
    fit(3, Checkpoint(folder), **options)
    assert_same_run(fit(7, resume(folder), **options), whole)
    assert_same_run(fit(7, resume(folder), **options), whole)


def test_a_state_and_its_history_resume_without_a_folder():
    assert_same_run(fit(7, state=fit(3), seed=None), fit(7))


def test_at_most_one_save_a_second_and_the_last_one_always(folder, monkeypatch):
    saves, save = [], Checkpoints.save

    def count(self, epoch, *rest):
        saves.append(epoch)
        return save(self, epoch, *rest)

    monkeypatch.setattr(Checkpoints, "save", count)
    fit(50, Checkpoint(folder), report=Report())
    assert saves[0] == 1 and saves[-1] == 50 and len(saves) < 10


def list_files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)


@pytest.mark.usefixtures("damaged")
def test_no_changed_bit_is_restored(saved, folder):
    """A few bits of every file of a checkpoint: it is skipped, or what it restores is right."""
    files, picks = list_files(folder / "5"), random.Random(0)
    state, history = saved
    skipped = set()
    for path in files:
        whole = path.read_bytes()
        for _ in range(2):
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
    for path in list_files(folder):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _empty(folder):
    for path in list_files(folder):
        path.unlink()


def _put_foreign(folder):
    shutil.rmtree(folder)
    with ocp.CheckpointManager(folder.parent) as manager:
        manager.save(int(folder.name), args=ocp.args.StandardSave({"step": np.arange(3)}))


@pytest.mark.usefixtures("damaged")
@pytest.mark.parametrize("damage", [_truncate, _empty, _put_foreign])
def test_what_cannot_be_read_is_named_and_skipped(damage, saved, folder):
    damage(folder / "5")
    checkpoints = Checkpoints(folder, keep=1)
    assert checkpoints.list_epochs() == [3, 4, 5], "as many stay as are kept"
    with pytest.warns(UserWarning, match="run/5 cannot be read: .*; it is skipped"):
        found = checkpoints.restore(like=saved[0])
    assert found is not None and len(found[1].losses) == 4 * 5
    again = fit(5, save_each(checkpoints), report=Report(), seed=None, state=found)
    assert_same_run(again, saved)
    assert checkpoints.list_epochs() == [5]
    assert [path for path in folder.iterdir() if path.name.endswith(".unreadable")]
    restored = Checkpoints(folder).restore(like=saved[0])
    assert restored is not None
    assert_same_run(restored, saved)


def test_a_callbacks_numbers_of_jax_and_numpy_are_saved_as_numbers(folder):
    def add(chunk):
        chunk.report.metrics.update(norm=jnp.float32(0.5), rows=np.int64(22))

    first = fit(2, Checkpoint(folder), add, report=Report())[1]
    assert fit(3, resume(folder), add, report=Report())[1].reports[:2] == first.reports


@pytest.mark.filterwarnings("default:epoch 10 could not be saved")
def test_the_command_line_says_that_the_end_is_not_saved(tmp_path, monkeypatch):
    """The run ends and prints its figures; what a disk did not take is an error all the same."""
    write = jaxnet.checkpoint.folder.write

    def fill(manager, epoch, *rest):
        if epoch > 2:
            raise OSError(28, "No space left on device")
        write(manager, epoch, *rest)

    monkeypatch.setattr(jaxnet.checkpoint.folder, "write", fill)
    command = ["lecture", "--only", "logits", "--checkpoint", str(tmp_path)]
    done = CliRunner().invoke(jaxnet.lecture.cli.main, command)
    assert done.exit_code == 1 and "logits" in done.stdout, done.output
    assert "Warning: epoch 10 could not be saved" in done.stderr
    assert "what was saved before stays" in done.stderr
    assert done.stderr.splitlines()[-1] == "Error: the end of logits could not be saved."


def test_a_folder_that_a_run_filled_is_restored_by_its_arrays_alone(tmp_path):
    """`about=None` compares no settings, and `{}` all of them."""
    state, history = fit(2, Checkpoint(tmp_path))
    assert_same_run(Checkpoints(tmp_path).restore(like=state), (state, history))
    with pytest.raises(CheckpointMismatchError, match="is of another run"):
        Checkpoints(tmp_path, about={}).restore(like=state)


def test_an_epoch_that_cannot_be_saved_again_stays(saved, folder, monkeypatch):
    """Resumed from before it, as after damage that went away: what was there is put back."""
    checkpoints = Checkpoints(folder)
    assert checkpoints.restore(like=saved[0]) is not None
    checkpoints.saved = 4
    with monkeypatch.context() as patch:
        patch.setattr(jaxnet.checkpoint.folder, "write", _fail)
        with pytest.warns(UserWarning, match="epoch 5 could not be saved in .*: OSError: full"):
            assert not checkpoints.save(5, *saved)
    assert checkpoints.list_epochs() == [3, 4, 5]
    found = Checkpoints(folder).restore(like=saved[0])
    assert found is not None
    assert_same_run(found, saved)
    assert checkpoints.save(5, *saved)
    checkpoints.close()
    assert sorted(path.name for path in folder.iterdir()) == list("345")


def _fail(*_):
    raise OSError("full")


def test_as_many_stay_as_are_kept(saved, folder):
    assert Checkpoints(folder).list_epochs() == [3, 4, 5]


def test_fewer_epochs_than_are_saved_are_rejected(folder):
    fit(5, Checkpoint(folder), report=Report())
    with pytest.raises(ValueError, match="epochs must be at least the 5 .*, not 4"):
        fit(4, resume(folder), report=Report())
