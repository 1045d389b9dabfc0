"""`jaxnet show`: sample digits as a picture."""

from pathlib import Path

import click

from jaxnet._utils.files import check_file
from jaxnet.callbacks.progress import count
from jaxnet.data import load_mnist
from jaxnet.lecture.cli.options import FILE, QUIET, input_errors
from jaxnet.lecture.cli.output import Output


@click.command("show")
@click.option(
    "--out", type=FILE, default=Path("digits.png"), show_default=True, help="The PNG to write."
)
@QUIET
@click.pass_context
def command(context: click.Context, out: Path, quiet: bool) -> None:
    """Draw sample digits, as the lecture's imshow does."""
    output = Output()
    with count("digits", None, quiet=quiet, begin="drawing"), input_errors():
        from jaxnet.lecture.figures import draw_digits  # matplotlib takes a while to import

        check_file("--out", out)
        train, _ = load_mnist((0, 1, 2))
        saved = output.save(out, lambda path: draw_digits(train, path))
    if saved:
        output.say(f"drew {out}")
    context.exit(output.status(0))
