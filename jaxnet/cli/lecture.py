"""`jaxnet lecture`: runs experiments beside what the lecture published."""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args

import click
from rich import box
from rich.console import Console
from rich.table import Table

from jaxnet import runs
from jaxnet.archive import name_seed
from jaxnet.cache import kept_programs
from jaxnet.checkpoint import list_epochs
from jaxnet.cli.options import (
    DEVICE,
    FILE,
    FOLDER,
    NO_CACHE,
    ONLY,
    QUIET,
    ROOT,
    TORCH,
    Named,
    check_beside,
    check_file,
    check_folder,
    ends,
    find_device,
    input_errors,
    load_beside,
    plain_warnings,
    write_json,
)
from jaxnet.data import Dataset, load_mnist
from jaxnet.hooks import JsonLines
from jaxnet.lecture import EXPERIMENTS, Experiment, Result, find, missed, run
from jaxnet.precision import MEANINGS, Precision
from jaxnet.progress import bar, count
from jaxnet.runs import OnNan
from jaxnet.state import Hook
from jaxnet.torch_results import TorchRun

Split = tuple[Dataset, Dataset]


@click.command("lecture")
@ONLY
@click.option("--json", "json_path", type=FILE, help="Write results.")
@click.option(
    "--jsonl",
    "jsonl_path",
    type=FILE,
    help="Write each report as it comes, a line of JSON each, to a new file.",
)
@click.option("--figures", type=FOLDER, help="Draw the runs as pictures in this folder.")
@TORCH
@DEVICE
@click.option(
    "--precision",
    type=Named(get_args(Precision)),
    default="parity",
    show_default=True,
    help="How exactly to compute.",
)
@click.option("--checkpoint", type=FOLDER, help="Save the runs in this folder as they go.")
@click.option(
    "--keep", type=click.IntRange(1), default=3, show_default=True, help="Checkpoints that stay."
)
@click.option("--resume", is_flag=True, help="Go on from the newest checkpoints.")
@click.option(
    "--on-nan",
    type=Named(get_args(OnNan)),
    default="stop",
    show_default=True,
    help="What to do when a loss or a weight is no longer finite.",
)
@NO_CACHE
@ROOT
@QUIET
@click.pass_context
def command(
    context: click.Context,
    only: tuple[str, ...],
    json_path: Path | None,
    jsonl_path: Path | None,
    figures: Path | None,
    torch_path: Path | None,
    device: str | None,
    precision: Precision,
    checkpoint: Path | None,
    keep: int,
    resume: bool,
    on_nan: OnNan,
    no_cache: bool,
    root: Path | None,
    quiet: bool,
) -> None:
    """Run the lecture's experiments and compare with the accuracies that it published.

    Exit status 1 says that a published figure was missed, that a row does not use torch's random
    numbers, that a run went wrong or that its end could not be saved; 2 that the input was wrong.

    With --checkpoint, a run is saved at most once a second and at its end, and --resume goes on
    bit for bit. Ctrl-C finishes what is under way, saves, and says how to go on.

    ten_class is beyond the lecture: it runs only where --only names it, on the four files in --root
    or downloaded.

    Compiled programs are kept in the user's cache, at most 256 MiB, and used again by the next run.

    \b
    Examples:
      jaxnet lecture
      jaxnet lecture --only minibatch --only logits --json results.json
      jaxnet lecture --only full_batch --jsonl reports.jsonl
      jaxnet lecture --figures figures --torch torch.json
      jaxnet lecture --only ten_class --root FOLDER
      jaxnet lecture --checkpoint runs
      jaxnet lecture --checkpoint runs --resume
    """
    chosen = [find(name) for name in dict.fromkeys(only or EXPERIMENTS)]
    with input_errors():  # all of it before the first run: nothing is lost to a wrong path
        place = find_device(device)
        check_file("--json", json_path)
        check_file("--jsonl", jsonl_path)
        check_folder("--figures", figures)
        if torch_path is not None and figures is None:
            raise ValueError("--torch is shown in pictures: it needs --figures DIR")
        if torch_path is not None and precision != "parity":
            raise ValueError(f"--torch holds runs in parity, not --precision {precision}")
        torch = load_beside(torch_path)
        data = {classes: load_mnist(classes, root) for classes in {e.classes for e in chosen}}
        check_beside(torch, chosen, data)
        folders = _prepare_checkpoints(chosen, checkpoint, resume)
        if jsonl_path is not None:
            if jsonl_path.is_file() and jsonl_path.stat().st_size and not resume:
                raise ValueError(
                    f"--jsonl {jsonl_path} has lines already: --resume goes on with them, or "
                    "choose another file"
                )
            jsonl_path.parent.mkdir(parents=True, exist_ok=True)

    def train(experiment: Experiment) -> Callable:
        where = {"checkpoint": folders[experiment.id], "keep": keep, "resume": resume}
        return partial(runs.fit, **where, on_nan=on_nan)

    def hooks(experiment: Experiment) -> list[Hook]:
        if jsonl_path is None:
            return []
        about = {"experiment": experiment.id, "seed": name_seed(experiment.seed)}
        return [JsonLines(jsonl_path, resume=resume, **about, precision=precision)]

    with kept_programs(not no_cache) as programs, ends(context, checkpoint), plain_warnings():
        results = run_all(
            chosen,
            data,
            device=place,
            precision=precision,
            quiet=quiet,
            train=train,
            hooks=hooks,
        )
    console = Console()
    console.print(_tabulate(chosen, results))
    console.print(f"precision: {precision} ({MEANINGS[precision]})", highlight=False)
    if programs is not None:
        console.print(f"compiled programs are kept in {programs}", highlight=False, soft_wrap=True)
    if json_path is not None:
        write_json(json_path, [result.record for result in results])
    if figures is not None:
        paths = draw_all(results, data, figures, torch, quiet=quiet)
        console.print(f"{len(paths)} figures are in {figures}{os.sep}", soft_wrap=True)
    last = {e.id: list_epochs(checkpoint / e.id)[-1:] for e in chosen} if checkpoint else {}
    lost = [e.id for e in chosen if last.get(e.id, [e.epochs]) != [e.epochs]]
    if lost:
        click.echo(f"Error: the end of {', '.join(lost)} could not be saved.", err=True)
        context.exit(1)
    if any(missed(result.record) for result in results):
        console.print("✗: a published figure was not reproduced, or not on torch's random numbers.")
        context.exit(1)


