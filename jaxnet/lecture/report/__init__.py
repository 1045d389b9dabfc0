"""The lecture as one page of HTML that needs nothing else."""

from jaxnet.lecture.report.page import write_report

__all__ = ["write_report"]
