"""Options of class priors, ``--class-bias`` and ``--combine``: which combinations are refused."""

from __future__ import annotations

from diffcls.classifiers.options import ClassifierOptions
from diffcls.data.catalog import DatasetSpec
from diffcls.support.errors import UsageError, unknown_name

UNLABELLED_SPLIT, LABELLED_SPLIT = "train", "validation"
COMBINATIONS = ("clip",)


def check_class_prior(options: ClassifierOptions, spec: DatasetSpec) -> None:
    """Refuse options that a class prior cannot be combined with.

    Raises:
        UsageError: for the first of them, or a data set without the images of the fit.
    """
    if options.combine is not None and options.combine not in COMBINATIONS:
        raise unknown_name("--combine", options.combine, COMBINATIONS)
    for flag, given, split in (
        ("--class-bias", options.class_bias, UNLABELLED_SPLIT),
        ("--combine", options.combine, LABELLED_SPLIT),
    ):
        if given is not None:
            _check(flag, split, options, spec)
    if options.class_bias is not None and options.combine is not None:
        raise UsageError("--class-bias and --combine exclude each other", todo="remove one")
    if options.combine is not None:
        from diffcls.models.clip import check_name

        check_name(options.clip_model or spec.clip)


def _check(flag: str, split: str, options: ClassifierOptions, spec: DatasetSpec) -> None:
    if options.split == split or (spec.splits and split not in spec.splits):
        given = f"--split {split}" if options.split == split else f"{spec.name} has no such split"
        raise UsageError(
            f"{flag} is fitted on other images, of split {split}",
            given=given,
            todo="evaluate another split" if options.split == split else f"remove {flag}",
        )
    for other, value, reason in (
        ("--reject", options.reject or None, "none of these has a calibration of its own"),
        ("--multi-label", options.multi_label or None, "each label is decided by itself there"),
        ("--budget", getattr(options, "budget", None), "the time of the fit is not fitted"),
        ("--save-errors", options.save_errors, "the tables would hold no prior"),
        ("--vote", None if options.vote == "mean" else options.vote, "votes have no likelihood"),
        (
            "--aggregate",
            options.aggregate if options.aggregate == "prompts" else None,
            "the prior is of classes",
        ),
    ):
        if value is not None:
            raise UsageError(
                f"{flag} and {other} exclude each other: {reason}", given=value, todo="remove one"
            )
