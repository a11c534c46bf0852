"""``restyle compare``: several runs over the same images, in numbers and on a page."""

from pipeline.report.comparison.core import Comparison, compare
from pipeline.report.comparison.page import write
from pipeline.report.comparison.text import table

__all__ = ["Comparison", "compare", "table", "write"]
