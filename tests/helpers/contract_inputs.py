"""Checks of the rows of docs/scikit-learn.md on images, labels and weights."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import datasets
import numpy as np
import pandas
import pyarrow
import pytest
import torch
from helpers.contract_rows import World, no, yes
from PIL import Image
from scipy import sparse
from sklearn.exceptions import DataConversionWarning

# ---- X -------------------------------------------------------------------------------------------

COLOUR = np.random.default_rng(1).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)


def agree(w: World, form: Any, reference: Any) -> None:
    """Fit and predict with a form of the images, as with a list of arrays."""
    fitted = w.make().fit(form() if callable(form) else form, w.labels)
    given = fitted.decision_function(form() if callable(form) else form)
    assert given == pytest.approx(w.fitted().decision_function(list(reference)), abs=1e-6)


def objects(values: list[Any]) -> np.ndarray:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def pictures() -> list[Image.Image]:
    return [Image.fromarray(image) for image in COLOUR]


DATASET = datasets.Dataset.from_dict({"image": pictures(), "label": list(range(12))})
IN_MEMORY: dict[str, Any] = {
    "array (n, H, W, 3)": COLOUR,
    "array (n, 3, H, W)": COLOUR.transpose(0, 3, 1, 2),
    "tensor (n, 3, H, W)": torch.from_numpy(COLOUR).permute(0, 3, 1, 2),
    "list of arrays": [np.asarray(image) for image in COLOUR],
    "list of PIL images": pictures(),
    "tuple of images": tuple(pictures()),
    "generator of images": lambda: iter(pictures()),
    "array of objects": objects(pictures()),
    "column of objects (n, 1)": objects(pictures())[:, None],
    "Series of images": pandas.Series(pictures(), index=range(5, 17)),
    "column of a datasets.Dataset": DATASET["image"],
    "datasets.Dataset": DATASET,
    "torch data set of (image, label)": torch.utils.data.TensorDataset(
        torch.from_numpy(COLOUR).permute(0, 3, 1, 2), torch.arange(12)
    ),
}
ON_DISK: dict[str, Callable[[list[str]], Any]] = {
    "list of paths": list,
    "array of texts": np.array,
    "Series of paths": lambda paths: pandas.Series(paths, index=range(5, 17)),
    "DataFrame of one column": lambda paths: pandas.DataFrame({"file": paths}),
}

for key, form in IN_MEMORY.items():

    @yes(key)
    def _(w: World, form: Any = form) -> None:
        agree(w, form, COLOUR)


for key, of_paths in ON_DISK.items():

    @yes(key)
    def _(w: World, of_paths: Callable[[list[str]], Any] = of_paths) -> None:
        agree(w, of_paths(w.files()), (w.images * 255).round().astype(np.uint8))


@yes("array (n, H, W)")
def _(w: World) -> None:
    agree(w, w.images, w.images)


REFUSED: dict[str, tuple[Any, str]] = {
    "table of numbers (n, m)": (np.zeros((12, 64)), "does not hold images"),
    "DataFrame of several columns": (
        pandas.DataFrame({"a": ["x"] * 12, "b": ["y"] * 12}),
        "several columns",
    ),
    "single image": (pictures()[0], "single image"),
    "array of StringDType": (
        np.array(["x.png"] * 12, dtype=np.dtypes.StringDType()),
        "does not hold images",
    ),
    "set of images": ({"x.png", "y.png"}, "no order"),
    "sparse array": (sparse.csr_array(np.eye(12)), "sparse"),
    "array with NaN or infinity": (np.full((12, 8, 8), np.nan), "NaN"),
    "masked array": (
        np.ma.masked_array(np.ones((12, 8, 8)), np.eye(8)[None].repeat(12, 0)),
        "mask",
    ),
    "array of complex numbers": (np.zeros((12, 8, 8), dtype=complex), "Complex"),
    "no image": ([], "no image"),
}
for key, (value, message) in REFUSED.items():

    @no(key)
    def _(w: World, value: Any = value, message: str = message) -> None:
        fitted = w.fitted()
        for method in (lambda: w.make().fit(value, w.labels), lambda: fitted.predict(value)):
            with pytest.raises(ValueError, match=message):
                method()


@no("array of pyarrow")
def _(w: World) -> None:
    with pytest.raises(ValueError, match=r"image 0 cannot be read.*pyarrow"):
        w.fitted().predict(pyarrow.array(["x.png"]))


# ---- y -------------------------------------------------------------------------------------------

TEXTS = ["b", "a", "c"] * 4
LABELS: dict[str, tuple[Any, list[Any]]] = {
    "list of numbers": ([5, -3, 7] * 4, [-3, 5, 7]),
    "list of texts": (TEXTS, ["a", "b", "c"]),
    "array of texts": (np.array(TEXTS), ["a", "b", "c"]),
    "texts of StringDType": (np.array(TEXTS, dtype=np.dtypes.StringDType()), ["a", "b", "c"]),
    "objects: texts": (np.array(TEXTS, dtype=object), ["a", "b", "c"]),
    "objects: whole numbers": (np.array([2, 1, 0] * 4, dtype=object), [0, 1, 2]),
    "truth values": ([True, False] * 6, [False, True]),
    "whole numbers as floats": (np.array([2.0, 1.0] * 6), [1.0, 2.0]),
    "Series": (pandas.Series(TEXTS, index=range(5, 17)), ["a", "b", "c"]),
    "Series of categories": (pandas.Series(TEXTS, dtype="category"), ["a", "b", "c"]),
    "Series of Int64": (pandas.Series([2, 1, 0] * 4, dtype="Int64"), [0, 1, 2]),
    "tensor of labels": (torch.arange(12) % 3, [0, 1, 2]),
    "column (n, 1)": (np.arange(12)[:, None] % 3, [0, 1, 2]),
}
for key, (labels, classes) in LABELS.items():

    @yes(f"y: {key}")
    def _(w: World, labels: Any = labels, classes: Any = classes) -> None:
        column = getattr(labels, "ndim", 1) == 2
        warned = pytest.warns(DataConversionWarning) if column else contextlib.nullcontext()
        with warned:
            fitted = w.make().fit(w.images, labels)
        assert fitted.classes_.tolist() == classes
        predicted = fitted.predict(w.images)
        assert set(predicted) <= set(classes) and predicted.dtype == fitted.classes_.dtype
        if not column:
            hits = [p == truth for p, truth in zip(predicted, list(labels), strict=True)]
            assert fitted.score(w.images, labels) == pytest.approx(np.mean(hits))


WRONG_LABELS: dict[str, tuple[Any, str]] = {
    "None": (None, "requires y"),
    "NaN, None or NA": ([0.0, 1.0, np.nan] * 4, "NaN"),
    "texts and numbers": ([1, "a", 2] * 4, "mixes texts and numbers"),
    "several labels per image (n, m)": (np.eye(12, dtype=int), r"given|shape: \(12, 12\)"),
    "continuous numbers": (np.linspace(0, 1, 12), "continuous"),
    "masked labels": (np.ma.masked_array(np.arange(12) % 3, np.arange(12) == 4), "masked"),
    "rows of different lengths": ([[1], [1, 2]] * 6, "different lengths"),
    "generator or set": ((i % 3 for i in range(12)), "wrong shape: 'generator'"),
    "one class": ([1] * 12, "only one class"),
    "another number than images": ([0, 1, 2], r"differ in number: \(12, 3\)"),
}
for key, (labels, message) in WRONG_LABELS.items():

    @no(f"y: {key}")
    def _(w: World, labels: Any = labels, message: str = message) -> None:
        with pytest.raises(ValueError, match=message):
            w.make().fit(w.images, labels)
        assert not w.calls  # refused before a model is loaded


@no("y: texts in score, numbers in fit")
def _(w: World) -> None:
    with pytest.raises(ValueError, match="another kind"):
        w.fitted().score(w.images, TEXTS)


@no("y: bytes")
def _(w: World) -> None:
    with pytest.raises(TypeError, match="bytes"):
        w.make().fit(w.images, [b"a", b"b", b"c"] * 4)


# ---- sample_weight -------------------------------------------------------------------------------

VALUES = [1, 0, 2, 1, 0, 1, 3, 1, 1, 0, 1, 2]
for key, weights in {
    "list": VALUES,
    "array": np.array(VALUES, dtype=np.float32),
    "Series": pandas.Series(VALUES, index=range(5, 17)),
    "whole numbers as repetitions": VALUES,
}.items():

    @yes(f"sample_weight: {key}")
    def _(w: World, weights: Any = weights) -> None:
        times = np.repeat(np.arange(12), VALUES)
        repeated = w.make(calibration_images=99).fit(w.images[times], w.labels[times])
        weighted = w.make(calibration_images=99).fit(w.images, w.labels, sample_weight=weights)
        assert weighted.temperature_ == pytest.approx(repeated.temperature_, rel=1e-6)
        score = weighted.score(w.images, w.labels, sample_weight=weights)
        assert score == pytest.approx(repeated.score(w.images[times], w.labels[times]))


for key, wrong, message in (
    ("negative, NaN or infinite", [-1.0] * 12, "out of range: -1.0"),
    ("all 0", [0] * 12, "zero for every image"),
    ("another shape than (n,)", np.ones((12, 1)), "wrong shape"),
):

    @no(f"sample_weight: {key}")
    def _(w: World, wrong: Any = wrong, message: str = message) -> None:
        fitted = w.fitted()
        for method in (w.make().fit, fitted.score):
            with pytest.raises(ValueError, match=message):
                method(w.images, w.labels, sample_weight=wrong)
