"""Reports: one page that holds all it shows, for each run, and for many runs side by side."""

from partial_equiv.runs.report.comparison import write_comparison
from partial_equiv.runs.report.record import run_folders, write_typed
from partial_equiv.runs.report.single import write_report

__all__ = ["run_folders", "write_comparison", "write_report", "write_typed"]
