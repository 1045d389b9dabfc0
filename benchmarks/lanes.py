"""Many seeds of `minibatch` as one sweep, beside one run alone: seconds for each lane."""

from typing import Any

import numpy as np

from benchmarks.timing import interleave, median_ratio
from jaxnet.certificate.bounds import TRAJECTORY
from jaxnet.data import Dataset
from jaxnet.lecture.cli.sweep import run_experiment
from jaxnet.lecture.experiments import EXPERIMENTS, run

LANES, PARTS = 64, ("train", "test")


def compare_lanes(
    data: tuple[Dataset, Dataset], rounds: int, lanes: int = LANES
) -> list[dict[str, Any]]:
    """A sweep of `lanes` seeds, in rounds with the solo run of the lecture's seed.

    First every loss, the accuracies and the stream of that seed's lane are held against the solo
    run. Then seconds for each: of the run with its reports, and of the sweep's groups divided by
    their lanes, which draw their weights and measure the test rows too. Compilation is apart.
    """
    experiment = EXPERIMENTS["minibatch"]
    solo, swept = run(experiment, data), run_experiment(experiment, data, range(lanes))
    row, state = swept.table[experiment.seed], swept.state(experiment.seed)
    gap = np.abs(swept.losses[experiment.seed] / solo.history.losses - 1).max()
    agree = (
        bool(gap <= TRAJECTORY.rtol)
        and all(row[f"{part}_accuracy"] == solo.record[f"{part}_accuracy"] for part in PARTS)
        and np.array_equal(state.generator.key, solo.state.generator.key)
        and int(state.generator.position) == int(solo.state.generator.position)
    )
    sides = {
        "lane": lambda: run_experiment(experiment, data, range(lanes)).run_seconds / lanes,
        "solo": lambda: run(experiment, data).record["run_seconds"],
    }
    seconds = interleave(sides, rounds, warm=True)
    return [
        {
            "lanes": lanes,
            "group": swept.group_sizes[0],
            "agree": agree,
            "loss_gap": float(gap),
            "compile_seconds": swept.compile_seconds,
            "seconds": seconds["lane"],
            "seconds_other": seconds["solo"],
            "ratio": median_ratio(seconds["lane"], seconds["solo"]),
        }
    ]
