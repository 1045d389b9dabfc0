"""One run in many processes, on one machine or on many: who is there, who is first, who was lost.

`jax.distributed` connects them, JAX's collectives do the work. Here is what a run needs around
that: decisions that depend on a clock or a disk are the first process's, files are its alone, and
a process that is lost ends the others with its number, in a stated time.
"""

import itertools
import os
import pickle
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import jax
import numpy as np
from jax._src import distributed
from jax.experimental import multihost_utils

from jaxnet.checks import check_count

HEARTBEAT = 10
"""Seconds without a sign of life after which a process counts as lost."""
GRACE = 5
"""Seconds that the main thread has to end by itself, once a peer is lost."""
LOST = 75
"""The exit status of a process that ends because a peer was lost: start all of them again."""

END_WITHIN = 30
"""Seconds in which every process has ended, once one was lost, where `connect` has its defaults."""

_ENDS = "jaxnet/ends/"  # where each process that ends before its time says why
_TALK = "jaxnet/talk/"  # where processes leave what others wait for
_PART = 2**20  # bytes of a message to the coordinator
_FAILURES = 5  # answers that may fail to come, one after another, before nobody asks any more
_POLL = 500  # milliseconds between two looks at whether anybody was lost
_turns = itertools.count()
_forgotten = [0]  # turns that nobody asks for any more
_watches: list["_Watch"] = []
_SIGNS = ("gloo", "nccl", "unavailable", "connection", "peer", "heartbeat", "coordination")

_Value = TypeVar("_Value")


class PeerLost(RuntimeError):
    """Another process of the run ended or fell silent; `processes` are the numbers of those."""

    def __init__(self, processes: list[int], count: int, advice: str = ""):
        self.processes = processes
        which = ", ".join(map(str, processes))
        many = "processes" if len(processes) > 1 else "process"
        verb = "were" if len(processes) > 1 else "was"
        super().__init__(
            f"{many} {which} of {count} {verb} lost: this run cannot go on without"
            + (f"\n{advice}" if advice else "")
        )


def is_first() -> bool:
    """Whether this process is the one that prints and writes; true where there is only one.

    >>> is_first()
    True
    """
    return jax.process_index() == 0


def agree(value: _Value) -> _Value:
    """The first process's value, exactly; called by all, in one order with all such calls.

    Like `gather` and `on_first` it goes by way of the coordinator, not of the devices: it waits as
    long as it takes, and ends with `PeerLost` where a process was lost meanwhile.

    >>> agree(3)
    3
    """
    return on_first(lambda: value)


def gather(value: _Value) -> list[_Value]:
    """What each process gave, in the order of their numbers; called by all, as `agree` is.

    >>> gather("mine")
    ['mine']
    """
    if jax.process_count() == 1:
        return [value]
    turn = next(_turns)
    _send(f"{turn}/{jax.process_index()}", pickle.dumps(value))
    if not is_first():
        return pickle.loads(_receive(f"{turn}/all"))
    values = [pickle.loads(_receive(f"{turn}/{number}")) for number in range(jax.process_count())]
    for old in range(_forgotten[0], turn):  # who is here has read what came before
        _client().key_value_delete(f"{_TALK}{old}/")
    _forgotten[0] = turn
    _send(f"{turn}/all", pickle.dumps(values))
    return values


def any_of(flag: bool) -> bool:
    """Whether it holds in any process; called by all, as `agree` is.

    >>> any_of(False)
    False
    """
    return any(gather(bool(flag)))


def meet() -> None:
    """Wait until every process is here, however long that takes; called by all.

    Collectives by themselves wait for a process that is late for half a minute.

    >>> meet()
    """
    gather(None)


def on_first(function: Callable[[], _Value]) -> _Value:
    """What a function gives, or raises, in the first process, where alone it is called.

    For files: one process reads or writes them, and all go on with what came of it. Called by all,
    as `agree` is; what the function gives is pickled.

    >>> on_first(lambda: "read once")
    'read once'
    """
    if jax.process_count() == 1:
        return function()
    turn = next(_turns)
    if not is_first():
        value, error = pickle.loads(_receive(f"{turn}/first"))
        if error is not None:
            raise error
        return value
    try:
        value = function()
        packed = pickle.dumps((value, None))
    except Exception as error:
        _send(f"{turn}/first", _pack_error(error))
        raise
    _send(f"{turn}/first", packed)
    return value


def _pack_error(error: Exception) -> bytes:
    try:
        packed = pickle.dumps((None, error))
        pickle.loads(packed)
        return packed
    except Exception:  # an error of more arguments than it gives back, for one
        return pickle.dumps((None, RuntimeError(f"{type(error).__name__}: {error}")))


def check_same(values: Mapping[str, Any]) -> None:
    """Refuse what is not the same in every process, by its name; called by all.

    >>> check_same({"epochs": 3})
    """
    first, *others = gather(dict(values))
    for number, theirs in enumerate(others, 1):
        for name, value in first.items():
            if value != theirs.get(name):
                raise ValueError(
                    f"{name} must be the same in every process, but process {number} has "
                    f"{theirs.get(name)!s:.80} and process 0 has {value!s:.80}"
                )


