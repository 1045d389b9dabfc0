"""Compiled programs kept on disk: found again, bounded, and out of the way where not wanted."""

import platform
from contextlib import contextmanager
from pathlib import Path

import jax
import jax.monitoring
import jax.numpy as jnp
import pytest

from jaxnet import cache
from jaxnet._utils import disk
from jaxnet.cache import kept_programs


@pytest.fixture
def hits(monkeypatch, tmp_path):
    """How many programs were found on disk so far; the user's cache is an empty folder.

    JAX's settings are its own defaults, not those that the suite runs with.
    """
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = dict(zip(disk._NAMES, read_settings(), strict=True))
    defaults = {name: default for name, (default, _) in disk._SETTINGS.items()}
    disk._set({"jax_compilation_cache_dir": None, **defaults})
    found: list[str] = []

    def listen(event, **_):
        if event == "/jax/compilation_cache/cache_hits":
            found.append(event)

    jax.monitoring.register_event_listener(listen)
    yield found
    jax.monitoring.unregister_event_listener(listen)
    disk._set(before)


def compile_something(number=1.0):
    """A new function, as a new process has it: JAX looks for its program on disk."""
    return float(jax.jit(lambda x: jnp.sin(x) * number)(jnp.float32(2.0)))


def read_settings():
    return [getattr(jax.config, name) for name in disk._NAMES]


def test_a_small_program_is_compiled_once(hits, tmp_path):
    before = read_settings()
    with kept_programs() as folder:
        first = compile_something()
        assert folder is not None
        assert folder == str(tmp_path / "jaxnet" / "programs" / disk.name_target())
        assert list(Path(folder).glob("jit_*"))
        assert not hits
        assert compile_something() == first
        assert hits
    assert read_settings() == before


def test_one_line_keeps_the_rest_of_a_process(hits, tmp_path):
    folder = cache.enable()
    assert folder == str(tmp_path / "jaxnet" / "programs" / disk.name_target())
    compile_something()
    assert not hits and list(Path(folder).glob("jit_*"))
    compile_something()
    assert hits
    assert cache.enable(tmp_path / "mine") == str(tmp_path / "mine" / disk.name_target())
    assert jax.config.jax_compilation_cache_dir.startswith(str(tmp_path / "mine"))  # pyright: ignore


def test_the_folder_is_of_this_kind_of_processor(monkeypatch):
    name = disk.name_target()
    monkeypatch.setattr(Path, "read_text", lambda path, **_: "flags : fpu avx2\n")
    other = disk.name_target()
    assert other != name and other == disk.name_target()
    assert name.startswith(platform.machine())


def test_nothing_is_kept_where_it_is_not_wanted_or_cannot_be(hits, monkeypatch, tmp_path):
    """Where a file is in the way, and where there is no home."""

    def find_no_home(path):
        raise RuntimeError("Could not determine home directory.")

    before = read_settings()
    with kept_programs(False) as folder:
        compile_something()
    assert folder is None and not list(tmp_path.iterdir()) and read_settings() == before
    (tmp_path / "jaxnet").write_text("a file")
    with kept_programs() as folder:
        assert compile_something() == compile_something()
    assert folder is None and not hits
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "expanduser", find_no_home)
    with kept_programs() as folder:
        compile_something()
    assert folder is None


def test_what_a_killed_process_leaves_is_cleared(hits, tmp_path):
    with kept_programs() as folder:
        compile_something()
    programs = sorted(Path(str(folder)).glob("*-cache"))
    for file in Path(str(folder)).glob("*-atime"):
        file.unlink()
    with kept_programs():
        compile_something()
        assert not hits
        compile_something()
    assert hits and sorted(Path(str(folder)).glob("*-cache")) == programs


@contextmanager
def setting(name: str, value):
    """As a user sets it."""
    before = getattr(jax.config, name)
    jax.config.update(name, value)
    try:
        yield
    finally:
        jax.config.update(name, before)


def test_settings_of_the_user_stand(hits):
    with setting("jax_enable_compilation_cache", False), kept_programs() as folder:
        assert folder is None
    with setting("jax_persistent_cache_min_compile_time_secs", 5.0):
        with kept_programs() as folder:
            compile_something()
        assert not list(Path(str(folder)).glob("*-cache"))


def test_the_users_own_folder_decides(hits, tmp_path):
    with setting("jax_compilation_cache_dir", str(tmp_path / "own")):
        before = read_settings()
        with kept_programs() as folder:
            assert read_settings() == before
        assert folder == str(tmp_path / "own") and not (tmp_path / "jaxnet").exists()


def test_the_folder_stays_within_its_limit(hits, monkeypatch):
    limit = 20_000  # a few of these programs
    monkeypatch.setitem(disk._SETTINGS, "jax_compilation_cache_max_size", (-1, limit))
    with kept_programs() as name:
        folder = Path(str(name))
        for number in range(8):
            compile_something(number)
            assert sum(file.stat().st_size for file in folder.glob("*-cache")) <= limit
        names = {file.name for file in folder.glob("*-cache")}
        compile_something(100.0)
        assert {file.name for file in folder.glob("*-cache")} - names
