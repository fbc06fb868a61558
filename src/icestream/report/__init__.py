"""The report of a session, and its exports."""

from icestream.report.html import write_report
from icestream.report.reading import read_results
from icestream.report.results import SessionResults
from icestream.report.star import export_star

__all__ = ["SessionResults", "export_star", "read_results", "write_report"]
