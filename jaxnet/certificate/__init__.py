"""Two runs compared with each other: what was compared, within which bounds, and the verdict."""

from jaxnet.certificate import bounds
from jaxnet.certificate.causes import STAGES, Divergence, kernel_causes
from jaxnet.certificate.comparison import Stage
from jaxnet.certificate.report import headline
from jaxnet.certificate.verdict import Certificate, Timing

__all__ = [
    "STAGES",
    "Certificate",
    "Divergence",
    "Stage",
    "Timing",
    "bounds",
    "headline",
    "kernel_causes",
]
