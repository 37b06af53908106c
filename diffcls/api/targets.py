"""Labels of a scikit-learn target ``y``, and the names of its classes for the prompts."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import DataConversionWarning
from sklearn.utils.multiclass import check_classification_targets

from diffcls.support.errors import DataError


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
    labels = np.asarray(y)
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
            given=labels.shape,
            allowed="(n,), a label per image",
            todo="give one label per image: an image of several labels is not supported",
        )
    if labels.dtype.kind == "T":  # NumPy's texts of any length, which scikit-learn does not read
        labels = labels.astype(object)
    _check_values(labels)
    check_classification_targets(labels)
    return labels


def check_same_number(images: Sequence[Any], labels: NDArray[Any]) -> None:
    """Raise DataError for images and labels that differ in number."""
    if len(images) != len(labels):
        raise DataError("images and labels differ in number", given=(len(images), len(labels)))


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
        return [str(label) for label in labels]
    if isinstance(class_names, Mapping):
        nameless = [label for label in labels if label not in class_names]
        if nameless:
            raise DataError(
                "class_names has no name for a label", given=nameless[0], allowed=class_names
            )
        return [class_names[label] for label in labels]
    names = class_names if isinstance(class_names, str) else list(class_names)
    if isinstance(names, str) or len(names) != len(labels):
        raise DataError(
            "class_names do not match the labels",
            given=names,
            allowed=f"{len(labels)} names, in the order of {labels}, or a name for each label, "
            f"as {{{labels[0]!r}: 'name', …}}",
        )
    return names


def _check_values(labels: NDArray[Any]) -> None:
    """Refuse labels that are missing or not finite, and mixtures that have no order."""
    if labels.dtype.kind == "f":
        wrong = ~np.isfinite(labels)
    elif labels.dtype.kind == "O":
        wrong = np.array([_is_missing(label) for label in labels], dtype=bool)
    else:
        return
    if wrong.any():
        at = int(wrong.argmax())
        raise DataError(
            "Input y contains NaN, infinity or no label"
            if labels.dtype.kind == "f"
            else "Input y contains NaN or no label",
            given=f"{labels[at]} at {at}",
            todo="leave such images out",
        )
    kinds = {"text" if isinstance(label, str) else "number" for label in labels}
    if labels.dtype.kind == "O" and len(kinds) > 1:
        raise DataError("y mixes texts and numbers", given=labels[:5].tolist(), todo="give texts")


def _is_missing(label: Any) -> bool:
    if label is None or type(label).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(label, float | np.floating) and not np.isfinite(label)