def _send(name: str, packed: bytes) -> None:
    """Leave bytes with the coordinator, in parts that a message can carry."""
    parts = [packed[begin : begin + _PART] for begin in range(0, len(packed), _PART)]
    for number, part in enumerate(parts):
        _client().key_value_set_bytes(f"{_TALK}{name}/{number}", part)
    _client().key_value_set_bytes(f"{_TALK}{name}/parts", str(len(parts)).encode())


def _receive(name: str) -> bytes:
    """Wait for bytes that another process leaves."""
    count = int(_wait_for(f"{_TALK}{name}/parts"))
    return b"".join(_wait_for(f"{_TALK}{name}/{number}") for number in range(count))


def _wait_for(key: str) -> bytes:
    """A value of the coordinator's; meanwhile Ctrl-C works, and a lost process is an error."""
    while True:
        try:
            return _client().blocking_key_value_get_bytes(key, _POLL)
        except Exception as error:  # of no special type
            if "DEADLINE_EXCEEDED" not in str(error):
                raise
        if _watches and _watches[-1].lost:
            raise _watches[-1].error()


def _client() -> Any:
    """The coordinator's client, for which JAX has no public name yet."""
    return distributed.global_state.client


def fetch(values: Any) -> np.ndarray:
    """An array as NumPy has it, also one whose parts lie with other processes; called by all.

    >>> print(fetch(np.ones(2)))
    [1. 1.]
    """
    if isinstance(values, jax.Array) and not (
        values.is_fully_addressable or values.is_fully_replicated
    ):
        return np.asarray(multihost_utils.process_allgather(values, tiled=True))
    return np.asarray(values)


def is_shared(tree: Any) -> bool:
    """Whether some of these arrays lie with other processes too.

    >>> is_shared({"weight": np.ones(2)})
    False
    """
    arrays = (leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, jax.Array))
    return not all(array.is_fully_addressable for array in arrays)


@contextmanager
def connect(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    heartbeat: int = HEARTBEAT,
    advice: str = "",
) -> Iterator[None]:
    """What runs in here runs in every process together, on all of their devices.

    Without arguments `jax.distributed.initialize` finds the others by itself, on Slurm, Open MPI,
    Kubernetes and cloud TPUs. To be entered before JAX is used for anything.

    When a process is killed, freezes or loses its network, each of the others ends within
    `END_WITHIN` seconds: with `PeerLost`, or, where its main thread waits inside a collective that
    never ends, by printing that error and leaving with the status `LOST`. The coordinator is
    process 0; when that one is lost, JAX's runtime aborts the others at once, with a message of its
    own: `python -m jaxnet.launch` says it in a sentence.

    All processes make the same calls in the same order, as JAX demands: they pass the same
    arguments to `jaxnet.fit` and have the same hooks. What is not the same of data, seeds and
    settings is refused.

    Args:
      coordinator: "HOST:PORT", where process 0 can be reached.
      num_processes: how many there are.
      process_id: which of them this one is, from 0.
      heartbeat: seconds after which a silent process counts as lost.
      advice: what to do then; ends the error's message.

    Raises:
      ValueError: an argument is out of range, or only some of the first three are given.
      RuntimeError: JAX was used before, or the others were not found.
      ConnectionError: the coordinator's port is taken.
      PeerLost: a process was lost.

    torch has `torch.distributed.init_process_group`, and `torchrun` to start processes.

    Source: `jax.distributed.initialize`, `jax.experimental.multihost_utils.live_devices`.
    """
    check_place(coordinator, num_processes, process_id)
    check_count("heartbeat", heartbeat)
    _initialize(coordinator, num_processes, process_id, heartbeat)
    watch = _Watch(advice)
    _watches.append(watch)
    try:
        yield
        meet()
    except BaseException as error:
        if _is_of_a_peer(error) and watch.wait(2 * heartbeat):
            raise watch.error() from error
        _tell(error)
        raise
    finally:
        _watches.remove(watch)
        watch.stop()
        _leave(heartbeat)
        watch.join()


def is_of_all(error: BaseException) -> bool:
    """Whether the first process, too, ends with this error, and so is the one to say it.

    To be asked while `connect` is open. Waits two seconds for the first process to end.

    >>> is_of_all(ValueError("mine"))
    False
    """
    if jax.process_count() == 1 or is_first():
        return False
    _tell(error)
    try:
        return _client().blocking_key_value_get(f"{_ENDS}0", 2000) == _name(error)
    except Exception:  # it goes on, or is gone
        return False


