"""Every picture, drawn without a screen and written as PNG."""

from jaxnet.lecture.figures.digits import draw_digits
from jaxnet.lecture.figures.gallery import draw_lecture

__all__ = ["draw_digits", "draw_lecture"]
