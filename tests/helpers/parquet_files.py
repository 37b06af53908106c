"""Parquet files in the Hub's format, with gray images, for tests of data sets."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from diffcls.data.dataset import Dataset

NAMES = ("cat", "dog", "emu")


def png(gray: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (4, 4), gray).save(file, "PNG")
    return file.getvalue()


def gray(item: Any) -> int:
    return int(np.asarray(item.open())[0, 0, 0])


def table(
    grays: Sequence[int],
    labels: Sequence[Any] | None = None,
    names: Sequence[str] | None = NAMES,
    paths: Sequence[str] | None = None,
    columns: tuple[str, str] = ("image", "label"),
) -> pa.Table:
    """Rows as written by ``datasets.Dataset.to_parquet``; labels are grays modulo 3."""
    image, label = columns
    labels = [g % 3 for g in grays] if labels is None else labels
    images = [
        {"bytes": png(g), "path": p}
        for g, p in zip(grays, paths or [None] * len(grays), strict=True)
    ]
    features: dict[str, Any] = {image: {"_type": "Image"}}
    if names is not None:
        features[label] = {"names": list(names), "_type": "ClassLabel"}
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = pa.table({image: pa.array(images, kind), label: labels})
    stored = json.dumps({"info": {"features": features}})
    return rows.replace_schema_metadata({b"huggingface": stored.encode()})


def write(path: Path, rows: pa.Table, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, path, **options)
    return path


def grays(dataset: Dataset) -> list[int]:
    return [gray(item) for item in dataset.items]


def labels(dataset: Dataset) -> list[int]:
    return [item.label for item in dataset.items]
