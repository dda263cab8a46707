"""A run, or several, as one page that opens from disk in any browser."""

from ddpp_jax.report.build import REPORT, is_comparison, write_comparison, write_report
from ddpp_jax.report.words import row_names

__all__ = ["REPORT", "is_comparison", "row_names", "write_comparison", "write_report"]
