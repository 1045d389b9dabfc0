"""`jaxnet sweep`: one of the lecture's experiments from many seeds, and what they say of it."""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import click
from rich.table import Table

from jaxnet import sweep
from jaxnet._utils.files import check_folder
from jaxnet.cache import kept_programs
from jaxnet.callbacks.progress import Progress, count
from jaxnet.data import load_mnist
from jaxnet.lecture.cli import options as shared
from jaxnet.lecture.cli.output import Output
from jaxnet.lecture.cli.processes import DEVICES, find_place
from jaxnet.lecture.experiments import Experiment, Split, find, run
from jaxnet.sweep._folder import is_filled
from jaxnet.sweep.lanes import SEEDS
from jaxnet.sweep.result import group_rows, quantiles, short


def seeds(value: str) -> Sequence[int]:
    """Seeds: `0:256`, from the first up to the one before the last, or `1,5,43052`, or one."""
    first, colon, end = value.partition(":")
    with suppress(ValueError, OverflowError):  # the latter where a range is too long for `len`
        found = range(int(first), int(end)) if colon else [int(part) for part in value.split(",")]
        if 0 < len(found) <= SEEDS:
            return found
    wanted = f"seeds such as 0:256, which is 0 to 255, or 1,5; at most {SEEDS:,} of them"
    raise click.BadParameter(f"{value!r} is not {wanted}")


@click.command("sweep")
@click.argument("name", metavar="EXPERIMENT", type=shared.EXPERIMENT)
@click.option("--seeds", type=seeds, default="0:64", show_default=True, help="0:256, or 1,5.")
@click.option("--lr", type=float, multiple=True, help="A learning rate; repeatable.")
@click.option("--p", type=float, multiple=True, help="Dropouts' p; repeatable.")
@click.option("--epochs", type=shared.COUNT, help="[default: the experiment's]")
@click.option(
    "--out",
    type=shared.FOLDER,
    help="Folder for lanes.csv and the last weights, written as groups of runs finish.",
)
@click.option("--resume", is_flag=True, help="Resume the sweep in --out.")
@click.option("--figures", type=shared.FOLDER, help="Draw pictures there.")
@DEVICES
@shared.ROOT
@shared.NO_CACHE
@shared.QUIET
@click.pass_context
def command(context: click.Context, name: str, **given: Any) -> None:
    """Run an experiment from many seeds at once, and say whether its figure was luck.

    Each run is the one that `jaxnet lecture` makes from that seed, and so torch's. With --devices
    each device computes its share of them.

    \b
    Examples:
      jaxnet sweep minibatch --seeds 0:256 --figures figures
      jaxnet sweep logits --seeds 0:32 --lr 0.01 --lr 0.001 --out mine
      jaxnet sweep logits --seeds 0:32 --lr 0.01 --lr 0.001 --out mine --resume
    """
    shared.start_jax()
    options = SimpleNamespace(**given)
    experiment = find(name)
    if options.epochs is not None:
        experiment = replace(experiment, epochs=options.epochs)
    grid = {key: given[key] for key in ("lr", "p") if given[key]}
    lanes = len(options.seeds) * math.prod(map(len, grid.values()))
    seen: list[sweep.Progress] = []
    with shared.ends(context, options.out, "--out"), shared.input_errors():
        _check(options)
        placement = find_place(None, options.devices).get("placement")
        data = load_mnist(experiment.classes, options.root)
        with (
            shared.plain_warnings(),
            kept_programs(not options.no_cache),
            count(name, lanes, quiet=options.quiet, begin="compiling, first runs") as tell,
        ):

            def show(progress: sweep.Progress) -> None:
                seen.append(progress)
                tell(progress.done, f"{progress.done} of {progress.lanes} runs")

            found = run_experiment(
                experiment,
                data,
                options.seeds,
                grid=grid or None,
                hooks=[show],
                directory=options.out,
                resume=options.resume,
                mesh=placement and placement.mesh,
            )
    output = Output()
    if options.out is not None and (failure := seen[-1].failure):
        output.rescue(options.out / "lanes.csv", found.to_csv(), failure)
    _say(output, found, experiment, data, options)
    context.exit(output.status(0))


