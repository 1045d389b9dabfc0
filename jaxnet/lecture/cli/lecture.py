"""`jaxnet lecture`: runs experiments beside what the lecture published."""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, get_args

import click
import jax
import jax.numpy as jnp
from rich.table import Table

from jaxnet._utils.digests import name_seed
from jaxnet._utils.files import check_file, check_folder
from jaxnet._utils.processes import fetch, is_primary
from jaxnet._utils.validation import INT32
from jaxnet.cache import kept_programs
from jaxnet.callbacks import Checkpoint, DeferredSigint, JsonLines, NanGuard, Progress
from jaxnet.callbacks.progress import count
from jaxnet.checkpoint import list_epochs
from jaxnet.checkpoint.folder import check_place
from jaxnet.lecture.cli import options as shared
from jaxnet.lecture.cli.output import Output
from jaxnet.lecture.cli.processes import DEVICES, connect, find_place
from jaxnet.lecture.experiments import Experiment, Result, Split, missed, run
from jaxnet.lecture.torch_results import TorchRun
from jaxnet.precision import MEANINGS, Precision
from jaxnet.sweep.result import short


def _choice(option: str, kinds: Sequence[str], said: str) -> Any:
    return click.option(
        option, type=shared.Named(kinds), default=kinds[0], show_default=True, help=said
    )


@click.command("lecture")
@shared.ONLY
@click.option("--json", "json_path", type=shared.FILE, help="Write results.")
@click.option("--jsonl", type=shared.FILE, help="Write each report as it comes, a line of JSON.")
@click.option("--figures", type=shared.FOLDER, help="Draw the runs as pictures in this folder.")
@shared.TORCH
@shared.DEVICE
@DEVICES
@click.option("--distributed", is_flag=True, help="One of many processes, on all devices.")
@click.option("--coordinator", metavar="HOST:PORT", help="Where process 0 can be reached.")
@click.option("--num-processes", type=shared.COUNT, help="How many there are.")
@click.option("--process-id", type=click.IntRange(0, INT32), help="Which this one is, from 0.")
@_choice("--precision", get_args(Precision), "How exactly to compute.")
@click.option("--checkpoint", type=shared.FOLDER, help="Save the runs in this folder as they go.")
@click.option("--resume", is_flag=True, help="Resume from the newest checkpoints.")
@_choice("--on-nan", ["stop", "ignore"], "What to do when a loss or a weight is no longer finite.")
@shared.NO_CACHE
@shared.ROOT
@shared.QUIET
@click.pass_context
def command(context: click.Context, only: tuple[str, ...], **given: Any) -> None:
    """Run the lecture's experiments and compare with the accuracies that it published.

    Exit status 1 says that a published figure was missed, that a row does not use torch's random
    numbers, that a run went wrong or that its end could not be saved; 2 that the input was wrong,
    or that a result could not be written where it was to go.
    ten_class, beyond the lecture, runs only where --only names it, on the files in --root or
    downloaded. With --checkpoint, a run is saved at most once a second and at its end.

    With --devices each batch is sharded over so many. With --distributed this process is one of a
    run, connected by jax.distributed.initialize: on Slurm, Open MPI, Kubernetes and cloud TPUs
    they find each other, elsewhere by --coordinator, --num-processes and --process-id. Process 0
    alone prints and writes; --checkpoint must be a folder that all of them see.

    \b
    Examples:
      jaxnet lecture --only minibatch --only logits --json results.json
      jaxnet lecture --figures figures --torch torch.json
      jaxnet lecture --checkpoint runs --resume
      JAX_NUM_CPU_DEVICES=2 jaxnet lecture --devices 2
      srun jaxnet lecture --distributed --checkpoint runs
    """
    options = SimpleNamespace(**given)
    connect(options)
    shared.start_jax()
    silent = not is_primary()
    options.quiet |= silent
    with shared.input_errors():  # all of it before the first run: nothing is lost to a wrong path
        where = find_place(options.device, options.devices, options.distributed)
        _check(options)
        chosen, data = shared.load_chosen(only, options.root)
        torch = shared.load_beside(options.torch_path, chosen, data)
        _prepare(options, chosen)
        callbacks = {e.id: _make_callbacks(e, options) for e in chosen}
    with (
        kept_programs(not options.no_cache) as programs,
        shared.ends(context, options.checkpoint, quiet=silent),
        shared.plain_warnings(quiet=silent),
    ):
        results = [
            run(
                experiment,
                data[experiment.classes],
                callbacks=callbacks[experiment.id],
                precision=options.precision,
                **where,
            )
            for experiment in chosen
        ]
    if options.distributed:  # a collective: the pictures are of arrays of this process
        results = [
            r._replace(state=jax.tree.map(lambda leaf: jnp.asarray(fetch(leaf)), r.state))
            for r in results
        ]
    if not silent:
        logs = [each for made in callbacks.values() for each in made if isinstance(each, JsonLines)]
        context.exit(_conclude(options, chosen, results, data, torch, programs, logs))