def _name(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _tell(error: BaseException) -> None:
    """Let the others know that this process ends, and does not wait to be found missing."""
    if jax.process_count() == 1:
        return
    try:
        key = f"{_ENDS}{jax.process_index()}"
        _client().key_value_set(key, _name(error), allow_overwrite=True)
    except Exception:  # there is nobody left to be told
        pass


def check_place(coordinator: Any, num_processes: Any, process_id: Any) -> None:
    """Refuse a place among processes that cannot be."""
    given = {
        "coordinator": coordinator,
        "num_processes": num_processes,
        "process_id": process_id,
    }
    missing = [name for name, value in given.items() if value is None]
    if len(missing) == len(given):
        return
    if missing:
        raise ValueError(
            f"coordinator, num_processes and process_id go together, or none of them where the "
            f"cluster tells; {', '.join(missing)} is missing"
        )
    host, _, port = str(coordinator).rpartition(":")
    if not isinstance(coordinator, str) or not host or not port.isdecimal():
        raise ValueError(f"coordinator must be 'HOST:PORT', not {coordinator!r}")
    if not 0 < int(port) < 65536:
        raise ValueError(f"coordinator must have a port from 1 to 65535, not {port}")
    count = check_count("num_processes", num_processes)
    if isinstance(process_id, bool) or not isinstance(process_id, int | np.integer):
        raise ValueError(f"process_id must be an integer, not {process_id!r}")
    if not 0 <= process_id < count:
        raise ValueError(f"process_id must be from 0 to {count - 1}, not {process_id}")


def _initialize(coordinator: Any, count: Any, number: Any, heartbeat: int) -> None:
    config: Any = jax.config
    # Without this the runtime aborts each process when any is lost, before one can say which.
    config.update("jax_enable_recoverability", True)
    # It would take SIGTERM, and nobody asks it: a process that is told to end is to end.
    config.update("jax_enable_preemption_service", False)
    if number == 0:
        _check_port(coordinator)
    try:
        jax.distributed.initialize(coordinator, count, number, heartbeat_timeout_seconds=heartbeat)
    except ValueError as error:
        raise ValueError(
            f"the other processes were not found ({str(error).rstrip('.')}): on Slurm, Open MPI, "
            "Kubernetes and cloud TPUs they are, elsewhere give coordinator, num_processes and "
            "process_id"
        ) from error


def _check_port(coordinator: str) -> None:
    """Refuse a port that another program has: the runtime would share it, and wait for nobody."""
    port = int(coordinator.rpartition(":")[2])
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            raise ConnectionError(
                f"coordinator {coordinator} cannot be set up, port {port} is taken: choose another"
            ) from error


def _is_of_a_peer(error: BaseException) -> bool:
    """Whether an error may come of a peer that is gone; a collective's is of no special type."""
    if isinstance(error, PeerLost) or not isinstance(error, RuntimeError | ValueError):
        return False
    text = f"{type(error).__name__} {error}".lower()
    return any(sign in text for sign in _SIGNS)


def _list_live() -> set[int]:
    """The numbers of the processes that live; waits for each of these to ask the same."""
    live: Any = getattr(jax, "live_devices", None) or multihost_utils.live_devices
    try:
        with live(jax.devices()):
            pass
    except Exception:  # someone was lost between the two: asked again, it says who is left
        pass
    with live(jax.devices()) as devices:
        return {device.process_index for device in devices}


class _Watch:
    """A thread that asks once a second who lives, and ends the process if that is not all."""

    def __init__(self, advice: str):
        self.lost: list[int] = []
        """The lost processes, once they are known."""
        self._advice = advice
        self._found, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        if jax.process_count() > 1:
            self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Wait until it is known whether somebody was lost, at most so long."""
        self._found.wait(seconds)
        return bool(self.lost)

    def error(self) -> PeerLost:
        """What is to be raised once somebody was lost."""
        return PeerLost(self.lost, jax.process_count(), self._advice)

    def stop(self) -> None:
        self._over.set()

    def join(self) -> None:
        """Wait for the thread: Python may not end while it is inside the runtime."""
        if self._thread.ident is not None:
            self._thread.join(GRACE)

    def _run(self) -> None:
        everyone, failures = set(range(jax.process_count())), 0
        while not self._over.wait(1):
            try:
                lost, failures = _list_ended() or everyone - _list_live(), 0
            except Exception:  # the runtime is shutting down, or was too busy to answer
                lost, failures = set(), failures + 1
                if failures == _FAILURES:
                    return
            if lost and not self._over.is_set():
                self.lost = sorted(lost)
                self._found.set()
                if not self._over.wait(GRACE):
                    # The runtime is the main thread's to shut down, and that is stuck in it.
                    print(f"Error: {self.error()}", file=sys.stderr, flush=True)
                    sys.stdout.flush()
                    time.sleep(GRACE if is_first() else 0)  # the others depend on it until they end
                    os._exit(LOST)
                return


def _list_ended() -> set[int]:
    """The numbers of the other processes that have said that they end."""
    found = {int(key.rpartition("/")[2]) for key, _ in _client().key_value_dir_get(_ENDS)}
    return found - {jax.process_index()}


def _leave(seconds: int) -> None:
    """Take leave of the others; the first, whom they all depend on, is the last to go."""
    end = time.monotonic() + seconds
    if jax.process_count() > 1 and is_first():
        try:
            while time.monotonic() < end and _list_live() != {0}:
                time.sleep(0.05)
        except Exception:
            pass
    jax.distributed.shutdown()
