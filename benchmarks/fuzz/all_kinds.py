"""The kinds by their names."""

from __future__ import annotations

from benchmarks.fuzz import checkpoints, footers, options, parquet_files, run_files

KINDS = {
    module.KIND.name: module.KIND
    for module in (parquet_files, footers, run_files, checkpoints, options)
}
