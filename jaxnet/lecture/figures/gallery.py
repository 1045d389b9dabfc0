"""All pictures of the lecture, in a folder."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from jaxnet._utils.files import as_path
from jaxnet.lecture import studies
from jaxnet.lecture.experiments import Result, Split, check_results, find
from jaxnet.lecture.figures import digits, training
from jaxnet.lecture.figures import studies as drawn
from jaxnet.lecture.torch_results import TorchRun


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
    folder, results = as_path(folder), check_results(results)
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
        beside = (result, torch.get(name))
        found[name] = lambda path, x=beside: training.draw_training(x[0], path, x[1])
    shown = by_id.get("three_class") or results[-1]
    test = data[find(shown.record["experiment"]).classes][1]
    found["predictions"] = lambda path: digits.draw_predictions(shown, test, path)
    unit = by_id.get("full_batch") or results[0]
    found["weights"] = lambda path: digits.draw_weights(unit, path)
    if "dropout" in by_id:
        found["overfitting"] = lambda path: drawn.draw_overfitting(studies.overfit(), path)
    if "minibatch" in by_id:
        two = data[find("minibatch").classes]
        found["batch_sizes"] = lambda path: drawn.draw_batch_sizes(studies.vary_batches(two), path)
    if "manual_sigmoid" in by_id or "logits" in by_id:
        found["sigmoid"] = lambda path: drawn.draw_sigmoid(studies.overflow(), path)
    if "three_class" in by_id:
        state, three = by_id["three_class"].state, data[find("three_class").classes]

        def confusion(path: Path) -> Path:
            chosen, _ = digits.choose(by_id["three_class"], three[1])
            counts = studies.count_confusions(three[1].labels, chosen, 3)
            return digits.draw_confusion(counts, path, title="three_class")

        found["confusion"] = confusion
        found["codes"] = lambda path: drawn.draw_codes(studies.compare_codes(three, state), path)
        found["multinomial"] = drawn.draw_multinomial
    return found
