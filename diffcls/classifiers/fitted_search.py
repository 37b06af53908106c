"""Searches that are fitted on unlabelled images before the first image is scored."""

from __future__ import annotations

from diffcls.classifiers.options import ClassifierOptions
from diffcls.classifiers.search_options import search_name
from diffcls.support.errors import UsageError
from diffcls.support.registry import Registry

SEARCH_FITS = Registry(
    "fitted search", {"learned": "diffcls.classifiers.learned_screen:with_learned_screen"}
)
"""Name -> (built, options, search) -> the classifier with the fit of its search."""


def check_fitted_search(options: ClassifierOptions) -> None:
    """Refuse what a fitted search cannot be combined with.

    Raises:
        UsageError: for a second fit, a time budget, or images of the fit that are scored.
    """
    name = search_name(options)
    if name not in SEARCH_FITS:
        return
    for flag, given, reason in (
        ("--reject", options.reject or None, "it has a calibration of its own"),
        ("--multi-label", options.multi_label or None, "each label is decided by itself there"),
        ("--class-bias", options.class_bias, "it has a fit of its own"),
        ("--combine", options.combine, "it has a fit of its own"),
        ("--budget", getattr(options, "budget", None), "the time of the fit is not known to it"),
    ):
        if given is not None:
            raise UsageError(
                f"--search {name} and {flag} exclude each other: {reason}",
                given=given,
                todo="remove one",
            )
    if options.split == "train" and options.fit_folder is None:
        raise UsageError(
            f"--search {name} is fitted on images of the training split",
            given="--split train",
            todo="evaluate another split, or name other images with --fit-folder",
        )