def _check(options: SimpleNamespace) -> None:
    """Reject paths that cannot be written, and options that do not go together."""
    check_file("--json", options.json_path)
    check_file("--jsonl", options.jsonl, replaced=False)
    check_folder("--figures", options.figures)
    check_folder("--checkpoint", options.checkpoint)
    if options.checkpoint is not None:
        check_place("--checkpoint", options.checkpoint)
    if options.torch_path is not None and options.figures is None:
        raise ValueError("--torch is shown in pictures: it needs --figures DIR")
    shared.prepare_figures(options.figures)
    if options.resume and options.checkpoint is None:
        raise ValueError("--resume needs --checkpoint DIR, the folder to resume from")


def _prepare(options: SimpleNamespace, chosen: Sequence[Experiment]) -> None:
    """Make the folder of --jsonl; reject checkpoints that are there and not to go on."""
    if options.jsonl is not None:
        options.jsonl.parent.mkdir(parents=True, exist_ok=True)
    if (folder := options.checkpoint) is None:
        return
    saved = [e.id for e in chosen if list_epochs(folder / e.id)]
    if saved and not options.resume:
        choice = "--resume resumes from there, or choose another folder"
        raise ValueError(f"--checkpoint {folder} has checkpoints of {', '.join(saved)}: {choice}")


def _make_callbacks(experiment: Experiment, options: SimpleNamespace) -> list[Any]:
    made: list[Any] = [DeferredSigint(), Progress(experiment.id, quiet=options.quiet)]
    if options.on_nan == "stop":
        made.append(NanGuard())
    if options.checkpoint is not None:
        made.append(Checkpoint(options.checkpoint / experiment.id, resume=options.resume))
    if options.jsonl is not None and is_primary():
        about = {"experiment": experiment.id, "seed": name_seed(experiment.seed)}
        about["precision"] = options.precision
        made.append(JsonLines(options.jsonl, resume=options.resume, **about))
    return made


def _conclude(
    options: SimpleNamespace,
    chosen: Sequence[Experiment],
    results: Sequence[Result],
    data: Mapping[tuple[int, ...], Split],
    torch: Mapping[str, TorchRun],
    programs: str | None,
    logs: Sequence[JsonLines],
) -> int:
    """The table and all that is written at the end; the exit status."""
    output, folder = Output(), options.checkpoint
    output.save_json(options.json_path, [result.record for result in results])
    if lines := [line for log in logs for line in log.unwritten]:
        why = f"{options.jsonl} lacks {len(lines)} reports that could not be written"
        output.rescue(options.jsonl, "\n".join(lines) + "\n", why)
    output.show(_tabulate(chosen, results))
    output.show(f"precision: {options.precision} ({MEANINGS[options.precision]})")
    if programs is not None:
        output.say(f"compiled programs are kept in {programs}")
    if options.figures is not None:
        _draw(output, options, results, data, torch)
    if lost := [e.id for e in chosen if folder and list_epochs(folder / e.id)[-1:] != [e.epochs]]:
        click.echo(f"Error: the end of {', '.join(lost)} could not be saved.", err=True)
        return output.status(1)
    wrong = any(missed(result.record) for result in results)
    if wrong:
        output.show("✗: a published figure was not reproduced, or not on torch's random numbers.")
    return output.status(int(wrong))


def _draw(
    output: Output,
    options: SimpleNamespace,
    results: Sequence[Result],
    data: Mapping[tuple[int, ...], Split],
    torch: Mapping[str, TorchRun],
) -> None:
    """The runs as pictures."""
    with count("figures", None, quiet=options.quiet, begin="drawing"):
        from jaxnet.lecture.figures import draw_lecture  # matplotlib takes a while

        drawn = output.save(options.figures, lambda x: draw_lecture(results, data, x, torch=torch))
    if drawn:
        output.say(f"the figures are in {options.figures}/")


def _tabulate(chosen: Sequence[Experiment], results: Sequence[Result]) -> Table:
    """The lecture's figures beside ours, narrow enough for 80 columns."""
    table = shared.make_table(
        ["experiment", "section", "published\ntrain/test", "ours\ntrain/test", "random"],
        ["epochs", "compile\ns", "run\ns"],
    )
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
