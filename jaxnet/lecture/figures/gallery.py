"""All pictures of the lecture, in a folder."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from jaxnet._utils.files import as_path
from jaxnet.lecture.experiments import Result, Split, find
from jaxnet.lecture.figures import digits, studies, training
from jaxnet.lecture.torch_results import TorchRun


def draw_lecture(
    results: Iterable[Result],
    data: Mapping[tuple[int, ...], Split],
    folder: Path,
    *,
    torch: Mapping[str, TorchRun] | None = None,
) -> list[Path]:
    """Every picture that finished experiments have something to say to, as PNG files in a folder.

    `data` has training and test rows by the experiments' `classes`, `torch` torch's runs by
    experiment, drawn beside ours.
    """
    folder = as_path(folder)
    pictures = list_pictures(check_results(results), data, torch or {})
    paths = [folder / f"{name}.png" for name in pictures]
    for path, draw in zip(paths, pictures.values(), strict=True):
        draw(path=path)
    return paths


def check_results(results: Iterable[Any]) -> list[Result]:
    """The finished experiments as a list; rejected where there is none, or something else."""
    results = list(results)
    if strange := [result for result in results if not isinstance(result, Result)]:
        raise TypeError(f"results must be jaxnet.lecture.Results, not {type(strange[0]).__name__}")
    if not results:
        raise ValueError("results must hold at least one finished experiment, not 0")
    return results


def list_pictures(
    results: list[Result], data: Mapping[tuple[int, ...], Split], torch: Mapping[str, TorchRun]
) -> dict[str, Callable[..., None]]:
    """What `draw_lecture` draws, by name: a function of the `path` each."""
    by_id = {result.record["experiment"]: result for result in results}
    rows = {name: data[find(name).classes] for name in by_id}
    most = max(rows.values(), key=lambda split: len(split[0].labels))
    shown = "three_class" if "three_class" in by_id else [*by_id][-1]
    unit = by_id.get("full_batch") or results[0]
    found: dict[str, Callable[..., None]] = {
        "digits": partial(digits.draw_digits, most[0]),
        **{
            name: partial(training.draw_training, result, torch=torch.get(name))
            for name, result in by_id.items()
        },
        "predictions": partial(digits.draw_predictions, by_id[shown], rows[shown][1]),
        "weights": partial(digits.draw_weights, unit),
    }
    if "dropout" in by_id:
        found["overfitting"] = partial(studies.draw_overfitting, rows["dropout"])
    if "minibatch" in by_id:
        found["batch_sizes"] = partial(studies.draw_batch_sizes, rows["minibatch"])
    if {"manual_sigmoid", "logits"} & by_id.keys():
        found["sigmoid"] = studies.draw_sigmoid
    if "three_class" in by_id:
        three, split = by_id["three_class"], rows["three_class"]
        found["confusion"] = partial(digits.draw_confusion, three, split[1])
        found["codes"] = partial(studies.draw_codes, three, split)
        found["multinomial"] = studies.draw_multinomial
    return found
