"""`jaxnet report`: the lecture as one page of HTML."""

import json
import os
from pathlib import Path
from typing import Any

import click

from jaxnet.cache import kept_programs
from jaxnet.callbacks.progress import Progress, count
from jaxnet.data import load_mnist
from jaxnet.lecture.cli import options as shared
from jaxnet.lecture.experiments import EXPERIMENTS, find, missed, run


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
    "--benchmarks",
    "benchmarks_path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Show the speed of every peer: the file of python -m benchmarks --json.",
)
@click.option(
    "--only", type=shared.Named(list(EXPERIMENTS)), multiple=True, help="Run this one; repeatable."
)
@shared.DEVICE
@shared.ROOT
@shared.NO_CACHE
@shared.QUIET
@click.pass_context
def command(
    context: click.Context,
    out: Path,
    torch_path: Path | None,
    benchmarks_path: Path | None,
    only: tuple[str, ...],
    device: str | None,
    root: Path | None,
    no_cache: bool,
    quiet: bool,
) -> None:
    """Run the lecture and write its sections as one page: code, figures, curves, pictures.

    The page holds all that it shows and opens in any browser, without a network. Exit status 1 says
    that a published figure was missed, or that a run went wrong; 2 that the input was wrong.

    \b
    Examples:
      jaxnet report
      python -m torchref lecture --json torch.json && jaxnet report --torch torch.json
      jaxnet report --torch torch.json --benchmarks benchmarks/results/cpu.json
    """
    with shared.input_errors():
        from jaxnet.lecture.report.page import check_page, write_report  # takes a while to import

        chosen = [find(name) for name in dict.fromkeys(only or EXPERIMENTS)]
        place = shared.find_device(device)
        shared.check_file("--out", out)
        check_page(out)
        benchmarks = _load_benchmarks(benchmarks_path)
        data = {classes: load_mnist(classes, root) for classes in {e.classes for e in chosen}}
        torch = shared.load_beside(torch_path, chosen, data)
    with kept_programs(not no_cache), shared.ends(context, None), shared.plain_warnings():
        results = [
            run(e, data[e.classes], device=place, callbacks=[Progress(e.id, quiet=quiet)])
            for e in chosen
        ]
    with count("report", 100, quiet=quiet) as tell, shared.input_errors():

        def show(done: int, total: int, name: str) -> None:
            tell(100 * done // total, f"drawing {name}")

        write_report(results, data, out, torch=torch, benchmarks=benchmarks, progress=show)
        tell(100, "written")
    size = os.path.getsize(out) / 2**20
    click.echo(f"wrote {out} ({size:.1f} MiB): open it in a browser")
    if wrong := [result.record["experiment"] for result in results if missed(result.record)]:
        click.echo(f"Not as published, or not on torch's random numbers: {', '.join(wrong)}.")
        context.exit(1)


def _load_benchmarks(path: Path | None) -> dict[str, Any] | None:
    if path is None:
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"--benchmarks {path} is no JSON ({error})") from error
    if not isinstance(found, dict) or "peers" not in found or "machine" not in found:
        wanted = "what `python -m benchmarks --json` wrote, with peers"
        raise ValueError(f"--benchmarks must be {wanted}: {path} is something else")
    return found
