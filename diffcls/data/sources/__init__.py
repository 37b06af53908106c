"""Sources of images: scikit-learn's digits, folders, parquet files, the Hugging Face Hub."""

from __future__ import annotations
