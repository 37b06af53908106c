"""The page on scikit-learn's contract, walked: each row of its tables is done as it says."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn
from helpers import contract_inputs, contract_methods, contract_tools
from helpers.contract_rows import CHECKS, PAGE, Row, World, fields_of, rows
from helpers.image_estimator import OPTIONS, TableClassifier, use_analytic_model
from sklearn.exceptions import SkipTestWarning
from sklearn.utils import estimator_checks, get_tags
from sklearn.utils.discovery import all_estimators

from diffcls import DiffusionClassifier

assert contract_inputs and contract_methods and contract_tools  # they register the checks
ROWS = {row.key: row for row in rows()}
OWN_CHECKS = "scikit-learn's own checks"
PUBLIC_CHECKS = {key for key, row in ROWS.items() if row.section == OWN_CHECKS}
TABLE_VERSION = (1, 9)
"""The scikit-learn whose public checks the page lists."""
ON_ITSELF = {
    *("check_estimator", "check_estimator_cloneable", "check_estimator_repr"),
    *("check_estimator_tags_renamed", "check_valid_tag_types", "check_mixin_order"),
    *("check_no_attributes_set_in_init", "check_do_not_raise_errors_in_init_or_set_params"),
    *("check_parameters_default_constructible", "check_get_params_invariance", "check_set_params"),
}
FAILS = {
    "check_n_features_in": r"^$",
    "check_n_features_in_after_fitting": "n_features_in_",
    "check_classifiers_train": "number of features in predict is different",
    "check_estimators_empty_data_messages": r"0 feature\\\(s\\\)",
    "check_fit2d_predict1d": "Reshape your data",
}
"""Checks that scikit-learn yields for a classifier and that fail, with what they miss."""


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    return use_analytic_model(monkeypatch)


def version() -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", sklearn.__version__)[:2]))


def public_checks() -> set[str]:
    return {
        name
        for name, value in vars(estimator_checks).items()
        if name.startswith("check_")
        and getattr(value, "__module__", "") == estimator_checks.__name__
    }


@cache
def yielded() -> dict[str, list[Callable[[str, Any], None]]]:
    """scikit-learn's checks of a classifier whose images are rows of a table, by name."""
    found: dict[str, list[Callable[[str, Any], None]]] = {}
    for check in estimator_checks._yield_all_checks(TableClassifier(**OPTIONS), legacy=True):
        found.setdefault(estimator_checks._check_name(check), []).append(check)
    return found


# ---- the rows ------------------------------------------------------------------------------------


def test_every_line_of_the_tables_is_a_row_and_every_row_is_once_there() -> None:
    lines = [li for li in PAGE.read_text(encoding="utf-8").splitlines() if li.startswith("| `")]
    assert len(lines) == len(ROWS) > 200
    assert all(row.reason.strip() for row in ROWS.values())


def test_rows_and_checks_are_the_same() -> None:
    said = {key: row.verdict for key, row in ROWS.items() if key not in PUBLIC_CHECKS}
    assert said == {key: verdict for key, (verdict, _) in CHECKS.items()}


@pytest.mark.parametrize("key", CHECKS)
def test_a_row_is_as_it_says(key: str, calls: list[tuple[Any, ...]], tmp_path: Path) -> None:
    CHECKS[key][1](World(calls, tmp_path))


def test_a_wrong_row_would_fail(calls: list[tuple[Any, ...]], tmp_path: Path) -> None:
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        _refuses(World(calls, tmp_path))


def _refuses(w: World) -> None:
    with pytest.raises(ValueError):
        w.make().fit(w.images, w.labels)


# ---- what scikit-learn has -----------------------------------------------------------------------


@cache
def common(of: str, least: int) -> set[str]:
    """Public names, or arguments, of at least so many of scikit-learn's classifiers."""
    counts: Counter[str] = Counter()
    for _, kind in all_estimators(type_filter="classifier"):
        if of == "names":
            counts.update(name for name in dir(kind) if not name.startswith("_"))
        else:
            counts.update(list(inspect.signature(kind).parameters))
    return {name for name, count in counts.items() if count >= least}


