"""Sources of data sets: the bundled digits, folders, parquet files, the Hub."""

from __future__ import annotations
