"""Samples with ids: tables, arrays and files behind one interface, `Source`."""

from .open import open_source, reopen
from .scan import Scan, merge, scan_shard
from .source import Batch, Rendered, Source
from .spill import spill
from .table import TableSource

__all__ = [
    "Batch",
    "Rendered",
    "Scan",
    "Source",
    "TableSource",
    "merge",
    "open_source",
    "reopen",
    "scan_shard",
    "spill",
]
