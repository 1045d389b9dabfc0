"""`jaxnet show`: sample digits as a picture."""

from pathlib import Path

import click

from jaxnet.callbacks.progress import count
from jaxnet.data import load_mnist
from jaxnet.lecture.cli.options import FILE, QUIET, ROOT, check_file, input_errors


@click.command("show")
@click.option(
    "--out", type=FILE, default=Path("digits.png"), show_default=True, help="The PNG to write."
)
@click.option("--classes", default="012", show_default=True, help="Which digits, written together.")
@ROOT
@QUIET
def command(out: Path, classes: str, root: Path | None, quiet: bool) -> None:
    """Draw sample digits, as the lecture's imshow does.

    \b
    Examples:
      jaxnet show
      jaxnet show --classes 01 --out two.png
    """
    with count("digits", None, quiet=quiet, begin="drawing"):
        from jaxnet.lecture.figures import (  # matplotlib takes a while to import
            check_picture,
            draw_digits,
        )

        with input_errors():
            if not (classes.isascii() and classes.isdecimal()):
                raise ValueError(f"--classes must be digits together, such as 01, not {classes!r}")
            check_file("--out", out)
            check_picture(out)
            train, _ = load_mnist([int(digit) for digit in classes], root)
        draw_digits(train, out)
    click.echo(f"drew {out}")
