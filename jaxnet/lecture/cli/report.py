"""`jaxnet report`: the lecture as one page of HTML."""

from pathlib import Path

import click

from jaxnet._utils.files import check_file
from jaxnet.cache import kept_programs
from jaxnet.callbacks.progress import Progress, count
from jaxnet.lecture.cli import options as shared
from jaxnet.lecture.cli.output import Output
from jaxnet.lecture.experiments import EXPERIMENTS, missed, run


@click.command("report")
@click.option(
    "--out",
    type=shared.FILE,
    default=Path("report.html"),
    show_default=True,
    help="The page to write.",
)
@shared.TORCH
@click.option(
    "--only", type=shared.Named(list(EXPERIMENTS)), multiple=True, help="Run this one; repeatable."
)
@shared.NO_CACHE
@shared.QUIET
@click.pass_context
def command(
    context: click.Context,
    out: Path,
    torch_path: Path | None,
    only: tuple[str, ...],
    no_cache: bool,
    quiet: bool,
) -> None:
    """Run the lecture and write its sections as one page: code, figures, curves, pictures.

    The page holds all that it shows and opens in any browser, without a network. Exit status 1 says
    that a published figure was missed, or that a run went wrong; 2 that the input was wrong, or
    that the page could not be written where it was to go.

    \b
    Examples:
      jaxnet report
      python -m torchref lecture --json torch.json && jaxnet report --torch torch.json
    """
    shared.start_jax()
    with shared.input_errors():
        from jaxnet.lecture.report.page import check_page, write_report  # takes a while to import

        check_file("--out", out)
        check_page(out)
        chosen, data = shared.load_chosen(only, None)
        torch = shared.load_beside(torch_path, chosen, data)
    with kept_programs(not no_cache), shared.ends(context, None), shared.plain_warnings():
        results = [run(e, data[e.classes], callbacks=[Progress(e.id, quiet=quiet)]) for e in chosen]
    output, begin = Output(), "drawing and writing"
    with count("report", None, quiet=quiet, begin=begin), shared.input_errors():
        saved = output.save(out, lambda path: write_report(results, data, path, torch=torch))
    if saved:
        output.say(f"wrote {out} ({out.stat().st_size / 2**20:.1f} MiB): open it in a browser")
    if wrong := [result.record["experiment"] for result in results if missed(result.record)]:
        output.say(f"Not as published, or not on torch's random numbers: {', '.join(wrong)}.")
    context.exit(output.status(int(bool(wrong))))
