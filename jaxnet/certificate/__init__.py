"""Two runs held against each other: what was compared, within which bounds, and the verdict."""

from jaxnet.certificate.comparison import STAGES, Divergence, Stage
from jaxnet.certificate.verdict import Certificate

__all__ = ["STAGES", "Certificate", "Divergence", "Stage"]