def _check(options: SimpleNamespace) -> None:
    """Reject folders that cannot be written, and a sweep that is there and not to go on."""
    out = options.out
    check_folder("--figures", options.figures)
    shared.prepare_figures(options.figures)
    check_folder("--out", out)
    if options.resume and out is None:
        raise ValueError("--resume needs --out DIR, the folder to resume")
    if out is not None and not options.resume and is_filled(out):
        choice = "--resume resumes a sweep that is there, or choose a folder"
        raise ValueError(f"--out {out} holds files: {choice} that is empty or new")


def run_experiment(
    experiment: Experiment, data: Split, seeds: Sequence[int], **options: Any
) -> sweep.Sweep:
    """An experiment from many seeds, as `jaxnet lecture` runs it from one; its own is left aside.

    `options` are `jaxnet.run_sweep`'s.
    """
    train, test = ((rows.images, experiment.targets(rows)) for rows in data)
    return sweep.run_sweep(
        experiment.net,
        train,
        loss=experiment.loss,
        optimizer=experiment.make_optimizer,
        epochs=experiment.epochs,
        seeds=seeds,
        batch_size=experiment.batch_size,
        shuffle=experiment.shuffle,
        report_every=experiment.report_every,
        report_loader=experiment.batch_size is not None,
        metrics={"accuracy": experiment.metric},
        test=test,
        **options,
    )


def _say(
    output: Output,
    found: sweep.Sweep,
    experiment: Experiment,
    data: Split,
    options: SimpleNamespace,
) -> None:
    """The summary, the answer, and where everything is."""
    output.show(tabulate(found))
    column, figure, whose = find_figure(experiment, data, quiet=options.quiet)
    for line in (*found.answer(figure, column), whose):
        output.show(line)
    if options.figures is not None:
        from jaxnet.lecture.figures.sweep import draw_sweep  # matplotlib takes a while to import

        drawn = output.save(options.figures, lambda place: draw_sweep(found, place, column, figure))
        if drawn:
            output.say(f"2 figures are in {options.figures}/")
    if options.out is not None:
        output.say(f"the table is {options.out / 'lanes.csv'}")


def find_figure(
    experiment: Experiment, data: Split, *, quiet: bool = False
) -> tuple[str, float, str]:
    """The figure that is asked about: its column of the table, its value, and whose it is.

    The published one, else, or where the epochs are others, that of the lecture's own seed.
    """
    if experiment.epochs == find(experiment.id).epochs:
        for part in ("test", "train"):
            if (figure := getattr(experiment.published, part)) is not None:
                return f"{part}_accuracy", figure, f"{short(figure)} is what the lecture published."
    shown = Progress(f"its seed, {experiment.seed}", quiet=quiet)
    figure = run(experiment, data, callbacks=[shown]).record["test_accuracy"]
    whose = f"{short(figure)} is what the lecture's own seed, {experiment.seed}, gives."
    return "test_accuracy", figure, whose


def tabulate(found: sweep.Sweep) -> Table:
    """Quantiles of the accuracies over seeds, two rows for each point of the grid."""
    groups = group_rows(found.table)
    headings = ["seeds", "median", "5%", "95%", "min", "max", "nan"]
    table = shared.make_table(["grid", "accuracy"], headings)
    table.columns[0].no_wrap, table.columns[0].overflow = False, "fold"
    for point, rows in groups.items():
        for part in ("train", "test"):
            values = [row[f"{part}_accuracy"] for row in rows]
            lost = sum(not row["loss"] == row["loss"] for row in rows)
            cells = [short(value) for value in quantiles(values, (0.5, 0.05, 0.95, 0.0, 1.0))]
            table.add_row(point, part, str(len(rows)), *cells, str(lost))
    if list(groups) == [""]:
        table.columns.pop(0)
    return table
