"""``restyle compare``: several runs over the same images, in numbers and on a page."""

from pipeline.comparison.core import Comparison, compare
from pipeline.comparison.page import write
from pipeline.comparison.text import table

__all__ = ["Comparison", "compare", "table", "write"]
