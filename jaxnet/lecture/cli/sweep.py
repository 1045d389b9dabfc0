"""`jaxnet sweep`: one of the lecture's experiments from many seeds, and what they say of it."""

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table

from jaxnet import sweep
from jaxnet.cache import kept_programs
from jaxnet.callbacks.progress import Progress, count
from jaxnet.data import Dataset, load_mnist
from jaxnet.lecture.cli import options as shared
from jaxnet.lecture.cli.processes import DEVICES, find_placement
from jaxnet.lecture.experiments import Experiment, find, run
from jaxnet.sweep.result import group_rows, quantiles, short

_MOST = 1_000_000
_SHARES = (0.5, 0.05, 0.95, 0.0, 1.0)


def numbers(value: str) -> list[float]:
    """Numbers with commas between, `0.1,0.01`."""
    try:
        return [float(part) for part in value.split(",")]
    except ValueError:
        wanted = "numbers with commas between, such as 0.1,0.01"
        raise click.BadParameter(f"{value!r} is not {wanted}") from None


def seeds(value: str) -> list[int]:
    """Seeds: `0:256`, from the first up to the one before the last, or `1,5,43052`, or one."""
    try:
        found = []
        for part in value.split(","):
            ends = [int(end) for end in part.split(":")]
            if len(ends) == 2 and ends[1] - ends[0] > _MOST:
                raise click.BadParameter(f"{value!r} is more than {_MOST:,} seeds")
            found += range(*ends) if len(ends) == 2 else [int(part)]
    except ValueError:
        found = []
    if not found:
        wanted = "seeds such as 0:256, which is 0 to 255, or 1,5"
        raise click.BadParameter(f"{value!r} is not {wanted}")
    return found


@click.command("sweep")
@click.argument("name", metavar="EXPERIMENT", type=shared.EXPERIMENT)
@click.option("--seeds", type=seeds, default="0:64", show_default=True, help="0:256, or 1,5.")
@click.option("--lr", type=numbers, multiple=True, help="Learning rates, 0.1,0.01; repeatable.")
@click.option("--p", type=numbers, multiple=True, help="Dropouts' p, 0.5,0.9; repeatable.")
@click.option("--epochs", type=click.IntRange(min=1), help="[default: the experiment's]")
@click.option(
    "--out",
    type=shared.FOLDER,
    help="Folder for lanes.csv and the last weights, written as groups of runs finish.",
)
@click.option("--resume", is_flag=True, help="Resume the sweep in --out.")
@click.option("--figures", type=shared.FOLDER, help="Draw pictures there.")
@click.option(
    "--memory", type=click.IntRange(min=1), help="MiB to use.  [default: half of what is free]"
)
@DEVICES
@shared.ROOT
@shared.NO_CACHE
@shared.QUIET
@click.pass_context
def command(
    context: click.Context,
    name: str,
    seeds: list[int],
    lr: tuple[list[float], ...],
    p: tuple[list[float], ...],
    epochs: int | None,
    out: Path | None,
    resume: bool,
    figures: Path | None,
    memory: int | None,
    devices: int | None,
    root: Path | None,
    no_cache: bool,
    quiet: bool,
) -> None:
    """Run an experiment from many seeds at once, and say whether its figure was luck.

    Each run is the one that `jaxnet lecture` makes from that seed, and so torch's. With --devices
    each device computes its share of them.

    \b
    Examples:
      jaxnet sweep minibatch --seeds 0:256 --figures figures
      jaxnet sweep logits --seeds 0:32 --lr 0.01,0.001 --out mine
      jaxnet sweep logits --seeds 0:32 --lr 0.01,0.001 --out mine --resume
    """
    experiment = find(name)
    grid = {key: sum(lists, []) for key, lists in (("lr", lr), ("p", p)) if lists}
    # ValueErrors and the like: what the user gave, said by the arguments' own checks.
    try:
        placement = find_placement(None, devices, distributed=False)
        shared.check_folder("--figures", figures)
        shared.check_folder("--out", out)
        if resume and out is None:
            raise ValueError("--resume needs --out DIR, the folder to resume")
        if out is not None and not resume and out.is_dir() and any(out.iterdir()):
            choice = "--resume resumes a sweep that is there, or choose a folder"
            raise ValueError(f"--out {out} holds files: {choice} that is empty or new")
        data = load_mnist(experiment.classes, root)
        lanes = len(seeds) * math.prod(map(len, grid.values()))
        with (
            shared.plain_warnings(),
            kept_programs(not no_cache),
            count(name, lanes, quiet=quiet, begin="compiling, first runs") as tell,
        ):
            found = run_experiment(
                experiment,
                data,
                seeds,
                grid,
                epochs=epochs,
                hooks=[lambda seen: tell(seen.done, f"{seen.done} of {seen.lanes} runs")],
                directory=out,
                resume=resume,
                memory=None if memory is None else memory * 2**20,
                mesh=None if placement is None else placement.mesh,
            )
    except sweep.Interrupted as error:
        said = "nothing was saved; --out DIR saves the runs as they finish"
        click.echo(f"{error}\n{said if out is None else shared.say_how_to_resume()}", err=True)
        context.exit(130)
    except (ValueError, OSError, RuntimeError, ImportError, MemoryError) as error:
        raise click.UsageError(str(error)) from error
    _say(found, experiment, data, epochs, figures, out, quiet)


