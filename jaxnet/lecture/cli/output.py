"""What a command leaves: files, and lines on standard output."""

import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from jaxnet._utils import files
from jaxnet._utils.streams import BestEffort, prepare_streams, write_out


class Commands(click.Group):
    """Commands that may have any streams; what cannot be written, --help too, is status 2."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Run a command and end the process."""
        prepare_streams()
        try:
            return super().main(*arguments, **options)
        except OSError as error:
            write_out("")  # what waits to be written must not fail once more at Python's end
            click.echo(f"Error: {error}", err=True)
            sys.exit(2)


class Output:
    """Files and lines of one command; what cannot be written makes its exit status 2.

    Tables and sentences are laid out for `width` columns at least. A terminal that has fewer breaks
    the lines by itself, and nothing is cut off.
    """

    def __init__(self, width: int = 80):
        self._width, self._failed = width, False

    def save(self, path: Path, content: files.Content) -> bool:
        """Write a result; whether it is where it was to be, and not in another place."""
        return self._tell(files.save_or_rescue(path, content))

    def save_so_far(self, path: Path, content: str) -> None:
        """Write what there is so far, if that works: what breaks later loses none of it."""
        with suppress(OSError):
            files.write_whole(path, content, parents=True)

    def save_json(self, path: Path | None, listed: Any) -> None:
        """Write a result as JSON, where a path is given."""
        if path is not None:
            self.save(path, json.dumps(listed, indent=2) + "\n")

    def rescue(self, path: Path, content: files.Content, why: str) -> None:
        """Write what is missing at `path` elsewhere."""
        self._tell(files.rescue(path, content, why))

    def say(self, text: str) -> None:
        """Print a line as it is, or lines."""
        error = write_out(text + "\n")
        # A reader that has seen enough (`| head -1`) is no failure.
        if error is not None and not isinstance(error, BrokenPipeError):
            self._tell(f"standard output could not be written ({error.strerror})")

    def show(self, shown: Table | str) -> None:
        """Print a table, or a sentence that is broken between words where the terminal ends."""
        stream: Any = BestEffort(sys.stdout)
        console = Console(file=stream, markup=False, highlight=False)
        console.width = max(console.width, self._width)
        with console.capture() as captured:
            console.print(shown)
        self.say(captured.get().removesuffix("\n"))

    def status(self, status: int) -> int:
        """The command's exit status, where all else makes it this one."""
        return 2 if self._failed else status

    def _tell(self, failure: str | None) -> bool:
        if failure is None:
            return True
        self._failed = True
        click.echo(f"Error: {failure}.", err=True)
        return False