def test_what_scikit_learns_classifiers_have_has_a_row() -> None:
    names = {re.sub(r"\(.*", "", key) for key in ROWS}
    assert common("names", 5) >= {"fit", "predict_log_proba", "partial_fit", "set_score_request"}
    assert common("names", 5) <= names


def test_arguments_of_scikit_learns_classifiers_have_a_row() -> None:
    arguments = {key[:-1] for key, row in ROWS.items() if key.endswith("=")}
    assert common("arguments", 10) >= {"random_state", "class_weight"}
    assert common("arguments", 10) <= arguments


def test_what_the_estimator_has_has_a_row(calls: list[tuple[Any, ...]], tmp_path: Path) -> None:
    names = {re.sub(r"\(.*", "", key) for key, row in ROWS.items() if row.verdict == "yes"}
    parameters = set(inspect.signature(DiffusionClassifier).parameters)
    fitted = World(calls, tmp_path).fitted()
    assert {name for name in dir(fitted) if not name.startswith("_")} - parameters <= names
    assert {f"{name}=" for name in parameters} <= set(ROWS)


def test_tags_have_a_row() -> None:
    tags = {key for key, row in ROWS.items() if row.section == "Tags"}
    assert tags == set(fields_of(get_tags(DiffusionClassifier())))


# ---- scikit-learn's own checks -------------------------------------------------------------------


def test_the_page_lists_the_installed_public_checks() -> None:
    assert public_checks() - PUBLIC_CHECKS == set(), "new in scikit-learn: give each a row"
    if version() >= TABLE_VERSION:
        assert PUBLIC_CHECKS - public_checks() == set(), "gone from scikit-learn"
    assert set(yielded()) <= PUBLIC_CHECKS


@pytest.mark.parametrize(
    "row", [ROWS[key] for key in sorted(PUBLIC_CHECKS)], ids=lambda row: row.key
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_a_check_of_scikit_learn_passes_or_fails_as_the_page_says(
    row: Row, calls: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    if row.key not in public_checks():
        pytest.skip(f"not in scikit-learn {sklearn.__version__}")
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")  # or a check skips itself
    if row.key in ON_ITSELF:
        assert row.verdict == "yes"
        check = getattr(estimator_checks, row.key)
        given = () if row.key == "check_estimator" else ("DiffusionClassifier",)
        check(*given, DiffusionClassifier(**OPTIONS))
    elif row.key in FAILS:
        assert row.verdict == "no"
        for check in yielded()[row.key]:
            with pytest.raises(AssertionError, match=FAILS[row.key]):
                check("TableClassifier", TableClassifier(**OPTIONS))
    elif version() < TABLE_VERSION and row.verdict == "yes" and row.key not in yielded():
        pytest.skip(f"not for classifiers in scikit-learn {sklearn.__version__}")
    else:
        assert (row.key in yielded()) == (row.verdict == "yes")
        for check in yielded().get(row.key, []):
            # with the fit of a temperature, which reads images and weights
            check("TableClassifier", TableClassifier(**OPTIONS, calibration_images=1000))


class OfOneSize(TableClassifier):
    """An estimator that takes no images of another size than those of ``fit``."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> OfOneSize:
        self.columns_ = np.shape(X)[1]
        super().fit(X, y, sample_weight)
        return self

    def _scores(self, X: Any) -> np.ndarray:
        if np.shape(X)[1] != self.columns_:
            raise ValueError("images of another size")
        return super()._scores(X)


def test_the_check_of_classifiers_holds_but_for_images_of_another_size(
    calls: list[tuple[Any, ...]],
) -> None:
    for check in yielded()["check_classifiers_train"]:
        check("OfOneSize", OfOneSize(**OPTIONS))


def test_the_tags_exclude_the_checks_of_tables() -> None:
    with pytest.warns(SkipTestWarning, match="three_d_array=True"):
        assert list(estimator_checks._yield_all_checks(DiffusionClassifier(), legacy=True)) == []
