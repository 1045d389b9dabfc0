"""`jaxnet lecture`: runs experiments beside what the lecture published."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import click
import jax
import jax.numpy as jnp
from rich import box
from rich.console import Console
from rich.table import Table

from jaxnet._utils.digests import name_seed
from jaxnet._utils.processes import fetch, is_primary
from jaxnet.cache import kept_programs
from jaxnet.callbacks import Checkpoint, DeferredSigint, JsonLines, NanGuard, Progress
from jaxnet.callbacks.progress import count
from jaxnet.checkpoint import list_epochs
from jaxnet.data import load_mnist
from jaxnet.lecture.cli import options as shared
from jaxnet.lecture.cli.processes import connect, find_placement, processes
from jaxnet.lecture.experiments import EXPERIMENTS, Experiment, Result, Split, find, missed, run
from jaxnet.lecture.torch_results import TorchRun
from jaxnet.precision import MEANINGS, Precision
from jaxnet.sweep.result import short

OnNan = Literal["stop", "ignore"]
_JSONL = "Write each report as it comes, a line of JSON each, to a new file."


def _choice(option: str, kinds: Any, default: str, said: str) -> Any:
    kind = shared.Named(get_args(kinds))
    return click.option(option, type=kind, default=default, show_default=True, help=said)


@click.command("lecture")
@shared.ONLY
@click.option("--json", "json_path", type=shared.FILE, help="Write results.")
@click.option("--jsonl", "jsonl_path", type=shared.FILE, help=_JSONL)
@click.option("--figures", type=shared.FOLDER, help="Draw the runs as pictures in this folder.")
@shared.TORCH
@shared.DEVICE
@processes
@_choice("--precision", Precision, "parity", "How exactly to compute.")
@click.option("--checkpoint", type=shared.FOLDER, help="Save the runs in this folder as they go.")
@click.option(
    "--keep", type=click.IntRange(1), default=3, show_default=True, help="Checkpoints that stay."
)
@click.option("--resume", is_flag=True, help="Resume from the newest checkpoints.")
@_choice("--on-nan", OnNan, "stop", "What to do when a loss or a weight is no longer finite.")
@shared.NO_CACHE
@shared.ROOT
@shared.QUIET
@click.pass_context
def command(
    context: click.Context,
    only: tuple[str, ...],
    json_path: Path | None,
    jsonl_path: Path | None,
    figures: Path | None,
    torch_path: Path | None,
    device: str | None,
    devices: int | None,
    distributed: bool,
    precision: Precision,
    checkpoint: Path | None,
    keep: int,
    resume: bool,
    on_nan: OnNan,
    no_cache: bool,
    root: Path | None,
    quiet: bool,
    **place: Any,
) -> None:
    """Run the lecture's experiments and compare with the accuracies that it published.

    Exit status 1 says that a published figure was missed, that a row does not use torch's random
    numbers, that a run went wrong or that its end could not be saved; 2 that the input was wrong.

    With --checkpoint, a run is saved at most once a second and at its end, and --resume resumes it
    bit for bit. Ctrl-C finishes what is under way, saves, and says how to resume.

    ten_class is beyond the lecture: it runs only where --only names it, on the four files in --root
    or downloaded.

    Compiled programs are kept in the user's cache, at most 256 MiB, and used again by the next run.

    With --devices each batch is sharded over so many. With --distributed that many processes are
    one run, connected by jax.distributed.initialize: on Slurm, Open MPI, Kubernetes and cloud TPUs
    they find each other, elsewhere by --coordinator, --num-processes and --process-id. Process 0
    alone prints and writes; --checkpoint must be a folder that all of them see.

    \b
    Examples:
      jaxnet lecture
      jaxnet lecture --only minibatch --only logits --json results.json
      jaxnet lecture --only full_batch --jsonl reports.jsonl
      jaxnet lecture --figures figures --torch torch.json
      jaxnet lecture --only ten_class --root FOLDER
      jaxnet lecture --checkpoint runs
      jaxnet lecture --checkpoint runs --resume
      JAX_NUM_CPU_DEVICES=2 jaxnet lecture --devices 2
      srun jaxnet lecture --distributed --checkpoint runs
    """
    connect(distributed, **place)
    chosen = [find(name) for name in dict.fromkeys(only or EXPERIMENTS)]
    paths = Paths(json_path, jsonl_path, figures, torch_path, checkpoint)
    speaks = is_primary()
    quiet = quiet or not speaks
    with shared.input_errors():  # all of it before the first run: nothing is lost to a wrong path
        placement = find_placement(device, devices, distributed)
        where = shared.find_device(device) if placement is None else None
        _check_paths(paths, precision, resume)
        data = {classes: load_mnist(classes, root) for classes in {e.classes for e in chosen}}
        torch, folders = _prepare(paths, chosen, data, resume)

    def make_callbacks(experiment: Experiment) -> list[Any]:
        made: list[Any] = [DeferredSigint(), Progress(experiment.id, quiet=quiet)]
        if on_nan == "stop":
            made.append(NanGuard())
        if (folder := folders[experiment.id]) is not None:
            made.append(Checkpoint(folder, keep=keep, resume=resume))
        if jsonl_path is not None and speaks:
            about = {"experiment": experiment.id, "seed": name_seed(experiment.seed)}
            made.append(JsonLines(jsonl_path, resume=resume, **about, precision=precision))
        return made

    with (
        kept_programs(not no_cache) as programs,
        shared.ends(context, checkpoint, quiet=not speaks),
        shared.plain_warnings(quiet=not speaks),
    ):
        results = [
            run(
                experiment,
                data[experiment.classes],
                device=where,
                callbacks=make_callbacks(experiment),
                precision=precision,
                placement=placement,
            )
            for experiment in chosen
        ]
    results = [_bring_home(result) for result in results]
    if speaks:
        context.exit(_conclude(chosen, results, data, paths, torch, precision, programs, quiet))


class Paths(NamedTuple):
    """What the command reads and writes, each None where it is not asked for."""

    json: Path | None
    jsonl: Path | None
    figures: Path | None
    torch: Path | None
    checkpoint: Path | None


def _check_paths(paths: Paths, precision: Precision, resume: bool) -> None:
    """Reject paths that cannot be written, and options that do not go together."""
    shared.check_file("--json", paths.json)
    shared.check_file("--jsonl", paths.jsonl)
    shared.check_folder("--figures", paths.figures)
    if paths.torch is not None and paths.figures is None:
        raise ValueError("--torch is shown in pictures: it needs --figures DIR")
    if paths.torch is not None and precision != "parity":
        raise ValueError(f"--torch holds runs in parity, not --precision {precision}")
    if resume and paths.checkpoint is None:
        raise ValueError("--resume needs --checkpoint DIR, the folder to resume from")


def _prepare(
    paths: Paths, chosen: Sequence[Experiment], data: Mapping[tuple[int, ...], Split], resume: bool
) -> tuple[Mapping[str, TorchRun], Mapping[str, Path | None]]:
    """torch's runs, where each experiment is saved, and the folder of --jsonl, made."""
    torch = shared.load_beside(paths.torch, chosen, data)
    folders = _prepare_checkpoints(chosen, paths.checkpoint, resume)
    if paths.jsonl is not None:
        if paths.jsonl.is_file() and paths.jsonl.stat().st_size and not resume:
            choice = "--resume appends to them, or choose another file"
            raise ValueError(f"--jsonl {paths.jsonl} has lines already: {choice}")
        paths.jsonl.parent.mkdir(parents=True, exist_ok=True)
    return torch, folders


