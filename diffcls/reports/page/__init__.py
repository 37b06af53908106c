"""Report of runs as one HTML page: figures from the records, plots, galleries, tables."""

from __future__ import annotations
