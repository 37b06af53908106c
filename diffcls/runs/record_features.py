"""The columns of records for Hugging Face datasets, ``load_dataset("json", features=…)``."""

from __future__ import annotations

from typing import Any


def record_features() -> Any:
    """The features of records, a ``datasets.Features``.

    Without them the library derives each column's type from the first file that it reads: a file
    without a failed image makes ``error`` a column of nothing, and the message in another shard
    does not fit it.
    """
    from datasets import Features, List, Value

    return Features(
        {
            "fingerprint": Value("string"),
            "image_id": Value("string"),
            "label": Value("int64"),
            "ranking": List(Value("int64")),
            "scores": List(Value("float64")),
            "evaluations": Value("int64"),
            "seconds": Value("float64"),
            "error": Value("string"),
            "checksum": Value("string"),
        }
    )