def run_experiment(
    experiment: Experiment,
    data: tuple[Dataset, Dataset],
    seeds: Sequence[int],
    grid: dict[str, list[float]] | None = None,
    *,
    epochs: int | None = None,
    **options: Any,
) -> sweep.Sweep:
    """One of the lecture's experiments from many seeds, as `jaxnet lecture` runs it from one.

    Args:
      experiment: the lecture's or one beyond; its seed is left aside.
      data: training and test rows.
      seeds, grid, options: as for `jaxnet.run_sweep`.
      epochs: the experiment's if None.
    """
    train, test = ((rows.images, experiment.targets(rows)) for rows in data)
    return sweep.run_sweep(
        experiment.net,
        train,
        loss=experiment.loss,
        optimizer=experiment.make_optimizer,
        epochs=experiment.epochs if epochs is None else epochs,
        seeds=seeds,
        grid=grid or None,
        batch_size=experiment.batch_size,
        shuffle=experiment.shuffle,
        report_every=experiment.report_every,
        report_loader=experiment.batch_size is not None,
        metrics={"accuracy": experiment.metric},
        test=test,
        **options,
    )


def _say(
    found: sweep.Sweep,
    experiment: Experiment,
    data: tuple[Dataset, Dataset],
    epochs: int | None,
    figures: Path | None,
    out: Path | None,
    quiet: bool,
) -> None:
    """The summary, the answer, and where everything is."""
    console = Console()
    console.print(tabulate(found))
    column, figure, whose = find_figure(found, experiment, data, epochs, quiet=quiet)
    for line in found.answer(figure, column):
        console.print(line, highlight=False, soft_wrap=False)
    console.print(whose, highlight=False)
    if figures is not None:
        from jaxnet.lecture.figures.sweep import draw_sweep  # matplotlib takes a while to import

        paths = draw_sweep(found, figures, column=column, figure=figure)
        console.print(f"{len(paths)} figures are in {figures}{os.sep}", soft_wrap=True)
    if out is not None:
        console.print(f"the table is {out / 'lanes.csv'}", soft_wrap=True, highlight=False)


def find_figure(
    found: sweep.Sweep,
    experiment: Experiment,
    data: tuple[Dataset, Dataset],
    epochs: int | None,
    *,
    quiet: bool = False,
) -> tuple[str, float, str]:
    """The figure that is asked about: its column of the table, its value, and whose it is.

    The published one, of the test rows before the training rows; where nothing is published, or
    the epochs are others, that of the lecture's own seed.
    """
    if epochs in (None, experiment.epochs):
        for part in ("test", "train"):
            if (figure := getattr(experiment.published, part)) is not None:
                return f"{part}_accuracy", figure, f"{short(figure)} is what the lecture published."
    own = [row for row in found.table if row["seed"] == experiment.seed]
    if "lr" not in found.table[0] and "p" not in found.table[0] and own:
        figure = own[0]["test_accuracy"]
    else:
        alone = replace(experiment, epochs=epochs or experiment.epochs)
        shown = Progress(f"its seed, {alone.seed}", quiet=quiet)
        figure = run(alone, data, callbacks=[shown]).record["test_accuracy"]
    why = "With other epochs" if any(experiment.published) else "The lecture published none"
    whose = f"{why}: {short(figure)} is what its own seed, {experiment.seed}, gives."
    return "test_accuracy", figure, whose


def tabulate(found: sweep.Sweep) -> Table:
    """Quantiles of the accuracies over seeds, two rows for each point of the grid."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    groups = group_rows(found.table)
    if gridded := list(groups) != [""]:
        table.add_column("grid", overflow="fold")
    table.add_column("accuracy", no_wrap=True)
    for heading in ("seeds", "median", "5%", "95%", "min", "max", "nan"):
        table.add_column(heading, justify="right", no_wrap=True)
    for point, rows in groups.items():
        for part in ("train", "test"):
            values = [row[f"{part}_accuracy"] for row in rows]
            lost = sum(not row["loss"] == row["loss"] for row in rows)
            cells = [short(value) for value in quantiles(values, _SHARES)]
            lead = [point if part == "train" else ""] if gridded else []
            table.add_row(*lead, part, str(len(rows)), *cells, str(lost))
    return table
