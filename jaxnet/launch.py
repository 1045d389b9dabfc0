"""`python -m jaxnet.launch`: one run in many processes of this machine, and an end to all of them.

The processes are started, told of one another and watched. When one ends before its time, the
others are ended too, so that nothing waits for what will not come.
"""

import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import click

from jaxnet.checks import check_count
from jaxnet.cli.lecture import command as lecture
from jaxnet.cli.options import COMMAND, LAUNCHER
from jaxnet.hosts import LOST

WAIT = 8
"""Seconds that the others have to end by themselves, once one has failed; none if it was killed."""
KILL = 3
"""Seconds from SIGTERM to SIGKILL, for what is still there then."""

_POLL = 0.05


@click.command(
    "launch",
    context_settings={"help_option_names": ["-h", "--help"], "ignore_unknown_options": True},
)
@click.option("--nproc", type=click.IntRange(1), required=True, help="How many processes.")
@click.option(
    "--devices-per-process",
    "devices",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="CPU devices, or GPUs, of each.",
)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    help="Where process 0 is reached by the others.  [default: one that is free]",
)
@click.argument("arguments", metavar="-- lecture ...", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def command(
    context: click.Context, nproc: int, devices: int, port: int | None, arguments: tuple[str, ...]
) -> None:
    """Run `jaxnet lecture` in many processes on this machine, each with devices of its own.

    On the CPU each process has as many devices as is asked for; on GPUs process 0 has the first
    ones, process 1 the next. What the first prints is shown as it is, what the others say on
    standard error begins with their number.

    When a process fails, the others have 8 seconds to end by themselves; when one is killed, they
    are ended at once. The exit
    status is 75 where one was killed by a signal, else that of the one that failed. Ctrl-C lets
    all finish what is under way and save; a second one kills them.

    \b
    Examples:
      python -m jaxnet.launch --nproc 2 -- lecture
      python -m jaxnet.launch --nproc 2 -- lecture --only minibatch --checkpoint runs
      python -m jaxnet.launch --nproc 3 -- lecture --only minibatch --checkpoint runs --resume
      python -m jaxnet.launch --nproc 2 --devices-per-process 4 -- lecture --json results.json
    """
    saves = _check_arguments(arguments)
    own = ["python", "-m", "jaxnet.launch", "--nproc", str(nproc)]
    own += ["--devices-per-process", str(devices)] * (devices > 1)
    again = shlex.join([*own, "--", *arguments])
    advice = f"to go on, with as many processes as you like: {again}"
    if "--resume" not in arguments:
        advice += " --resume"
    coordinator = f"127.0.0.1:{find_port() if port is None else port}"
    commands = [
        [sys.executable, "-m", "jaxnet", *arguments, *_name_place(coordinator, nproc, number)]
        for number in range(nproc)
    ]
    environments = [make_environment(number, devices, again) for number in range(nproc)]
    context.exit(run_all(commands, environments, advice if saves else ""))


def _check_arguments(arguments: Sequence[str]) -> bool:
    """Refuse what `jaxnet lecture` would refuse; whether the run is saved as it goes."""
    if not arguments or arguments[0] != "lecture":
        given = f"not {arguments[0]!r}" if arguments else "after --"
        raise click.UsageError(f"what is run must be lecture and its options, {given}")
    with lecture.make_context("jaxnet lecture", list(arguments[1:])) as parsed:
        for name in ("distributed", "coordinator", "num_processes", "process_id"):
            if parsed.params[name] is not None and parsed.params[name] is not False:
                option = "--" + name.replace("_", "-")
                raise click.UsageError(f"{option} is given to each process here: leave it out")
        return parsed.params["checkpoint"] is not None


def _name_place(coordinator: str, count: int, number: int) -> list[str]:
    place = ["--distributed", "--coordinator", coordinator]
    return [*place, "--num-processes", str(count), "--process-id", str(number)]


def find_port() -> int:
    """A port of the loopback that is free now.

    >>> 0 < find_port() < 65536
    True
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def make_environment(number: int, devices: int = 1, command: str = "") -> dict[str, str]:
    """The environment of one process: its share of the devices, whatever kind JAX finds.

    Args:
      number: of the process, from 0.
      devices: that each has.
      command: how all of them were started, for what they say of going on.

    >>> make_environment(1, 2)["JAX_LOCAL_DEVICE_IDS"]
    '2,3'
    """
    if isinstance(number, bool) or not isinstance(number, int) or number < 0:
        raise ValueError(f"number must be an integer of at least 0, not {number!r}")
    check_count("devices", devices)
    first = number * devices
    own = {
        "JAX_NUM_CPU_DEVICES": str(devices),
        # Of the GPUs that CUDA_VISIBLE_DEVICES leaves; no other device asks for it.
        "JAX_LOCAL_DEVICE_IDS": ",".join(map(str, range(first, first + devices))),
        COMMAND: command,
        LAUNCHER: str(os.getpid()),
    }
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1") == "1":  # as JAX sets it: the runtime's
        own["TF_CPP_MIN_LOG_LEVEL"] = "2"  # warnings of its own ways go, its errors stay
    return {**os.environ, **own}


def run_all(
    commands: Sequence[Sequence[str]], environments: Sequence[Mapping[str, str]], advice: str = ""
) -> int:
    """Run these together, each in a process, until all have ended; the exit status for it.

    All end when one ends before its time, and when this process is told to end. Those of `jaxnet`
    end on Linux when it is killed, too.

    Args:
      commands: what each runs.
      environments: of each.
      advice: what to do when one was lost; said at the end.

    Returns:
      0 where all ended well, a status that all have in common, 75 where one was killed by a signal,
      else the status of the one that failed first.

    >>> run_all([["true"], ["true"]], [{}, {}])
    0
    """
    if not commands:
        raise ValueError("commands must hold at least one command, not none")
    if len(commands) != len(environments):
        raise ValueError(
            f"environments must be one for each of {len(commands)} commands, "
            f"not {len(environments)}"
        )
    group = _Group()
    with group.signals():
        try:
            for command, environment in zip(commands, environments, strict=True):
                group.start(command, environment)
            return group.wait(advice)
        finally:
            group.kill()


class _Group:
    """Processes that end together."""

    def __init__(self):
        self._processes: list[subprocess.Popen] = []
        self._threads: list[threading.Thread] = []
        self._shown: dict[str, int] = {}
        self._told: int | None = None
        """The signal that this process was told to end by."""
        self._end = float("inf")
        """When those that live are told to end, and from when on they are killed."""

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start the next one, in a group of its own: the terminal's Ctrl-C is handed on once."""
        number = len(self._processes)
        piped: dict[str, Any] = {}
        if number:
            piped = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "errors": "replace"}
        process = subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            process_group=0,
            **piped,
        )
        self._processes.append(process)
        if process.stdout is not None:
            thread = threading.Thread(target=self._show, args=(number, process.stdout), daemon=True)
            thread.start()
            self._threads.append(thread)

    def _show(self, number: int, lines: Iterable[str]) -> None:
        """Show what one says, unless another has said the same."""
        for line in lines:
            if self._shown.setdefault(line, number) == number:
                _say(f"[{number}] {line.rstrip()}")

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Hand on what this process is told."""
        handled = {signal.SIGINT: self._interrupt}
        handled |= dict.fromkeys((signal.SIGTERM, signal.SIGHUP), self._terminate)
        before = {number: signal.signal(number, do) for number, do in handled.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _interrupt(self, number: int, frame: Any) -> None:
        again, self._told = self._told is not None, number
        self._send(signal.SIGKILL if again else signal.SIGINT)

    def _terminate(self, number: int, frame: Any) -> None:
        self._told, self._end = number, min(self._end, time.monotonic())

    def _send(self, number: int) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(number)

    def kill(self) -> None:
        """Leave none behind."""
        self._send(signal.SIGKILL)
        for process in self._processes:
            process.wait()
        for thread in self._threads:
            thread.join(1)
        for process in self._processes:
            if process.stdout is not None:
                process.stdout.close()

    def wait(self, advice: str) -> int:
        """Wait for all, and end the others when one ends before its time; the exit status."""
        culprit = None
        while None in (codes := [process.poll() for process in self._processes]):
            if culprit is None and any(codes):
                time.sleep(2 * _POLL)  # what one drags along ends with it
                culprit = _find_culprit([process.poll() for process in self._processes])
                code = self._processes[culprit].returncode
                wait = WAIT if code > 0 else 0  # of a kill they would hear later than that
                self._end = min(self._end, time.monotonic() + wait)
                if code < 0 and self._told is None:
                    self._blame(culprit, code)
            self._end_rest()
            time.sleep(_POLL)
        for thread in self._threads:
            thread.join(1)
        return self._judge([process.wait() for process in self._processes], culprit, advice)

    def _end_rest(self) -> None:
        late = time.monotonic() - self._end
        if late > KILL:
            self._send(signal.SIGKILL)
        elif late > 0:
            self._send(signal.SIGTERM)

    def _judge(self, codes: list[int], culprit: int | None, advice: str) -> int:
        """The status of it all, said where no process has said it."""
        if self._told is not None:
            return 128 + self._told if any(codes) else 0
        if len(set(codes)) == 1 and codes[0] >= 0:
            return codes[0]
        if culprit is None:
            culprit = _find_culprit(codes)
            if codes[culprit] < 0:
                self._blame(culprit, codes[culprit])
        code = codes[culprit]
        if code > 0:
            self._blame(culprit, code)
        if advice:
            _say(advice)
        return LOST if code < 0 else code

    def _blame(self, number: int, code: int) -> None:
        how = f"ended with status {code}"
        if code < 0:
            how = f"was killed by signal {-code} ({_name_signal(-code)})"
        who = f"process {number} of {len(self._processes)}"
        if number == 0:
            who += ", the coordinator,"
        end = KILL if code < 0 else WAIT + KILL
        _say(f"Error: {who} {how}: the others cannot go on, and end within {end} seconds")


def _find_culprit(codes: Sequence[int | None]) -> int:
    """Which one ended first, of those that have not ended well: not who was dragged along."""

    def rank(number: int) -> tuple[int, int]:
        code = codes[number]
        order = (LOST, -signal.SIGABRT)  # a lost peer's; the runtime's, when the coordinator goes
        return (1 + order.index(code) if code in order else 0, number)

    return min((number for number, code in enumerate(codes) if code), key=rank)


def _name_signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unnamed"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    command(prog_name="python -m jaxnet.launch")
