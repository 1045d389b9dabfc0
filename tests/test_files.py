"""Files that are written whole: what stays where, with which permissions, and after a failure."""

import errno
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from jaxnet._utils.files import check_file, check_folder, save_or_rescue, write_whole
from tests.helpers import each_row


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_files_named_like_a_temporary_one_stay(tmp_path):
    """A planted link is not written through, and the user's own file is not deleted."""
    mine, victim = tmp_path / "a.json.part", tmp_path / "victim"
    mine.write_text("mine")
    victim.write_text("victim")
    (tmp_path / "b.json.part").symlink_to(victim)
    for name in ("a.json", "b.json"):
        write_whole(tmp_path / name, "new")
        assert (tmp_path / name).read_text() == "new"
    assert mine.read_text() == "mine" and victim.read_text() == "victim"
    assert len(names(tmp_path)) == 5


def test_a_name_may_have_as_many_bytes_as_the_system_allows(tmp_path):
    write_whole(tmp_path / ("x" * 255), "new")
    assert names(tmp_path) == ["x" * 255]


@each_row("mode", [0o600, 0o640, 0o666, 0o755])
def test_a_file_that_is_replaced_keeps_its_permissions(mode, tmp_path):
    path = tmp_path / "it"
    path.write_text("old")
    path.chmod(mode)
    write_whole(path, "new")
    assert stat.S_IMODE(path.stat().st_mode) == mode and path.read_text() == "new"


def test_a_new_file_has_the_permissions_of_any_other(tmp_path):
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "it", "new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "it").stat().st_mode) == 0o640


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="there is one file system")
def test_a_link_is_followed_to_another_file_system(tmp_path):
    """The temporary file lies beside the target: a move from elsewhere would fail."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere:
        target, link = Path(elsewhere, "it"), tmp_path / "link"
        link.symlink_to(target)
        for content in ("the first, at the end of a dangling link", "the next"):
            write_whole(link, content)
            assert link.is_symlink() and target.read_text() == content
        assert names(tmp_path) == ["link"] and names(target.parent) == ["it"]


def test_links_that_lead_nowhere_are_an_error(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "lost").symlink_to(tmp_path / "none" / "it")
    for name in ("loop", "lost"):
        with pytest.raises(OSError, match=name):
            write_whole(tmp_path / name, "new")
    assert names(tmp_path) == ["loop", "lost"]
    write_whole(tmp_path / "lost", "new", parents=True)
    assert (tmp_path / "none" / "it").read_text() == "new"


def test_a_device_and_a_pipe_are_written_as_they_are(tmp_path):
    write_whole(os.devnull, "new")
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        write_whole("/dev/full", "new")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    code = "import sys; print(open(sys.argv[1]).read(), end='')"
    with subprocess.Popen([sys.executable, "-c", code, pipe], stdout=subprocess.PIPE) as reader:
        write_whole(pipe, "new")
        assert reader.communicate()[0] == b"new" and pipe.is_fifo()


@each_row(
    ("at", "error"),
    [
        ("fsync", OSError(errno.ENOSPC, "No space left on device")),
        ("replace", OSError(errno.EBUSY, "Device or resource busy")),
        ("replace", KeyboardInterrupt()),
    ],
)
def test_a_failure_leaves_the_old_file_and_nothing_else(at, error, tmp_path, monkeypatch):
    def fail(*_):
        raise error

    path = tmp_path / "it"
    path.write_text("old")
    with monkeypatch.context() as patch, pytest.raises(type(error)) as raised:
        patch.setattr(os, at, fail)
        write_whole(path, "new")
    assert path.read_text() == "old" and names(tmp_path) == ["it"]
    if isinstance(error, OSError):
        assert str(raised.value) == f"[Errno {error.errno}] {error.strerror}: '{path}'"


def test_of_two_writers_each_writes_a_whole_file(tmp_path, monkeypatch):
    """The second one begins and ends while the first one writes."""
    path, replace = tmp_path / "it", os.replace

    def meanwhile(*places):
        monkeypatch.setattr(os, "replace", replace)
        write_whole(path, "second")
        assert path.read_text() == "second"
        replace(*places)

    monkeypatch.setattr(os, "replace", meanwhile)
    write_whole(path, "first")
    assert path.read_text() == "first" and names(tmp_path) == ["it"]


NOWHERE = Path("/proc/none")
"""Not even root makes a file there."""


@each_row(
    ("check", "path", "says"),
    [
        (check_file, "", "--it: the name of the file to write is empty"),
        (check_file, "folder", "--it must be a file, not the folder .*folder"),
        (check_file, "file/new", "--it needs the folder .*file, but .*file is a file"),
        (check_file, "loop", "--it cannot be .*loop: Too many levels"),
        (check_file, "n" * 256, "--it cannot be .*n: File name too long"),
        (check_file, NOWHERE, "--it needs /proc, which cannot be written"),
        (check_file, "lost", "--it needs /proc, which cannot be written"),
        (check_file, "/proc/version", "--it needs /proc"),
        (check_folder, "file", "--it needs the folder .*file, but .*file is a file"),
        (check_folder, "n" * 256, "--it cannot be .*n: File name too long"),
        (check_folder, NOWHERE, "--it needs /proc, which cannot be written"),
    ],
)
def test_what_cannot_be_written_is_said_beforehand(check, path, says, tmp_path):
    folder = tmp_path / "rows"
    if not folder.exists():
        (folder / "folder").mkdir(parents=True)
        (folder / "file").write_text("")
        (folder / "loop").symlink_to(folder / "loop")
        (folder / "lost").symlink_to(NOWHERE)
    with pytest.raises((OSError, ValueError), match=says):
        check("--it", folder / path if path else Path(path))
    assert names(folder) == ["file", "folder", "loop", "lost"]


def test_what_can_be_written_passes_and_nothing_is_made(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("file")
    for path in ("file", "link", "new", "a/b/new", os.devnull):
        check_file("--it", tmp_path / path)
        check_file("--it", tmp_path / path, replaced=False)
    for path in ("", "new", "a/b"):
        check_folder("--it", tmp_path / path)
    assert names(tmp_path) == ["file", "link"]


def test_a_result_that_cannot_be_saved_is_saved_elsewhere(tmp_path, monkeypatch):
    taken, temporary = tmp_path / "it.json", tmp_path / "temporary"
    taken.mkdir()
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    for content in ("a result", b"a result", lambda place: write_whole(place, "a result")):
        assert save_or_rescue(tmp_path / "new" / "it.json", content) is None
        said = save_or_rescue(taken, content)
        assert said and said.startswith(f"{taken} could not be written (Is a directory): saved as ")
        place = Path(said.split()[-2])
        assert place.name == "it.json" and place.is_relative_to(temporary)
        assert place.read_text() == "a result"


def test_where_no_file_can_be_made_a_result_is_printed(tmp_path, monkeypatch, capsys):
    """What was begun in the temporary folder does not stay either."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(os, "fsync", lambda _: os.write(os.open("/dev/full", os.O_WRONLY), b"x"))
    why = f"{tmp_path / 'it'} could not be written (No space left on device)"
    assert save_or_rescue(tmp_path / "it", "a result\n") == f"{why}: printed instead"
    assert save_or_rescue(tmp_path / "it", b"a result\n") == f"{why}, nor anywhere else"
    assert capsys.readouterr().out == "a result\n" and not names(tmp_path)
