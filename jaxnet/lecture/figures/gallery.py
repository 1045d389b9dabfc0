"""All pictures of the lecture, in a folder."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from jaxnet._utils.files import as_path
from jaxnet.data import Dataset
from jaxnet.lecture import studies
from jaxnet.lecture.experiments import Result, find
from jaxnet.lecture.figures import digits, training
from jaxnet.lecture.figures import studies as drawn
from jaxnet.lecture.torch_results import TorchRun

Split = tuple[Dataset, Dataset]


def draw_lecture(
    results: Iterable[Result],
    data: Mapping[tuple[int, ...], Split],
    folder: Path,
    *,
    torch: Mapping[str, TorchRun] | None = None,
) -> list[Path]:
    """Every picture that these experiments have something to say to.

    Args:
      results: finished experiments.
      data: training and test rows, by the experiments' `classes`.
      folder: where the pictures go, as PNG.
      torch: torch's runs by experiment, drawn beside ours.

    Returns:
      The files, in the order of the README's gallery.
    """
    results, folder = list(results), as_path(folder)
    if strange := [result for result in results if not isinstance(result, Result)]:
        raise TypeError(f"results must be jaxnet.lecture.Results, not {type(strange[0]).__name__}")
    if not results:
        raise ValueError("results must hold at least one finished experiment, not 0")
    pictures = list_pictures(results, data, torch or {})
    return [draw(folder / f"{name}.png") for name, draw in pictures.items()]


def list_pictures(
    results: list[Result], data: Mapping[tuple[int, ...], Split], torch: Mapping[str, TorchRun]
) -> dict[str, Callable[[Path], Path]]:
    """What `draw_lecture` draws, by name: a function of the path each."""
    by_id = {result.record["experiment"]: result for result in results}
    most = max((find(name).classes for name in by_id), key=len)
    found: dict[str, Callable[[Path], Path]] = {
        "digits": lambda path: digits.draw_digits(data[most][0], path)
    }
    for name, result in by_id.items():
        found[name] = _bind(training.draw_training, result, torch.get(name))
    shown = by_id.get("three_class") or results[-1]
    test = data[find(shown.record["experiment"]).classes][1]
    found["predictions"] = lambda path: digits.draw_predictions(shown, test, path)
    unit = by_id.get("full_batch") or results[0]
    found["weights"] = lambda path: digits.draw_weights(unit, path)
    if "dropout" in by_id:
        found["overfitting"] = lambda path: drawn.draw_overfitting(studies.overfit(), path)
    if "minibatch" in by_id:
        pair = data[find("minibatch").classes]
        found["batch_sizes"] = lambda path: drawn.draw_batch_sizes(studies.vary_batches(pair), path)
    if "manual_sigmoid" in by_id or "logits" in by_id:
        found["sigmoid"] = lambda path: drawn.draw_sigmoid(studies.overflow(), path)
    if "three_class" in by_id:
        result = by_id["three_class"]
        found |= _three_classes(result, data[find("three_class").classes])
    return found


def _three_classes(result: Result, data: Split) -> dict[str, Callable[[Path], Path]]:
    def confusion(path: Path) -> Path:
        chosen, _ = digits.choose(result, data[1])
        counts = studies.count_confusions(data[1].labels, chosen, 3)
        return digits.draw_confusion(counts, path, title="three_class")

    return {
        "confusion": confusion,
        "codes": lambda path: drawn.draw_codes(studies.compare_codes(data, result.state), path),
        "multinomial": drawn.draw_multinomial,
    }


def _bind(draw: Callable, result: Result, torch: TorchRun | None) -> Callable[[Path], Path]:
    return lambda path: draw(result, path, torch)
