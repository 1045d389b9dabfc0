"""`jaxnet doctor`: what on this machine decides whether numbers match torch's."""

import os
from pathlib import Path

import click
import jax
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jaxnet.callbacks.progress import count
from jaxnet.lecture.cli.options import FILE, QUIET, check_file, input_errors, write_json
from jaxnet.lecture.doctor import examine


@click.command("doctor")
@click.option("--json", "json_path", type=FILE, help="Write the findings.")
@QUIET
@click.pass_context
def command(context: click.Context, json_path: Path | None, quiet: bool) -> None:
    """Examine what on this machine decides whether numbers match torch's.

    Exit status 1 says that something differs, 2 that the input was wrong or JAX does not start.

    \b
    Examples:
      jaxnet doctor
      jaxnet doctor --json findings.json
    """
    with input_errors():
        check_file("--json", json_path)
        try:
            jax.devices()
        except (RuntimeError, AssertionError) as error:  # JAX asserts that "cuda" has its plug-in
            why = str(error) or f"JAX_PLATFORMS is {os.environ.get('JAX_PLATFORMS', '')!r}"
            raise RuntimeError(f"JAX does not start here: {why}") from error
    with count("doctor", None, quiet=quiet, begin="reading and measuring"):
        findings = examine()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    table.add_column("what", no_wrap=True)
    table.add_column("found here", overflow="fold")
    table.add_column("verdict", no_wrap=True)
    for finding in findings:
        table.add_row(finding.name, Text(finding.value), finding.verdict)
    console = Console()
    console.print(table)
    for finding in findings:
        if finding.advice:
            console.print(Text(f"{finding.name}: {finding.advice}"))
    differing = sum(finding.verdict == "differs" for finding in findings)
    if not differing:
        console.print("Nothing here is known to make numbers differ from torch's.")
    if json_path is not None:
        write_json(json_path, [finding._asdict() for finding in findings])
    if differing:
        context.exit(1)
