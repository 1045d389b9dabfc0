"""The application: the lecture's experiments, their figures and report, and the command line."""

from jaxnet.lecture import doctor, torch_results
from jaxnet.lecture.experiments import (
    BEYOND,
    EXPERIMENTS,
    HIDDEN,
    PIXELS,
    Experiment,
    Published,
    Result,
    find,
    make_record,
    manual_sigmoid_loss,
    missed,
    run,
)

__all__ = [
    "BEYOND",
    "EXPERIMENTS",
    "HIDDEN",
    "PIXELS",
    "Experiment",
    "Published",
    "Result",
    "doctor",
    "find",
    "make_record",
    "manual_sigmoid_loss",
    "missed",
    "run",
    "torch_results",
]
