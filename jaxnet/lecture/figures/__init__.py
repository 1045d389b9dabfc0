"""Every picture, drawn without a screen and written as PNG."""

from jaxnet.lecture.figures.digits import (
    draw_confusion,
    draw_digits,
    draw_predictions,
    draw_weights,
)
from jaxnet.lecture.figures.gallery import draw_lecture
from jaxnet.lecture.figures.studies import (
    draw_batch_sizes,
    draw_codes,
    draw_multinomial,
    draw_overfitting,
    draw_sigmoid,
)
from jaxnet.lecture.figures.style import BLUE, GRAY, GREEN, ORANGE, canvas, check_picture
from jaxnet.lecture.figures.training import draw_training

__all__ = [
    "BLUE",
    "GREEN",
    "GRAY",
    "ORANGE",
    "canvas",
    "check_picture",
    "draw_batch_sizes",
    "draw_codes",
    "draw_confusion",
    "draw_digits",
    "draw_lecture",
    "draw_multinomial",
    "draw_overfitting",
    "draw_predictions",
    "draw_sigmoid",
    "draw_training",
    "draw_weights",
]
