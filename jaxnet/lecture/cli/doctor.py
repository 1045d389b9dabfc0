"""`jaxnet doctor`: what on this machine decides whether numbers match torch's."""

from pathlib import Path

import click

from jaxnet._utils.files import check_file
from jaxnet.callbacks.progress import count
from jaxnet.lecture.cli import options as shared
from jaxnet.lecture.cli.output import Output
from jaxnet.lecture.doctor import examine


@click.command("doctor")
@click.option("--json", "json_path", type=shared.FILE, help="Write the findings.")
@shared.QUIET
@click.pass_context
def command(context: click.Context, json_path: Path | None, quiet: bool) -> None:
    """Examine what on this machine decides whether numbers match torch's.

    Exit status 1 says that something differs, 2 that the input was wrong or JAX does not start.

    \b
    Examples:
      jaxnet doctor
      jaxnet doctor --json findings.json
    """
    shared.start_jax()
    with shared.input_errors():
        check_file("--json", json_path)
    with count("doctor", None, quiet=quiet, begin="reading and measuring"):
        findings = examine()
    output = Output()
    output.save_json(json_path, [finding._asdict() for finding in findings])
    table = shared.make_table(["what", "found here", "verdict"])
    table.columns[1].no_wrap, table.columns[1].overflow = False, "fold"
    for finding in findings:
        table.add_row(finding.name, finding.value, finding.verdict)
    output.show(table)
    for finding in findings:
        if finding.advice:
            output.show(f"{finding.name}: {finding.advice}")
    differing = any(finding.verdict == "differs" for finding in findings)
    if not differing:
        output.show("Nothing here is known to make numbers differ from torch's.")
    context.exit(output.status(int(differing)))
