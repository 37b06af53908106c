"""Images, labels and class names from the ``X`` and ``y`` of scikit-learn."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import DataConversionWarning
from sklearn.utils.multiclass import check_classification_targets

from diffcls.api.inputs import as_list
from diffcls.support.errors import DataError

SHOWN_LABELS = 8
"""Labels that a message shows."""


def table_images(X: Any) -> list[Any]:
    """The images of ``X``, as `as_list`.

    Raises:
        DataError: for an array that is sparse, masked, complex or not finite, and as in `as_list`.
    """
    if hasattr(X, "tocsr"):
        raise DataError(
            "sparse input is not supported",
            given=_shape(X),
            allowed="images in a dense array (n, H, W), or a list of images",
        )
    if np.ma.is_masked(X):
        raise DataError("masked pixels are not supported", given=_shape(X), todo="give X.filled(…)")
    if isinstance(X, np.ndarray) and X.dtype.kind == "c":
        raise DataError(
            "Complex data not supported", given=X.dtype.name, allowed="integers or floats"
        )
    if isinstance(X, np.ndarray) and X.dtype.kind == "f" and not np.isfinite(X).all():
        at = [int(i) for i in np.argwhere(~np.isfinite(X))[0]]
        raise DataError(
            "Input X contains NaN or infinity", given=float(X[tuple(at)]), todo=f"see X{at}"
        )
    return as_list(X)


def target_labels(y: Any) -> NDArray[Any]:
    """The labels of a target as an array (n,).

    Args:
        y: (n,) numbers or texts, as a list, array, tensor or series; or a column (n, 1), such as a
            table of one column, with scikit-learn's warning.

    Raises:
        DataError: without a target, for another shape, or a label that is missing. It is a
            ValueError.
        ValueError: scikit-learn's own, for targets of a regression.
    """
    if y is None:
        raise DataError("fit and score requires y to be passed, but the target y is None")
    if np.ma.is_masked(y):
        raise DataError("y has masked labels", given=_shape(y), todo="leave such images out")
    try:
        labels = np.asarray(y)
    except ValueError:
        raise DataError("y has rows of different lengths", allowed="a label per image") from None
    if isinstance(y, list | tuple) and labels.dtype.kind == "U" and not all(map(_is_text, y)):
        labels = np.asarray(y, dtype=object)  # numbers among texts had become texts
    if labels.ndim == 2 and labels.shape[1] == 1:
        warnings.warn(
            "A column-vector y was passed when a 1d array was expected: give y.ravel()",
            DataConversionWarning,
            stacklevel=3,
        )
        labels = labels.ravel()
    if labels.ndim != 1:
        raise DataError(
            "y has a wrong shape",
            given=labels.shape or type(y).__name__,
            allowed="(n,), a label per image",
            todo="give one label per image: an image of several labels is not supported",
        )
    if labels.dtype.kind == "T":  # NumPy's texts of any length, which scikit-learn does not read
        labels = labels.astype(object)
    labels = _of_one_kind(labels)
    check_classification_targets(labels)
    return labels


def check_same_number(images: Sequence[Any], labels: NDArray[Any]) -> None:
    """Raise DataError for images and labels that differ in number."""
    if len(images) != len(labels):
        raise DataError("images and labels differ in number", given=(len(images), len(labels)))


def check_same_kind(labels: NDArray[Any], classes: NDArray[Any]) -> None:
    """Raise DataError for labels that are texts where the classes are numbers, or the reverse."""
    if _is_text(labels[0]) != _is_text(classes[0]):
        raise DataError(
            "y is of another kind than the labels of fit",
            given=labels[:SHOWN_LABELS].tolist(),
            allowed=classes[:SHOWN_LABELS].tolist(),
        )


def names_of(classes: NDArray[Any], class_names: Iterable[str] | Mapping[Any, str] | None) -> Any:
    """The (K,) names of the classes, in their order.

    Args:
        classes: (K,) sorted labels.
        class_names: their names, in the same order; or a name for each label, in which labels
            may be missing from `classes`; None: the labels as text.

    Raises:
        DataError: for another number of names, or a label without a name.
    """
    labels = classes.tolist()
    if class_names is None:
        # labels that are whole numbers are often stored as floats
        return [str(int(label) if isinstance(label, float) else label) for label in labels]
    if isinstance(class_names, Mapping):
        nameless = [label for label in labels if label not in class_names]
        if nameless:
            raise DataError(
                "class_names has no name for a label", given=nameless[0], allowed=class_names
            )
        return [class_names[label] for label in labels]
    ordered = isinstance(class_names, Iterable) and not isinstance(class_names, str | Set)
    names = list(class_names) if ordered else [class_names]
    if not ordered or len(names) != len(labels):
        some = labels[:SHOWN_LABELS]
        raise DataError(
            "class_names do not match the labels",
            given=names if ordered else class_names,
            allowed=f"{len(labels)} names, in the order of {some}, or a dictionary by label",
        )
    return names


def _of_one_kind(labels: NDArray[Any]) -> NDArray[Any]:
    """Labels in an array of texts or of numbers; those missing, and mixtures, are refused."""
    if labels.dtype.kind not in "fO":
        return labels
    missing = np.array([_is_missing(label) for label in labels], dtype=bool)
    if missing.any():
        at = int(missing.argmax())
        raise DataError(
            "Input y contains NaN, infinity or no label",
            given=f"{labels[at]} for image {at}",
            todo="leave such images out",
        )
    texts = sum(map(_is_text, labels))
    if 0 < texts < len(labels):
        some = labels[:SHOWN_LABELS].tolist()
        raise DataError("y mixes texts and numbers", given=some, todo="give texts")
    # scikit-learn reads no numbers in an array of objects
    return labels if texts or labels.dtype.kind == "f" else np.asarray(labels.tolist())


def _shape(array: Any) -> str:
    return f"{type(array).__name__} of shape {array.shape}"


def _is_text(label: Any) -> bool:
    return isinstance(label, str)


def _is_missing(label: Any) -> bool:
    if label is None or type(label).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(label, float | np.floating) and not np.isfinite(label)
