"""What --search learned, and what other searches, refuse."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.learned_runs import (
    CLASSES,
    analytic_model,
    built,
    first,
    fits,
    no_fit,
    options,
    refused,
)

import diffcls
from diffcls.classifiers.search_options import most_evaluations
from diffcls.support.errors import UsageError

__all__ = ["analytic_model", "first", "fits", "no_fit", "refused"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--fit-images 49", "fit-images out of range: 49; allowed: 50 to"),
        ("--fit-classes 9", "fit-classes out of range: 9; allowed: 10 to"),
        ("--reject", "--search learned and --reject exclude each other"),
        ("--class-bias 100", "--search learned and --class-bias exclude each other"),
        ("--combine clip", "--search learned and --combine exclude each other"),
        ("--budget 1h", "--search learned and --budget exclude each other"),
        ("--split train", "fitted on images of the training split: '--split train'"),
    ],
)
def test_what_a_fitted_search_cannot_do_is_refused(
    refused: Callable[..., str], flags: str, message: str
) -> None:
    assert message in refused(*flags.split())


@pytest.mark.parametrize("flag", ["--fit-images", "--fit-classes"])
@pytest.mark.parametrize("search", ["racing", "gradient"])
def test_size_of_a_fit_with_another_search_is_refused(
    refused: Callable[..., str], flag: str, search: str
) -> None:
    message = refused(flag, "50", search=search)
    assert flag[2:] in message.replace("_", "-") and search in message


@pytest.mark.parametrize("flag", ["--fit", "--fit-folder"])
def test_file_of_a_fit_with_another_search_is_refused(
    refused: Callable[..., str], flag: str, tmp_path: Path
) -> None:
    message = refused(flag, tmp_path, search="racing")
    assert flag[2:] in message and "learned" in message


def test_a_python_call_has_no_images_to_fit_on() -> None:
    with pytest.raises(UsageError, match=r"learned.*unlabelled images.*search='gradient'"):
        diffcls.ZeroShotImageClassifier.from_pretrained("digits", search="learned")


def test_bound_of_the_cost_is_that_of_the_search(fits: Path, no_fit: None) -> None:
    one, _ = built(options(fits))
    assert most_evaluations(one.method.search, one.prompts) == 2 * 3 + CLASSES + 3 * 8  # type: ignore[attr-defined]