def _conclude(
    chosen: Sequence[Experiment],
    results: Sequence[Result],
    data: Mapping[tuple[int, ...], Split],
    paths: Paths,
    torch: Mapping[str, TorchRun],
    precision: Precision,
    programs: str | None,
    quiet: bool,
) -> int:
    """The table and all that is written at the end; the exit status."""
    console = Console()
    console.print(_tabulate(chosen, results))
    console.print(f"precision: {precision} ({MEANINGS[precision]})", highlight=False)
    if programs is not None:
        console.print(f"compiled programs are kept in {programs}", highlight=False, soft_wrap=True)
    if paths.json is not None:
        shared.write_json(paths.json, [result.record for result in results])
    if paths.figures is not None:
        from jaxnet.lecture.figures.gallery import list_pictures  # matplotlib takes a while

        pictures = list_pictures(list(results), data, torch)
        with count("figures", len(pictures), quiet=quiet) as tell:
            for done, (name, draw) in enumerate(pictures.items()):
                tell(done, f"drawing {name}")
                draw(paths.figures / f"{name}.png")
            tell(len(pictures), "drawn")
        console.print(f"{len(pictures)} figures are in {paths.figures}{os.sep}", soft_wrap=True)
    folder = paths.checkpoint
    last = {e.id: list_epochs(folder / e.id)[-1:] for e in chosen} if folder else {}
    lost = [e.id for e in chosen if last.get(e.id, [e.epochs]) != [e.epochs]]
    if lost:
        click.echo(f"Error: the end of {', '.join(lost)} could not be saved.", err=True)
        return 1
    if any(missed(result.record) for result in results):
        console.print("✗: a published figure was not reproduced, or not on torch's random numbers.")
        return 1
    return 0


def _bring_home(result: Result) -> Result:
    """A result with its state on one device of this process."""
    if all(leaf.is_fully_addressable for leaf in jax.tree.leaves(result.state)):
        return result
    return result._replace(state=jax.tree.map(lambda leaf: jnp.asarray(fetch(leaf)), result.state))


def _prepare_checkpoints(
    chosen: Sequence[Experiment], folder: Path | None, resume: bool
) -> Mapping[str, Path | None]:
    """Where each experiment is saved; rejected where one has checkpoints and is not resumed."""
    if folder is None:
        return dict.fromkeys(e.id for e in chosen)
    folders = {e.id: folder / e.id for e in chosen}
    shared.check_folder("--checkpoint", folder)
    found = {path: list_epochs(path) for path in folders.values()}
    for path, epochs in found.items():
        shared.check_folder("--checkpoint", path)
        if epochs and not resume:
            so = f"has checkpoints already, up to epoch {epochs[-1]}"
            choice = "--resume resumes from there, or choose another folder"
            raise ValueError(f"--checkpoint {path} {so}: {choice}")
    if resume and not any(found.values()):
        click.echo(f"Note: {folder} has nothing to resume; the runs begin.", err=True)
    return folders


def _tabulate(chosen: Sequence[Experiment], results: Sequence[Result]) -> Table:
    """The lecture's figures beside ours, narrow enough for 80 columns."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    for heading in ("experiment", "section", "published\ntrain/test", "ours\ntrain/test", "random"):
        table.add_column(heading, no_wrap=True)
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
    return "/".join(short(value) for value in (train, test) if value)