def run_all(
    chosen: Sequence[Experiment],
    data: Mapping[tuple[int, ...], Split],
    *,
    device: Any,
    quiet: bool,
    precision: Precision = "parity",
    train: Callable[[Experiment], Callable] = lambda experiment: runs.fit,
    hooks: Callable[[Experiment], list[Hook]] = lambda experiment: [],
) -> list[Result]:
    """One experiment after another, each with its bar, what trains it, and its hooks."""
    results = []
    for experiment in chosen:
        with bar(experiment.id, experiment.epochs, quiet=quiet) as shown:
            result = run(
                experiment,
                data[experiment.classes],
                device=device,
                hooks=[shown, *hooks(experiment)],
                precision=precision,
                train=train(experiment),
            )
        results.append(result)
    return results


def draw_all(
    results: list[Result],
    data: Mapping[tuple[int, ...], Split],
    folder: Path,
    torch: Mapping[str, TorchRun],
    *,
    quiet: bool,
) -> list[Path]:
    """Every picture, with a bar."""
    from jaxnet.figures.gallery import list_pictures  # matplotlib takes a while to import

    pictures, paths = list_pictures(results, data, torch), []
    with count("figures", len(pictures), quiet=quiet) as tell:
        for name, draw in pictures.items():
            tell(len(paths), f"drawing {name}")
            paths.append(draw(folder / f"{name}.png"))
        tell(len(paths), "drawn")
    return paths


def _prepare_checkpoints(
    chosen: Sequence[Experiment], folder: Path | None, resume: bool
) -> Mapping[str, Path | None]:
    """Where each experiment is saved; refused where one has checkpoints and does not go on."""
    if folder is None:
        if resume:
            raise ValueError("--resume needs --checkpoint DIR, the folder to go on from")
        return dict.fromkeys(experiment.id for experiment in chosen)
    folders = {experiment.id: folder / experiment.id for experiment in chosen}
    check_folder("--checkpoint", folder)
    found = {path: list_epochs(path) for path in folders.values()}
    for path, epochs in found.items():
        check_folder("--checkpoint", path)
        if epochs and not resume:
            raise ValueError(
                f"--checkpoint {path} has checkpoints already, up to epoch {epochs[-1]}: --resume "
                "goes on from there, or choose another folder"
            )
    if resume and not any(found.values()):
        click.echo(f"Note: {folder} has nothing to go on from; the runs begin.", err=True)
    return folders


def _tabulate(chosen: list[Experiment], results: list[Result]) -> Table:
    """The lecture's figures beside ours, narrow enough for 80 columns."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    for heading in ("experiment", "section", "published\ntrain/test", "ours\ntrain/test"):
        table.add_column(heading, no_wrap=True)
    table.add_column("random", no_wrap=True)
    for heading in ("epochs", "compile\ns", "run\ns"):
        table.add_column(heading, justify="right", no_wrap=True)
    for experiment, (record, *_) in zip(chosen, results, strict=True):
        wrong = missed(record)
        mark = " ✗" if {"train", "test"} & set(wrong) else " ✓" if any(experiment.published) else ""
        table.add_row(
            experiment.id,
            experiment.section,
            _pair(*experiment.published),
            _pair(record["train_accuracy"], record["test_accuracy"]) + mark,
            record["random"] + " ✗" * ("random" in wrong),
            str(experiment.epochs),
            f"{record['compile_seconds']:.2f}",
            f"{record['run_seconds']:.2f}",
        )
    return table


def _pair(train: float | None, test: float | None) -> str:
    """Accuracies as the lecture prints them, ".9936/.9986"."""
    return "/".join(f"{value:.4f}".removeprefix("0") for value in (train, test) if value)
